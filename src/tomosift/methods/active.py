"""Active learning (HAL): query the labels of a few particles, round by round, and train on these alone.

``data.labeled`` stands in for the annotator: the label of a particle is read at its query, and not before. On the
page of `tomosift label` a person annotates; here the labels exist already, to measure how few would have sufficed.

Source: Du et al. 2021, "Active learning to classify macromolecular structures in situ for less supervision in
cryo-electron tomography", Bioinformatics 37:2340 (HAL), and its code; `tomosift.learning.query_strategies` has the
strategies and their deviations. Deviations here: queries are chosen by a probe on frozen embeddings, refitted in every
round, instead of a network trained anew; the first queries are typical particles, not random ones; no fifth of the
labels is held out (the classifier is calibrated out-of-fold), so all of the budget is trained on. Default values are
ours.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomosift import methods
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import Classifier
from tomosift.inference.model_files import GENERAL, start_embedder
from tomosift.inference.prediction import embed
from tomosift.learning.query_rounds import QueryRounds, query_in_rounds
from tomosift.models.label_discriminator import unlabeled_probability
from tomosift.progress import Progress
from tomosift.train.loop import Training
from tomosift.train.run import Run

INPUT = methods.TrainingInput("set", "Folder of a set with classes, which answer the queries.")
USES_LABELS = True
SHARES_BATCHES = True

RENAMED = {"labels": "total_labels"}
"""Fields of the configuration that had other names in earlier versions."""

QUERIES = "queries.json"
"""File of a run that lists the particles of all queries, in order."""


@dataclass(frozen=True)
class Config:
    """Settings of active learning."""

    init: Path | None = GENERAL
    """Run or shipped model to start from; none starts from random weights."""
    encoder: str = "radial"
    """Encoder with random weights, where no model is given."""
    rounds: QueryRounds = field(default_factory=QueryRounds)
    """Strategy and size of the rounds of queries."""
    total_labels: int = 200
    """Label budget: the number of queries of all rounds together."""
    training: Training = field(default_factory=lambda: Training(steps=200, batch_size=32))
    """Number of steps and learning rate of the classifier in the end."""


def train(config: Config, data: TrainingSets, run: Run, seed: int, progress: Progress | None = None) -> Classifier:
    """Train a classifier on as many labels of ``data.labeled`` as the budget allows.

    Raises
    ------
    ValueError
        When the budget is below two labels, or the labels of all queries name fewer than two classes.
    """
    if config.total_labels < 2:
        raise ValueError(f"total_labels is {config.total_labels}, expected 2 or more")
    pool = data.labeled
    embedding = embed(start_embedder(config.init, config.encoder, pool, data.voxel_spacing_angstrom), pool)

    def annotate(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        run.log(event="query", particles=len(rows))
        return np.asarray(pool.label[rows])

    order = query_in_rounds(
        embedding, annotate, len(data.class_names), config.rounds, config.total_labels, seed, unlabeled_probability
    )
    queries = [str(name) for name in pool.particles.particle_id[order]]
    run.write(QUERIES, queries)
    run.write(methods.LABELED_PARTICLES, sorted(queries))  # evaluation may use the others
    supervised = methods.load_method("supervised").Config(
        init=config.init, encoder=config.encoder, training=config.training
    )
    labeled = TrainingSets(pool.select(np.sort(order)), data.unlabeled, data.validation)
    return methods.train("supervised", supervised, labeled, run.folder / "classifier", seed, progress)

"""Active learning (HAL): ask for the labels of a few particles, round by round, and learn from those alone.

``data.labeled`` answers: a particle's label is looked at when it is asked for, and not before. A person answers on the
page of `tomosift label`; here the answers are there already, to see how few would have done.

Source: Du et al. 2021, "Active learning to classify macromolecular structures in situ for less supervision in
cryo-electron tomography", Bioinformatics 37:2340 (HAL), and its code; see `tomosift.learning.query_strategies` for the strategies and
their deviations. Deviations here: particles are asked for by a probe on frozen embeddings, refitted in every round,
instead of a network trained anew; the first labels are of typical particles, not of any; a fifth of the labels is not
set aside (the classifier in the end calibrates by folds), so all of the budget teaches. Default values are ours.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tomosift import methods
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import GENERAL, Classifier, starting_encoder
from tomosift.inference.prediction import embed
from tomosift.learning.query_strategies import QueryRounds, query_in_rounds
from tomosift.models.encoder import BOXES_TO_PREPARE
from tomosift.models.label_discriminator import unlabeled_probability
from tomosift.train.loop import Progress, Training
from tomosift.train.run import Run

USES_LABELS = True
SHARES_BATCHES = True

ASKED = "asked.json"
"""File of a run that names the particles whose labels were looked at, in the order in which they were asked for."""


@dataclass(frozen=True)
class Config:
    """Settings of active learning."""

    init: Path | None = GENERAL
    """Run or shipped model to start from; none for random weights."""
    encoder: str = "radial"
    """Encoder of random weights, where no model is named."""
    rounds: QueryRounds = field(default_factory=QueryRounds)
    """What is asked for when."""
    labels: int = 200
    """Labels in all."""
    training: Training = field(default_factory=lambda: Training(steps=200, batch_size=32))
    """Of the classifier in the end."""


def train(config: Config, data: TrainingSets, run: Run, seed: int, progress: Progress | None = None) -> Classifier:
    """A classifier that has learned from as many labels of ``data.labeled`` as the budget allows.

    Raises
    ------
    ValueError
        When the budget is below two labels, or the labels that were asked for name fewer than two classes.
    """
    if config.labels < 2:
        raise ValueError(f"labels is {config.labels}, expected 2 or more")
    pool = data.labeled
    plain = torch.from_numpy(pool.volumes(pool.spaced_rows(BOXES_TO_PREPARE)))
    _, encoder = starting_encoder(config.init, config.encoder, plain, data.voxel_spacing_angstrom)
    embedding = embed(encoder.eval(), pool.volumes, len(pool))

    def answer(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        run.log(event="asked", particles=len(rows))
        return np.asarray(pool.label[rows])

    order = query_in_rounds(
        embedding, answer, len(data.class_names), config.rounds, config.labels, seed, unlabeled_probability
    )
    asked = [str(name) for name in pool.particles.particle_id[order]]
    run.write(ASKED, asked)
    run.write(methods.SEEN, sorted(asked))  # the others may be evaluated on
    teacher = methods.method("supervised").Config(init=config.init, encoder=config.encoder, training=config.training)
    shown = TrainingSets(pool.select(np.sort(order)), data.unlabeled, data.validation)
    return methods.train("supervised", teacher, shown, run.folder / "classifier", seed, progress)

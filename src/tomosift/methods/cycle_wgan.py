"""A generator from density maps to realistic subtomograms, and a classifier trained on its output (CryoETGAN).

Two generators, maps to measured subtomograms and back, and a critic of each kind, which separates generated from real
ones. A map must be recovered from its generated subtomogram, which has the class of its map; whether it really shows
the map is measured in the end. Nothing is paired and no label of the target is used.

Source: Wu et al. 2022, "CryoETGAN: cryo-electron tomography image synthesis via unpaired image translation", Front.
Physiol. 13:760404, and its code. Deviations: a true Wasserstein loss with a gradient penalty for each subtomogram is
the default, the least-squares one of the released code an option; two steps of the critics for one of the generators
(there one); maps are posed anew at every step; each subtomogram is normalized (there all together); the missing wedge
of the target is taken from its mean spectrum, not learned; the cycle loss of measured subtomograms applies below a
cutoff, since their noise cannot come back; moving averages of the weights are kept; some target subtomograms are held
out, and those that reach beyond their tomogram are left out. All default values are ours.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from tomosift.data.batches import PairedStream, PrefetchStream, UniformStream
from tomosift.data.splits import split_target
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.heads import LinearHead
from tomosift.inference.model_files import GENERAL, start_embedder
from tomosift.inference.prediction import embed, embed_volumes
from tomosift.learning.linear_probe import FEW_LABELS_REGULARIZATION
from tomosift.methods import TrainingInput
from tomosift.models.embedder import Embedder
from tomosift.models.generator_files import GeneratorCard, TrainedGenerator, save_generator
from tomosift.models.generators import GeneratorConfig
from tomosift.models.recentering import SUBTOMOGRAMS_TO_FIT
from tomosift.objectives.cycle_wgan import CycleGanObjective, CycleGanSettings
from tomosift.progress import Progress
from tomosift.simulation.style_transfer import describe_maps, measure_faithfulness
from tomosift.simulation.subtomograms import SubtomogramSetConfig
from tomosift.simulation.synthetic_stream import StructureStream
from tomosift.train.loop import Training, fit
from tomosift.train.run import Run

INPUT = TrainingInput("domains", "Folder of the set to imitate; labels in it are not used.")
USES_LABELS = False
SHARES_BATCHES = False
RENAMED = {"shape": "generator", "translator_rate": "generator_rate", "adversary": "adversarial_loss"}
RENAMED |= {"average": "ema_decay", "least_faithful": "min_faithfulness"}

_MIN_TARGET = 20  # subtomograms
_EXAMPLES_PER_CLASS = 60  # generated subtomograms that the classifier is fitted to
_HELD_OUT_SEED_OFFSET = 2_000_003  # for maps that are not trained on
_INITIAL_MAPS, _INITIAL_TARGET = 64, 512  # subtomograms whose mean spectra a generator starts from
_MAX_SIMILARITY_TARGET = 1000  # target subtomograms to which the similarity is fitted


@dataclass(frozen=True)
class Config(CycleGanSettings):
    """Settings of the generator from maps to measured subtomograms."""

    structures: tuple[str, ...] = ()
    """Names of the atlas, or structure or map files; their names become the classes."""
    init: Path | None = GENERAL
    """Run or shipped model whose encoder embeds generated subtomograms for the classifier; none for random weights."""
    encoder: str = "radial"
    """Encoder with random weights, where no model is given."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    """Shape of both generators."""
    signal_share: float = 0.1
    """Share of the power of generated subtomograms that is of their map before training; for direct generators."""
    generator_rate: float = 1.0
    """Learning rate of the generators, as a share of that of the critics."""
    min_faithfulness: float = 0.5
    """Stop the run where a smaller share of generated subtomograms, corrected for chance, shows its own class best."""
    training: Training = field(default_factory=lambda: Training(900, 8, learning_rate=2e-4, weight_decay=0.0))
    """Steps of critics and generators together, and learning rate; the batch size counts subtomograms of each kind."""


def train(config: Config, data: TrainingSets, run: Run, seed: int, progress: Progress | None = None) -> Classifier:
    """Train a generator of subtomograms like ``data.unlabeled`` from maps, and a classifier on its output.

    The generator is saved in the folder of the run (see `tomosift.models.generator_files`). Labels are not used.

    Raises
    ------
    ValueError
        When there are too few target subtomograms or structures, when the model to start from has another voxel
        spacing, or when generated subtomograms do not show their class in the end.
    """
    if len(config.structures) < 2:
        raise ValueError(f"structures name {len(config.structures)} classes, expected 2 or more to generate from")
    target, held_out = split_target(data.unlabeled)
    if (count := len(target) + len(held_out)) < _MIN_TARGET:
        raise ValueError(
            f"the target set has {count} subtomograms that lie within their tomograms, expected at least {_MIN_TARGET}"
        )
    # Before the long part, so that a model of another voxel spacing is refused.
    initial = target.select(target.spaced_rows(_INITIAL_TARGET))
    fitted = initial.select(np.arange(len(initial))[:SUBTOMOGRAMS_TO_FIT])
    embedder = start_embedder(config.init, config.encoder, fitted, data.voxel_spacing_angstrom)
    maps, size = describe_maps(config.structures, data.unlabeled, seed), config.training.batch_size
    objective = CycleGanObjective(config.generator, data.box_size, config)
    measured = torch.from_numpy(initial.volumes(range(len(initial))))
    objective.initialize(measured, StructureStream(maps, _INITIAL_MAPS).batch(0).volume, config.signal_share)
    stream = PrefetchStream(PairedStream((StructureStream(maps, size), UniformStream(target, size, seed))))
    groups = objective.parameter_groups(config.training.learning_rate, config.generator_rate)
    fit(objective, stream, config.training, run, seed, parameter_groups=groups, progress=progress)
    stream.close()
    card = GeneratorCard(config.generator, data.box_size, data.voxel_spacing_angstrom, maps.ranges)
    generator = TrainedGenerator(objective.averaged, card)
    held_out_maps = describe_held_out_maps(config, data.unlabeled, seed)
    _check_faithfulness(held_out_maps, generator, config, run)
    save_generator(run.folder, generator)
    return _fit_classifier(embedder, held_out_maps, generator, target)


def describe_held_out_maps(config: Config, target: Subtomograms, seed: int) -> SubtomogramSetConfig:
    """Describe maps of the structures that a training with this seed does not use."""
    return describe_maps(config.structures, target, seed + _HELD_OUT_SEED_OFFSET)


def _check_faithfulness(maps: SubtomogramSetConfig, generator: TrainedGenerator, config: Config, run: Run) -> None:
    faithfulness = measure_faithfulness(maps, generator)
    run.log(event="faithfulness", class_kept=faithfulness.class_kept, density_kept=faithfulness.density_kept)
    if faithfulness.class_kept < config.min_faithfulness:
        raise ValueError(
            f"generated subtomograms of {run.folder} do not show their class: {faithfulness.class_kept:.0%} resemble "
            f"it most, corrected for chance, expected {config.min_faithfulness:.0%}; train longer, with a higher "
            "map_cycle_weight, or simulate subtomograms with --style noise"
        )


def _fit_classifier(
    embedder: Embedder, maps: SubtomogramSetConfig, generator: TrainedGenerator, target: Subtomograms
) -> Classifier:
    """Fit a probe to embeddings of generated subtomograms."""
    names = maps.class_names
    card = ModelCard(embedder.encoder.name, target.voxel_spacing_angstrom, target.box_size, class_names=names)
    classifier = Classifier(embedder, card)
    examples = StructureStream(maps, _EXAMPLES_PER_CLASS * len(names)).batch(0)
    volume = generator(examples.volume, torch.Generator().manual_seed(maps.seed)).numpy()
    embeddings = embed_volumes(embedder, lambda rows: volume[rows], len(volume))
    assert isinstance(classifier.head, LinearHead)
    assert classifier.similarity is not None
    # Cross-validation selects by generated subtomograms and relies on what only these have: ten points fewer of the
    # target were classified right.
    classifier.head.fit_probe(embeddings, examples.label.numpy(), FEW_LABELS_REGULARIZATION)
    measured = embed(embedder, target.select(target.spaced_rows(_MAX_SIMILARITY_TARGET)))
    classifier.similarity.fit(torch.from_numpy(measured), torch.from_numpy(embeddings), examples.label)
    return classifier.eval()

"""From a labeled source domain to an unlabeled target domain: embeddings from which the domain cannot be predicted.

The source is a labeled set, or is simulated anew at every step under widely varied imaging conditions. A classifier
learns from it. Domain discriminators, one for each class, receive its embeddings through a gradient reversal. A warp
learns to change source subtomograms until an image discriminator takes them for target ones.

Source: Bandyopadhyay et al. 2022, "Cryo-shift: reducing domain shift in cryo-electron subtomograms with unsupervised
domain adaptation and randomization", Bioinformatics 38:977, and its code: discriminators weighted by detached
probabilities; raw and warped subtomograms both classified; the warp trained by the image discriminator alone; noise
before deformation; three stages. Deviations: target subtomograms are drawn regardless of their class and nothing is
selected, since the weights of the last step are taken, so no target label is used; the reversal grows from 0 to 1 as in
Ganin et al. 2016 (there it is 100 throughout); discriminators receive standardized embeddings; embeddings of the target
are standardized by their own mean and deviation; `tomosift.models.learned_augmentation` lists those of the warp. All
default values are ours.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from tomosift.data.batches import Batch, PairedStream, PrefetchStream, UniformStream
from tomosift.data.training_sets import TrainingSets
from tomosift.files import write_arrays
from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.classifier_calibration import calibrate_across_domains
from tomosift.inference.heads import LinearHead
from tomosift.inference.model_files import GENERAL, load_classifier, start_embedder
from tomosift.inference.prediction import embed_volumes
from tomosift.methods import TrainingInput
from tomosift.objectives.domain_adversarial import DomainAdversarialObjective, DomainAdversarialSettings, Stage
from tomosift.physics.imaging import ImagingRanges
from tomosift.progress import Progress
from tomosift.simulation.source_domain import SourceDomain, read_source, simulate_source
from tomosift.simulation.subtomograms import SubtomogramSetConfig
from tomosift.simulation.synthetic_stream import RANDOMIZED_RANGES
from tomosift.train.loop import Training, fit
from tomosift.train.run import Run
from tomosift.train.schedule import step_generator

INPUT = TrainingInput("domains", "Folder of the set to classify; labels in it are not used.", has_source=True)
USES_LABELS = True
SHARES_BATCHES = False
RENAMED = {"most_noise": "max_noise", "most_bend_voxels": "max_deformation_voxels"}
RENAMED |= {"own_scale": "standardize_per_domain"}

WARPED = "warped.npz"
"""File of a run with some source subtomograms before and after the warp."""

_WARPED_EXAMPLES = 8


@dataclass(frozen=True)
class Config(DomainAdversarialSettings):
    """Settings of adaptation from a labeled source domain to an unlabeled target domain."""

    init: Path | None = GENERAL
    """Run or shipped model to start from. A model that already has these classes skips the training on the source
    alone. None starts from random weights."""
    encoder: str = "radial"
    """Encoder to train from random weights; with a model to start from, its encoder is used."""
    structures: tuple[str, ...] = ()
    """Names of the atlas, or structure or map files, from which the source is simulated anew at every step. Without
    any, the source is the labeled set."""
    imaging: ImagingRanges = field(default_factory=lambda: RANDOMIZED_RANGES)
    """Imaging conditions of these simulations."""
    standardize_per_domain: bool = True
    """Standardize embeddings of each domain by its own mean and deviation, which is right where the classes are about
    equally frequent in both."""
    source_steps: int = 200
    """Steps on the source alone, before the target is used; none where the model to start from has the classes."""
    discriminator_steps: int = 40
    """Steps in which the image discriminator alone is trained."""
    encoder_rate: float = 0.3
    """Learning rate of a pretrained encoder, as a share of that of the other networks."""
    discriminator_rate: float = 0.1
    """Learning rate of the image discriminator, as a share of that of the other networks."""
    training: Training = field(default_factory=lambda: Training(steps=200, batch_size=48))
    """Number of steps on both domains, and learning rate; the batch size counts subtomograms of each domain."""


def train(config: Config, data: TrainingSets, run: Run, seed: int, progress: Progress | None = None) -> Classifier:
    """Train a classifier for ``data.unlabeled``, the target domain, from labeled subtomograms of another domain.

    These are ``data.labeled``, or simulated from ``config.structures``, whose names become the classes. Labels of the
    target are not used. Probabilities are calibrated on the source; only labels of the target could show how well they
    are calibrated there.

    Raises
    ------
    ValueError
        When there are fewer than two target subtomograms, or the source has fewer than two classes.
    """
    source = open_source(config, data, seed)
    if len(data.unlabeled) < 2:
        raise ValueError(f"the target set has {len(data.unlabeled)} subtomograms, expected at least 2")
    classifier, has_classes = _start_classifier(config, data, source)
    objective = DomainAdversarialObjective(classifier, config, config.training.steps, bool(config.structures))
    target = UniformStream(data.unlabeled, config.training.batch_size, seed)
    stream = PrefetchStream(PairedStream((source.stream, target)))
    stages: list[tuple[Stage, int]] = [("source", 0 if has_classes else config.source_steps)]
    stages += [("images", config.discriminator_steps if config.warps else 0), ("joint", config.training.steps)]
    for stage, steps in stages:
        if steps:
            objective.stage = stage
            encoder_share = 1.0 if config.init is None else config.encoder_rate
            groups = objective.parameter_groups(config.training.learning_rate, encoder_share, config.discriminator_rate)
            folder = run if stage == "joint" else run.open_stage(stage)
            training = replace(config.training, steps=steps)
            fit(objective, stream, training, folder, seed, parameter_groups=groups, progress=progress)
    stream.close()
    if config.warps:
        _write_warped(run, objective, source.examples, seed)
    is_rescaled = config.standardize_per_domain
    return calibrate_across_domains(classifier, source.examples, data.unlabeled, is_rescaled).eval()


def open_source(config: Config, data: TrainingSets, seed: int) -> SourceDomain:
    """Return the source domain of a training: the labeled set, or simulations of the structures."""
    if not config.structures:
        return read_source(data.labeled, config.training.batch_size, seed)
    spacing = data.voxel_spacing_angstrom
    simulation = SubtomogramSetConfig(config.structures, 1, data.box_size, config.imaging, spacing, seed=seed)
    return simulate_source(simulation, config.training.batch_size)


def _start_classifier(config: Config, data: TrainingSets, source: SourceDomain) -> tuple[Classifier, bool]:
    """Return a classifier of the classes to train, and whether the model to start from already has these classes."""
    spacing, names = data.voxel_spacing_angstrom, source.class_names
    embedder = start_embedder(config.init, config.encoder, data.unlabeled, spacing)
    card = ModelCard(embedder.encoder.name, spacing, data.box_size, class_names=names)
    classifier = Classifier(embedder, card)
    start = None if config.init is None else load_classifier(config.init)
    if start is not None and start.card.class_names == names and isinstance(start.head, LinearHead):
        return classifier.replace(head=start.head), True
    volume = source.examples.volume.numpy()
    assert isinstance(classifier.head, LinearHead)
    embeddings = embed_volumes(embedder, lambda rows: volume[rows], len(volume))
    classifier.head.fit_probe(embeddings, source.examples.label.numpy())
    return classifier, False


@torch.inference_mode()
def _write_warped(run: Run, objective: DomainAdversarialObjective, examples: Batch, seed: int) -> None:
    """Write some recentered source subtomograms and what the warp makes of them."""
    volume = objective.classifier.embedder.recenter(examples.volume[:_WARPED_EXAMPLES])
    warped = objective.warp(volume, step_generator(seed, 0))
    write_arrays(run.folder / WARPED, source=volume.numpy(), warped=warped.numpy())

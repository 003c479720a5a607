"""Metric learning on simulated complexes: an encoder that separates complexes of every kind.

Labels of simulated particles cost nothing, so the encoder is trained on a stream of synthetic complexes under widely
varied imaging conditions, with a few dozen particles of each. It learns a metric that also separates complexes it was
not trained on. The shipped model `general` is made this way, and ``init="general"`` starts other methods from it.

An encoder with fixed features (`radial`) learns in a thousandth of the time that simulation takes. Its subtomograms are
simulated once, their features are cached in the folder of the run, and training reads the cache several times. For
other encoders every step simulates new subtomograms.

Source: Rice et al. 2023, "TomoTwin: generalized 3D localization of macromolecules in cryo-electron tomograms with
structural data mining", for one metric of all complexes; the losses name theirs. Deviations: synthetic complexes
instead of the Protein Data Bank, so that none is a homologue of a class that is predicted later; supervised contrast
instead of triplets. All default values are ours.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from tomosift.data.batches import PrefetchStream
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import Classifier
from tomosift.inference.model_files import load_classifier
from tomosift.inference.plda_model import embed_group, fit_plda_model
from tomosift.methods import TrainingInput
from tomosift.models.encoders import build_encoder
from tomosift.objectives.metric import MetricObjective, MetricSettings
from tomosift.physics.imaging import ImagingRanges
from tomosift.progress import Progress
from tomosift.simulation.feature_cache import MAX_WORKERS, FeatureCache
from tomosift.simulation.held_out_complexes import simulate_held_out_groups
from tomosift.simulation.synthetic_stream import WIDE_RANGES, SyntheticComplexStream
from tomosift.train.loop import Training, fit
from tomosift.train.run import Run

INPUT = TrainingInput("none")
USES_LABELS = False
SHARES_BATCHES = True
RENAMED = {"directions_complexes": "plda_complexes", "boxes_each": "particles_per_complex"}

CACHE_FOLDER = "lessons"
"""Folder of a run with the cached features; the name is that of earlier versions."""
BLOCK_COMPLEXES = 64
"""Complexes of each file in it."""
_DISTRACTOR_SHARE = 1 / 32  # of the complexes


@dataclass(frozen=True)
class Config(MetricSettings):
    """Settings of metric training."""

    init: Path | None = None
    """Run or shipped model whose encoder to start from; none starts from random weights."""
    encoder: str = "radial"
    """Encoder to train from random weights; with a model to start from, its encoder is used."""
    complexes: int = 8192
    """Number of synthetic complexes; where every step simulates new subtomograms, no complex recurs."""
    particles_per_complex: int = 48
    """Particles of each of these complexes."""
    fresh: bool = False
    """Simulate new subtomograms at every step, as is always done for encoders without fixed features."""
    imaging: ImagingRanges = field(default_factory=lambda: WIDE_RANGES)
    """Imaging conditions of the simulated subtomograms."""
    box_size: int = 32
    """Edge of the subtomograms, in voxels."""
    voxel_spacing_angstrom: float = 10.0
    """Voxel spacing of the subtomograms, in Angstrom."""
    classes_per_batch: int = 96
    """Complexes of a step."""
    per_class: int = 4
    """Particles of each complex in a step."""
    plda_complexes: int = 100
    """Complexes, none of them trained on, to which the PLDA is fitted at each of four noise levels."""
    training: Training = field(default_factory=lambda: Training(6000, learning_rate=2e-3, checkpoint_every=500))
    """Number of steps and learning rate; the batch size follows from complexes and particles of a step."""


def train(
    config: Config, data: TrainingSets | None, run: Run, seed: int, progress: Progress | None = None
) -> Classifier:
    """Train an encoder with a PLDA, to start from or to enrol classes in; all data are simulated, ``data`` is ignored.

    Raises
    ------
    ValueError
        When a number is too small, or the loss needs complexes that recur and every step simulates new ones.
    """
    encoder = build_encoder(config.encoder) if config.init is None else load_classifier(config.init).encoder
    is_fresh = config.fresh or not encoder.has_fixed_features
    _check(config, is_fresh)
    complexes = config.classes_per_batch if is_fresh else BLOCK_COMPLEXES
    stream = SyntheticComplexStream(
        complexes,
        config.per_class if is_fresh else config.particles_per_complex,
        seed,
        config.box_size,
        config.voxel_spacing_angstrom,
        config.imaging,
        distractors=round(_DISTRACTOR_SHARE * complexes),
        halves=config.independent_noise > 0,
    )
    run.log(event="stream", complexes=None if is_fresh else config.complexes, fresh=is_fresh)
    if is_fresh:
        objective = MetricObjective(encoder, config, config.complexes, None)
        prefetched = PrefetchStream(stream, min(os.cpu_count() or 1, MAX_WORKERS))
        fit(objective, prefetched, config.training, run, seed, progress=progress)
        prefetched.close()
    else:
        sizes = (config.complexes, config.classes_per_batch, config.per_class)
        cache = FeatureCache(run.folder / CACHE_FOLDER, stream, *sizes, seed)
        cache.simulate(encoder, progress)
        objective = MetricObjective(encoder, config, config.complexes, cache.scale)
        fit(objective, cache, config.training, run, seed, progress=progress)
        encoder.absorb_standardization(objective.mean, objective.deviation)
    encoder.dropout = 0.0
    groups = simulate_held_out_groups(config.plda_complexes, seed, config.box_size, config.voxel_spacing_angstrom)
    embedded = [embed_group(encoder, batch) for batch in groups]
    return fit_plda_model(encoder, config.voxel_spacing_angstrom, config.box_size, embedded)


def _check(config: Config, is_fresh: bool) -> None:
    """Refuse numbers that are too small, and streams that cannot serve the loss or the processes."""
    if config.complexes < 2 or config.particles_per_complex < config.per_class or config.per_class < 2:
        raise ValueError(
            "complexes, particles per complex and particles per class in a step are "
            f"{config.complexes}, {config.particles_per_complex} and {config.per_class}, expected at least 2, as many "
            "as in a step, and 2"
        )
    if is_fresh and config.loss == "cosine":
        raise ValueError("the cosine loss needs complexes that recur, but every step simulates new ones; take another")
    processes, size = config.training.processes, config.classes_per_batch * config.per_class
    if is_fresh and processes > 1:
        raise ValueError(
            f"{processes} processes are requested, expected 1: each would simulate the subtomograms of all; take an "
            "encoder with fixed features, such as radial"
        )
    if size % processes:
        raise ValueError(f"a step has {size} subtomograms, expected a multiple of {processes} processes")

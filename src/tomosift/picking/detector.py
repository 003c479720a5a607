"""Training of a detector, which separates particles from everything else in a tomogram, from a few picks of each class.

Grid points near a pick get its class. Grid points away from all picks are background: noise, membranes, and particles
that were not picked, which are rare among random points. The descriptors of these points are computed once for each
tomogram and used in many batches, so that training takes a minute.

Ours. Background points are also drawn beside picks: a detector that was never trained on such points detects particles
there.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tomosift.conventions import is_same_spacing
from tomosift.data.batches import FeatureBatch
from tomosift.data.extraction.tomograms import Tomogram, match_tomograms
from tomosift.files import write_json
from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.heads import LinearHead
from tomosift.inference.model_files import load_classifier, save_classifier
from tomosift.models.embedder import Embedder
from tomosift.models.encoders import build_encoder
from tomosift.models.recentering import Recentering
from tomosift.particles import Particles
from tomosift.picking.config import Config
from tomosift.picking.detection import BACKGROUND, detect, extract_picks
from tomosift.picking.particle_radius import estimate_radii
from tomosift.picking.self_training import concatenate_picks, grow_picks
from tomosift.picking.training_grid import TrainingGrid, load_training_grid
from tomosift.progress import Progress, ignore_progress
from tomosift.rng import draw_normal
from tomosift.train.loop import fit
from tomosift.train.run import Run, read_json

_ENCODER = "dense"
_MIN_DEVIATION = 1e-6
_RADII = "radii.json"
_SELF_TRAINING_CONFIDENCE = 0.9
"""Detections of at least this probability become picks."""
_GROWTH = 3
"""Detections that a round adds at most for each pick; the next round adds three times as many."""


class DetectorLearner(nn.Module):
    """Cross-entropy over the classes and the background, on descriptors of grid points."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, classifier: Classifier, config: Config, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.classifier, self.config = classifier, config
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        classifier.encoder.dropout = config.dropout

    def forward(self, batch: FeatureBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the loss and the accuracy of a batch."""
        noise = draw_normal(batch.x.shape, generator).to(batch.x.device)
        x = batch.x + self.config.input_noise * self.deviation * noise
        if self.config.init is None:  # a trained encoder has absorbed a standardization already
            x = (x - self.mean) / self.deviation
        embedding = functional.dropout(self.classifier.encoder.embed(x), self.config.dropout, self.training)
        head = self.classifier.head
        assert isinstance(head, LinearHead)
        logits = head.linear(embedding)
        return {
            "loss": functional.cross_entropy(logits, batch.label),
            "accuracy": (logits.argmax(1) == batch.label).float().mean(),
        }


def train_detector(
    config: Config,
    picks: Particles,
    tomograms: Mapping[str, Tomogram],
    run: Run,
    seed: int,
    description_progress: Progress = ignore_progress,
    progress: Progress = ignore_progress,
) -> Classifier:
    """Train a detector: a classifier of grid points with the classes of the picks and `BACKGROUND`.

    The run holds its result and the particle radius of each class; see `read_radii`.

    Parameters
    ----------
    config
        Settings of the training.
    picks
        Picks with a class are used. Particles of their tomograms that were not picked do little harm.
    tomograms
        Tomograms by name; those without picks are not read.
    run
        Folder of the training, which resumes where it was interrupted.
    seed
        Determines background points, batches and initial weights.
    description_progress
        Called with the number of described tomograms; each round counts all of them again.
    progress
        Called after each training step.

    Raises
    ------
    ValueError
        See `group_picks_by_tomogram`; or no grid point is left for a class or for the background.
    """
    groups = group_picks_by_tomogram(config, picks, tomograms)
    class_name = np.concatenate([group.class_name for group in groups.values()])
    names = tuple(sorted({str(name) for name in class_name}))
    few = {name for name in names if (class_name == name).sum() < config.self_training_max_picks}
    rounds = 1 + (config.self_training_rounds if few else 0)
    grown = dict(groups)
    for number in range(rounds):
        stage = run.open_stage(f"round-{number + 1}")
        parts = []
        for done, (key, group) in enumerate(grown.items(), number * len(groups) + 1):
            parts.append(load_training_grid(config, names, group, tomograms[key], stage, seed + number, len(groups)))
            description_progress(done, rounds * len(groups))
        classifier = _train_round(config, names, parts, stage, seed + number, progress)
        if number + 1 < rounds:
            most = _GROWTH ** (number + 1)
            grown = {key: _grow(config, classifier, groups[key], tomograms[key], few, most) for key in groups}
            run.log(event="self_training", round=number + 1, picks=sum(len(group) for group in grown.values()))
    _write_radii(config, grown, tomograms, run)
    save_classifier(run.result, classifier)
    return classifier


def read_radii(run: Path) -> dict[str, float]:
    """Return the particle radius of each class in Angstrom, as estimated from the picks that a detector learned from.

    Raises
    ------
    FormatError
        The folder is no finished run of a detector.
    """
    return {str(name): float(value) for name, value in read_json(run / _RADII).items()}


def group_picks_by_tomogram(
    config: Config, picks: Particles, tomograms: Mapping[str, Tomogram]
) -> dict[str, Particles]:
    """Group the picks with a class by the key of their tomogram, and make all checks that need no density.

    Raises
    ------
    ValueError
        When no pick has a class, a class has the name of the background, a tomogram is missing, a pick lies outside its
        tomogram, or the model to start from has another encoder or voxel spacing.
    """
    labeled = picks.select(np.flatnonzero(picks.class_name.astype(str) != ""))
    names = tuple(sorted({str(name) for name in labeled.class_name}))
    if not names:
        raise ValueError("no pick has a class; label one or more picks of every class in the class column")
    if BACKGROUND in names:
        raise ValueError(f"{BACKGROUND!r} is the class of grid points without a particle; give that class another name")
    key_of = match_tomograms([str(name) for name in labeled.tomogram], tomograms)
    keys = np.array([key_of[str(name)] for name in labeled.tomogram], dtype=object)
    groups = {key: labeled.select(np.flatnonzero(keys == key)) for key in dict.fromkeys(keys)}
    for key, group in groups.items():
        _check_positions(group, tomograms[key], config.background_distance_angstrom)
    _build_classifier(config, names)
    return groups


def _check_positions(picks: Particles, tomogram: Tomogram, margin_angstrom: float) -> None:
    """Refuse picks that lie outside of their tomogram by more than a margin."""
    last = (np.array(tomogram.grid.shape_zyx) - 1) * tomogram.grid.voxel_spacing_angstrom
    position = picks.position_zyx_angstrom
    # Written so that NaN is outside as well.
    is_outside = ~((position >= -margin_angstrom) & (position <= last + margin_angstrom)).all(axis=1)
    if is_outside.any():
        first = ", ".join(f"{value:.0f}" for value in position[is_outside][0])
        raise ValueError(
            f"{is_outside.sum()} of {len(picks)} picks lie outside of {tomogram.name}, the first at {first} A "
            f"(z, y, x), which ends at {', '.join(f'{value:.0f}' for value in last)} A; check --picks-spacing and "
            "--tomogram-spacing"
        )


def _train_round(
    config: Config,
    class_names: tuple[str, ...],
    parts: list[tuple[NDArray[np.float16], NDArray[np.int64]]],
    run: Run,
    seed: int,
    progress: Progress,
) -> Classifier:
    """Train a detector on descriptors and labels of grid points, one pair for each tomogram."""
    torch.manual_seed(seed)
    classifier = _build_classifier(config, (*class_names, BACKGROUND))
    descriptor, label = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    counts = np.bincount(label, minlength=len(class_names) + 1)
    if not counts.all():
        missing = (*class_names, BACKGROUND)[int(counts.argmin())]
        raise ValueError(
            f"no grid point is left for {missing!r}: all are nearer to picks of another class; check the picks, or "
            "lower class_distance_angstrom and background_distance_angstrom"
        )
    run.log(event="grid_points", per_class=counts.tolist())
    x = torch.from_numpy(descriptor.astype(np.float32))
    learner = DetectorLearner(classifier, config, x.mean(0), x.std(0) + _MIN_DEVIATION)
    grid = TrainingGrid(descriptor, label, len(class_names), config.training.batch_size, seed)
    fit(learner, grid, config.training, run, seed, progress=progress)
    if config.init is None:
        classifier.encoder.absorb_standardization(learner.mean, learner.deviation)
    classifier.encoder.dropout = 0.0
    device = classifier.embedder.device  # of the training
    with torch.inference_mode():
        embeddings = classifier.encoder.eval().embed(x.to(device))
    assert classifier.similarity is not None
    classifier.similarity.fit(embeddings, embeddings, torch.from_numpy(label).to(device))
    return classifier.eval()


def _grow(
    config: Config,
    classifier: Classifier,
    picks: Particles,
    tomogram: Tomogram,
    classes: set[str],
    max_per_pick: int,
) -> Particles:
    """Add confident detections of these classes to the picks of one tomogram."""
    min_distance = 2 * config.background_distance_angstrom
    radii = dict.fromkeys(classifier.card.class_names, min_distance)
    detections = extract_picks(detect(classifier, tomogram), str(picks.tomogram[0]), radii, _SELF_TRAINING_CONFIDENCE)
    return grow_picks(picks, detections, classes, max_per_pick, config.background_distance_angstrom, min_distance)


def _write_radii(config: Config, groups: Mapping[str, Particles], tomograms: Mapping[str, Tomogram], run: Run) -> None:
    """Estimate the particle radius of each class and write it into the run."""
    by_name = {str(name): tomograms[key] for key, group in groups.items() for name in group.tomogram}
    picks = concatenate_picks(list(groups.values()))
    write_json(run.folder / _RADII, estimate_radii(picks, by_name, config.box_size, config.voxel_spacing_angstrom))


def _build_classifier(config: Config, class_names: tuple[str, ...]) -> Classifier:
    """Build a classifier with a new head on the encoder to start from."""
    if config.init is None:
        embedder = Embedder(build_encoder(_ENCODER), Recentering())
    else:
        start = load_classifier(config.init)
        embedder, spacing = start.embedder, start.card.voxel_spacing_angstrom
        if start.card.encoder != _ENCODER:
            raise ValueError(f"the encoder of {config.init} is {start.card.encoder}, expected {_ENCODER}")
        if not is_same_spacing(config.voxel_spacing_angstrom, spacing):
            raise ValueError(
                f"voxel_spacing_angstrom is {config.voxel_spacing_angstrom:g} but {config.init} was trained at "
                f"{spacing:g} A; give that, or --detector.model None"
            )
    card = ModelCard(_ENCODER, config.voxel_spacing_angstrom, config.box_size, class_names=class_names)
    return Classifier(embedder, card)

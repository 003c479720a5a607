"""A detector: what tells particles from everything else in tomograms, learned from a few picks of each class.

Whatever lies close to a pick is of its class, and whatever lies away from all of them is background: noise,
membranes, and particles that nobody picked, which are rare among random places. Descriptors of such places are
computed once for each tomogram and gone over often, so that learning takes a minute.

Ours. Places just beside a pick are drawn as well, for a detector that has never seen them answers beside particles.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tomosift.data.batches import FeatureBatch
from tomosift.data.extraction.tomograms import Tomogram, match_tomograms
from tomosift.files import write_json
from tomosift.inference.classifier import Classifier, ModelCard, load_classifier, save_classifier
from tomosift.inference.heads import LinearHead
from tomosift.models.encoders import build_encoder
from tomosift.particles import Particles
from tomosift.picking.config import Config
from tomosift.picking.detection import BACKGROUND, detect, extract_picks
from tomosift.picking.particle_radius import estimate_radii
from tomosift.picking.self_training import concatenate_picks, grow_picks
from tomosift.picking.training_grid import TrainingGrid, load_training_grid
from tomosift.rng import normal
from tomosift.train.loop import Progress, fit
from tomosift.train.run import Run, read_json

_ENCODER = "dense"
_LEAST_DEVIATION = 1e-6
_RADII = "radii.json"
_SURE = 0.9  # probability of a particle that teaches
_GROWTH = 3  # picks that come to each pick in a round, three times as many in the next


class Learner(nn.Module):
    """Cross-entropy between the classes and the background, on descriptors of places."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, classifier: Classifier, config: Config, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.classifier, self.config = classifier, config
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        classifier.encoder.dropout = config.dropout

    def forward(self, batch: FeatureBatch, generator: torch.Generator) -> dict[str, Tensor]:
        noise = normal(batch.x.shape, generator).to(batch.x.device)
        x = batch.x + self.config.input_noise * self.deviation * noise
        if self.config.init is None:  # an encoder that has learned has taken a scale already
            x = (x - self.mean) / self.deviation
        embedding = functional.dropout(self.classifier.encoder.embed(x), self.config.dropout, self.training)
        head = self.classifier.head
        assert isinstance(head, LinearHead)
        logits = head.linear(embedding)
        return {
            "loss": functional.cross_entropy(logits, batch.label),
            "right": (logits.argmax(1) == batch.label).float().mean(),
        }


def train_detector(
    config: Config,
    picks: Particles,
    tomograms: Mapping[str, Tomogram],
    run: Run,
    seed: int,
    looking: Callable[[int, int], None] | None = None,
    progress: Progress | None = None,
) -> Classifier:
    """A classifier of places with the classes of the picks and `BACKGROUND`; result and radii are left in the run.

    Parameters
    ----------
    picks
        Those with a class are learned from; particles of their tomograms that are not among them do little harm.
    looking
        Called with the tomograms described and those in all, rounds counted one by one.

    Raises
    ------
    ValueError
        See `picks_by_tomogram`; or a class or the background is left without any place.
    """
    given = picks_by_tomogram(config, picks, tomograms)
    class_name = np.concatenate([mine.class_name for mine in given.values()])
    names = tuple(sorted({str(name) for name in class_name}))
    few = {name for name in names if (class_name == name).sum() < config.few}
    rounds = 1 + (config.rounds if few else 0)
    known, total = dict(given), rounds * len(given)
    for number in range(rounds):
        part = run.within(f"round-{number + 1}")
        told = []
        for done, (key, mine) in enumerate(known.items(), number * len(given) + 1):
            told.append(load_training_grid(config, names, mine, tomograms[key], part, seed + number, len(given)))
            if looking is not None:
                looking(done, total)
        classifier = _taught(config, names, told, part, seed + number, progress)
        if number + 1 < rounds:
            most = _GROWTH ** (number + 1)
            known = {key: _more(config, classifier, given[key], tomograms[key], few, most) for key in given}
            run.log(event="grown", round=number + 1, picks=sum(len(part) for part in known.values()))
    used = {str(name): tomograms[key] for key, mine in known.items() for name in mine.tomogram}
    learned = concatenate_picks(list(known.values()))
    write_json(run.folder / _RADII, estimate_radii(learned, used, config.box_size, config.voxel_spacing_angstrom))
    save_classifier(run.result, classifier)
    return classifier


def read_radii(run: Path) -> dict[str, float]:
    """Radius of each class in Angstrom, as measured on the picks that a detector learned from.

    Raises
    ------
    FormatError
        The folder is no finished run of a detector.
    """
    return {str(name): float(value) for name, value in read_json(run / _RADII).items()}


def picks_by_tomogram(config: Config, picks: Particles, tomograms: Mapping[str, Tomogram]) -> dict[str, Particles]:
    """Picks with a class, by the key of their tomogram, after all checks that need no look into a tomogram.

    Raises
    ------
    ValueError
        When no pick has a class, one is called as the background is, a tomogram is missing, a pick lies outside its
        own, or the model to start from is of another encoder or voxel spacing.
    """
    named = picks.select(np.flatnonzero(picks.class_name.astype(str) != ""))
    names = tuple(sorted({str(name) for name in named.class_name}))
    if not names:
        raise ValueError("no pick has a class; name one or more of every class, in the column that says the class")
    if BACKGROUND in names:
        raise ValueError(f"{BACKGROUND!r} is what places without a pick are called; give that class another name")
    key_of = match_tomograms([str(name) for name in named.tomogram], tomograms)
    keys = np.array([key_of[str(name)] for name in named.tomogram], dtype=object)
    given = {key: named.select(np.flatnonzero(keys == key)) for key in dict.fromkeys(keys)}
    for key, mine in given.items():
        _check_inside(mine, tomograms[key], config.far_angstrom)
    _starting(config, names)
    return given


def _check_inside(picks: Particles, tomogram: Tomogram, beyond_angstrom: float) -> None:
    last = (np.array(tomogram.grid.shape_zyx) - 1) * tomogram.grid.voxel_spacing_angstrom
    position = picks.position_zyx_angstrom
    # Written so that what is no number is outside as well.
    outside = ~((position >= -beyond_angstrom) & (position <= last + beyond_angstrom)).all(axis=1)
    if outside.any():
        first = ", ".join(f"{value:.0f}" for value in position[outside][0])
        raise ValueError(
            f"{outside.sum()} of {len(picks)} picks lie outside of {tomogram.name}, the first at {first} A (z, y, x), "
            f"which ends at {', '.join(f'{value:.0f}' for value in last)} A; check --picks-spacing and "
            "--tomogram-spacing"
        )


def _taught(
    config: Config,
    names: tuple[str, ...],
    told: list[tuple[NDArray[np.float16], NDArray[np.int64]]],
    run: Run,
    seed: int,
    progress: Progress | None,
) -> Classifier:
    torch.manual_seed(seed)
    classifier = _starting(config, (*names, BACKGROUND))
    descriptor, label = (np.concatenate(parts) for parts in zip(*told, strict=True))
    of_each = np.bincount(label, minlength=len(names) + 1)
    if not of_each.all():
        lacking = (*names, BACKGROUND)[int(of_each.argmin())]
        raise ValueError(
            f"no place is left for {lacking!r}: all are nearer to picks of another class; check the picks, or lower "
            "near_angstrom and far_angstrom"
        )
    run.log(event="places", of_each=of_each.tolist())
    x = torch.from_numpy(descriptor.astype(np.float32))
    learner = Learner(classifier, config, x.mean(0), x.std(0) + _LEAST_DEVIATION)
    places = TrainingGrid(descriptor, label, len(names), config.training.batch_size, seed)
    fit(learner, places, config.training, run, seed, progress=progress)
    if config.init is None:
        classifier.encoder.take_scale(learner.mean, learner.deviation)
    classifier.encoder.dropout = 0.0
    device = next(classifier.parameters()).device  # where training took place
    with torch.inference_mode():
        embedding = classifier.encoder.eval().embed(x.to(device))
    assert classifier.similarity is not None
    classifier.similarity.remember(embedding, embedding, torch.from_numpy(label).to(device))
    return classifier.eval()


def _more(
    config: Config, classifier: Classifier, given: Particles, tomogram: Tomogram, few: set[str], most: int
) -> Particles:
    """The picks of one tomogram and what a detector surely finds besides, of classes with few."""
    apart = 2 * config.far_angstrom
    found = extract_picks(
        detect(classifier, tomogram), str(given.tomogram[0]), dict.fromkeys(classifier.card.class_names, apart), _SURE
    )
    return grow_picks(given, found, few, most, config.far_angstrom, apart)


def _starting(config: Config, class_names: tuple[str, ...]) -> Classifier:
    if config.init is None:
        encoder = build_encoder(_ENCODER)
    else:
        start = load_classifier(config.init)
        encoder, spacing = start.encoder, start.card.voxel_spacing_angstrom
        if start.card.encoder != _ENCODER:
            raise ValueError(f"the encoder of {config.init} is {start.card.encoder}, expected {_ENCODER}")
        if abs(spacing - config.voxel_spacing_angstrom) > 0.01 * spacing:
            raise ValueError(
                f"voxel_spacing_angstrom is {config.voxel_spacing_angstrom:g} but {config.init} was trained at "
                f"{spacing:g} A; give that, or --detector.init None"
            )
    card = ModelCard(_ENCODER, config.voxel_spacing_angstrom, config.box_size, class_names=class_names)
    return Classifier(encoder, card)

"""Averages of the particles of each class, found from a few named ones, and what they say of every particle.

A single box at SNR 0.1 shows little of its particle; forty of one class, turned onto each other, show its shape. How
well the average of a class fits a box, in its best poses, tells classes apart that embeddings cannot, as those know
nothing of poses. And the outline of an average, laid back into a box, is a better mask of that particle than the box
alone gives.
"""

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, nn
from torch.nn import functional

from tomosift.nn.center_finder import coarse
from tomosift.nn.centering import recentered
from tomosift.nn.decoders import UNet
from tomosift.nn.encoder import Encoder, ReadBoxes, ReportDone
from tomosift.physics.alignment import (
    COEFFICIENTS,
    GRID,
    Poses,
    Spectra,
    averaged,
    find_poses,
    laid_out,
    spectra_of,
)
from tomosift.physics.rotation import random_rotations, upsampled

STARTS = 3
"""Averages of each class, each from another of its particles: what one start gets wrong another may not."""
JUDGES = 2
"""Of these, that are asked what a particle is; masks are made of all of them."""
LEAST_MEMBERS = 10
"""Particles of a class from which an average says more than they do one by one."""
MOST_MEMBERS = 100
CANDIDATES = 4
"""Classes that are tried on a particle, the most probable by its embedding."""
STRENGTH = 0.5
"""Share of the evidence that counts: half, because noise that is not Gaussian makes it look surer than it is."""

ROUNDS = 2
"""Times that averages are made and particles named by them."""

_ROTATIONS = 1500  # some 20 degrees apart
_CUTOFFS = (4.0, 5.0, 6.0, 7.0, 8.0)
"""Highest frequency of each round, in 1 / edge: orientations are found coarsely first."""
_AT_ONCE = 64


@lru_cache(maxsize=1)
def _rotations() -> Float[np.ndarray, "r 3 3"]:
    return np.asarray(random_rotations(_ROTATIONS, torch.Generator().manual_seed(1)))


def search_rotations() -> Float[Tensor, "r 3 3"]:
    """The rotations that are looked through, the same for everyone."""
    return torch.from_numpy(_rotations())


@dataclass(frozen=True)
class Seen:
    """What a search for poses needs to know of n boxes."""

    offset_zyx_voxels: Int64[Tensor, "n 3"]
    """Where the encoder finds each particle, from the middle of its box."""
    spectra: Spectra
    """Of the boxes with their particles in the middle."""


@torch.inference_mode()
def look(
    read: ReadBoxes,
    tilt_range_deg: Float[np.ndarray, "n 2"],
    encoder: Encoder,
    weight: Float[Tensor, " f"] | None = None,
    done: ReportDone | None = None,
) -> Seen:
    """Look at boxes; spectra are whitened by ``weight`` or, without it, by the mean power of all of them."""
    count, offsets, small = len(tilt_range_deg), [], []
    device = next(encoder.parameters()).device
    for start in range(0, count, _AT_ONCE):
        volume = torch.from_numpy(read(np.arange(start, min(start + _AT_ONCE, count)))).to(device)
        offsets.append(encoder.offset(volume))
        small.append(coarse(recentered(volume, offsets[-1]), GRID).cpu())
        if done is not None:
            done(min(start + _AT_ONCE, count), count)
    tilts = torch.from_numpy(np.asarray(tilt_range_deg, dtype=np.float32))
    return Seen(torch.cat(offsets).cpu(), spectra_of(torch.cat(small), tilts, None if weight is None else weight.cpu()))


class ClassAverages(nn.Module):
    """Some averages of each of k classes, for boxes of one size; a class that has none is all zeros."""

    density: Tensor
    """(k, s, g, g, g) On the grid of alignment, zero outside the outline."""
    outline: Tensor
    """(k, s, d, d, d) Probability of each voxel of a box to belong to the particle."""
    weight: Tensor
    """(f,) Whitening of the spectra that they were found in."""

    def __init__(self, classes: int, box_size: int) -> None:
        super().__init__()
        self.register_buffer("density", torch.zeros(classes, STARTS, GRID, GRID, GRID))
        self.register_buffer("outline", torch.zeros(classes, STARTS, *3 * (box_size,), dtype=torch.float16))
        self.register_buffer("weight", torch.zeros(COEFFICIENTS))

    def check_size(self, box_size: int) -> None:
        """Refuse boxes in which the averages would show another size of particle.

        Raises
        ------
        ValueError
            When boxes are of another edge, in voxels.
        """
        made_of = self.outline.shape[-1]
        if box_size != made_of:
            raise ValueError(
                f"boxes have {box_size} voxels along each edge but the averages of the model were made of {made_of}; "
                f"extract with --box-size {made_of}"
            )

    @property
    def known(self) -> Bool[Tensor, " k"]:
        """Which classes have averages."""
        return self.density.flatten(1).any(1)

    def pictures(self, box_size: int) -> Float[np.ndarray, "k d d d"]:
        """The first average of each class on about the grid of the boxes, to be looked at."""
        first = self.density[:, 0]
        return np.asarray(upsampled(first.cpu(), max(1, round(box_size / GRID))))

    @torch.inference_mode()
    def reconsidered(self, log_probability: Float[np.ndarray, "n k"], spectra: Spectra) -> Float[np.ndarray, "n k"]:
        """Logarithms of probabilities after a look at how averages fit.

        The `CANDIDATES` most probable classes of each box are tried. A class that was not keeps its distance to the
        least fitting of those; one that has no average keeps its distance to the best fitting.
        """
        known = self.known.cpu().numpy()
        if known.sum() < 2 or not len(log_probability):
            return log_probability
        ranked = np.where(known, log_probability, -np.inf)
        candidate = np.zeros(ranked.shape, dtype=bool)
        np.put_along_axis(candidate, np.argsort(-ranked, axis=1)[:, :CANDIDATES], True, axis=1)
        candidate &= known
        evidence = np.full(ranked.shape, np.nan)
        for k in np.flatnonzero(known):
            rows = np.flatnonzero(candidate[:, k])
            poses = self._poses(int(k), spectra.select(torch.from_numpy(rows)), JUDGES)
            each = [one.evidence for one in poses]
            evidence[rows, k] = torch.logsumexp(torch.stack(each), 0).numpy() - np.log(len(each))
        best, least = np.nanmax(evidence, axis=1, keepdims=True), np.nanmin(evidence, axis=1, keepdims=True)
        evidence = np.where(candidate, evidence, np.where(known, least, best))
        said = log_probability + STRENGTH * evidence
        return np.asarray(said - np.logaddexp.reduce(said, axis=1, keepdims=True))

    @torch.inference_mode()
    def outlines(
        self, probability: Float[np.ndarray, "n k"], spectra: Spectra
    ) -> tuple[Float[Tensor, "n d d d"], Float[Tensor, " n"]]:
        """Outlines of the classes of boxes whose particles lie in the middle, and how much of their weight they have.

        Classes are weighed by the root of order `_FLATNESS` of their probabilities, so that one wrong class does not
        make the mask.
        """
        flat = probability ** (1 / _FLATNESS)
        flat /= np.maximum(flat.sum(axis=1, keepdims=True), 1e-12)
        size, count = self.outline.shape[-1], len(probability)
        made, weight = torch.zeros(count, size, size, size), torch.zeros(count)
        for k in self.known.nonzero()[:, 0].tolist():
            rows = torch.from_numpy(np.flatnonzero(flat[:, k] > _LEAST_PROBABILITY))
            share = torch.from_numpy(flat[rows.numpy(), k]).float()
            for start, poses in enumerate(self._poses(k, spectra.select(rows), STARTS)):
                made[rows] += (
                    share[:, None, None, None] / STARTS * laid_out(self.outline[k, start].float().cpu(), poses)
                )
            weight[rows] += share
        return made, weight

    def _poses(self, k: int, spectra: Spectra, starts: int) -> list[Poses]:
        return [find_poses(density, spectra, search_rotations()) for density in self.density[k, :starts].cpu()]


_FLATNESS = 3.0
_LEAST_PROBABILITY = 0.05  # of a class after that, for its outline to take part in a mask


@torch.inference_mode()
def found_averages(
    read: ReadBoxes,
    tilt_range_deg: Float[np.ndarray, "n 2"],
    seen: Seen,
    label: Int[np.ndarray, " n"],
    surety: Float[np.ndarray, " n"],
    classes: int,
    decoder: UNet,
    done: ReportDone | None = None,
) -> ClassAverages:
    """Averages of the classes that have enough of n boxes, -1 in ``label`` for those that are left out.

    The surest particles of a class are turned onto the outline of one of them, and onto what comes of that, with more
    detail each time; the decoder outlines averages as it does boxes. ``surety`` says how sure labels are.

    Source: ours; the loop is that of subtomogram averaging without a reference, poses weighed by their probability as
    in Scheres et al. 2009, Structure 17.
    """
    made: ClassAverages | None = None
    tilts = torch.from_numpy(np.asarray(tilt_range_deg, dtype=np.float32))
    for k in range(classes):
        rows = np.flatnonzero(label == k)
        rows = rows[np.argsort(-surety[rows], kind="stable")][:MOST_MEMBERS]
        volume = recentered(torch.from_numpy(read(rows)), seen.offset_zyx_voxels[rows]) if len(rows) else None
        if volume is not None:
            made = made or ClassAverages(classes, volume.shape[-1])
        if volume is not None and made is not None and len(rows) >= LEAST_MEMBERS:
            spectra, mine = seen.spectra.select(torch.from_numpy(rows)), tilts[rows]
            for start in range(STARTS):
                outline = decoder.centered(volume[start : start + 1])[0].sigmoid()
                made.density[k, start], made.outline[k, start] = _average(outline, volume, mine, spectra, decoder)
        if done is not None:
            done(k + 1, classes)
    if made is None:
        raise ValueError("no particle has a class; label a few first")
    made.weight.copy_(seen.spectra.weight)
    return made


def told_by_averages(
    read: ReadBoxes,
    tilt_range_deg: Float[np.ndarray, "n 2"],
    seen: Seen,
    label: Int[np.ndarray, " n"],
    is_given: Bool[np.ndarray, " n"],
    log_probability: Float[np.ndarray, "n k"],
    decoder: UNet,
    done: ReportDone | None = None,
) -> tuple[ClassAverages, Int[np.ndarray, " n"]]:
    """Labels of n boxes after a look at averages of what they were labeled before, and averages of the new labels.

    Those that were given stay, and where all were, that is all; a particle of which no class is more probable than all
    others together gets -1.
    """
    classes, said = log_probability.shape[1], log_probability
    rounds = 1 if is_given.all() else ROUNDS
    for turn in range(rounds):
        surety = np.where(is_given, np.inf, np.take_along_axis(said, np.maximum(label, 0)[:, None], axis=1)[:, 0])
        step = None if done is None else partial(_later, done, turn * classes, rounds * classes)
        averages = found_averages(read, tilt_range_deg, seen, label, surety, classes, decoder, step)
        if rounds > 1:
            said = averages.reconsidered(log_probability, seen.spectra)
            told = np.where(said.max(axis=1) > np.log(0.5), said.argmax(axis=1), -1)
            label = np.where(is_given, label, told)
    return averages, label


def _later(done: ReportDone, before: int, total: int, count: int, _: int) -> None:
    done(before + count, total)


def _average(
    start: Float[Tensor, "d d d"],
    volume: Float[Tensor, "b d d d"],
    tilt_range_deg: Float[Tensor, "b 2"],
    spectra: Spectra,
    decoder: UNet,
) -> tuple[Float[Tensor, "g g g"], Float[Tensor, "d d d"]]:
    """Density and outline of the average of centered boxes of one class, from the outline of one of them."""
    # What the search does not look at need not be averaged, but for the last time.
    small = coarse(volume, GRID)
    density = _on_grid(start) - _on_grid(start).mean()
    outline = start
    for cutoff in _CUTOFFS:
        poses = find_poses(density, spectra, search_rotations(), cutoff)
        mean = averaged(volume if cutoff == _CUTOFFS[-1] else small, tilt_range_deg, poses)
        normalized = (mean - mean.mean()) / mean.std().clamp(min=1e-9)
        outline = decoder.centered(normalized[None])[0].sigmoid()
        wide = functional.max_pool3d(outline[None, None], 2 * round(len(mean) / GRID) + 1, 1, round(len(mean) / GRID))
        density = coarse(mean[None], GRID)[0] * _on_grid(wide[0, 0])
    return density, outline


def _on_grid(outline: Float[Tensor, "d d d"]) -> Float[Tensor, "g g g"]:
    return functional.adaptive_avg_pool3d(outline[None, None], GRID)[0, 0]

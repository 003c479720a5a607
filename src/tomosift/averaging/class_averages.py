"""Averages of the particles of each class, and what they say of every particle; `tomosift.averaging.multireference_alignment` finds them.

A single box at SNR 0.1 shows little of its particle; forty of one class, turned onto each other, show its shape. How
well the average of a class fits a box, in its best poses, tells classes apart that embeddings cannot, as those know
nothing of poses. And the outline of an average, laid back into a box, is a better mask of that particle than the box
alone gives.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, nn

from tomosift.averaging.pose_search import (
    COEFFICIENTS,
    GRID,
    Poses,
    WhitenedSpectra,
    place_in_boxes,
    search_poses,
    whiten_spectra,
)
from tomosift.learning.calibration import match_temperature_to_accuracy
from tomosift.models.center_finder import fourier_crop
from tomosift.models.encoder import Encoder, ReadBoxes, ReportDone
from tomosift.models.recentering import recenter
from tomosift.physics.rotation import random_rotations, upsampled

AVERAGES_PER_CLASS = 3
"""Averages of each class, each from another of its particles: what one start gets wrong another may not."""
REFERENCES_PER_CLASS = 2
"""Of these, that are asked what a particle is; masks are made of all of them."""
CANDIDATE_CLASSES = 4
"""Classes that are tried on a particle, the most probable by its embedding."""
LIKELIHOOD_WEIGHT = 0.5
"""Share of the evidence that counts: half, because noise that is not Gaussian makes it look surer than it is."""

_ROTATIONS = 1500  # some 20 degrees apart
_AT_ONCE = 64


@lru_cache(maxsize=1)
def _rotations() -> Float[np.ndarray, "r 3 3"]:
    return np.asarray(random_rotations(_ROTATIONS, torch.Generator().manual_seed(1)))


def search_rotations() -> Float[Tensor, "r 3 3"]:
    """The rotations that are looked through, the same for everyone."""
    return torch.from_numpy(_rotations())


@dataclass(frozen=True)
class AlignmentInput:
    """What a search for poses needs to know of n boxes."""

    offset_zyx_voxels: Int64[Tensor, "n 3"]
    """Where the encoder finds each particle, from the middle of its box."""
    spectra: WhitenedSpectra
    """Of the boxes with their particles in the middle."""


@torch.inference_mode()
def prepare_alignment(
    read: ReadBoxes,
    tilt_range_deg: Float[np.ndarray, "n 2"],
    encoder: Encoder,
    weight: Float[Tensor, " f"] | None = None,
    done: ReportDone | None = None,
) -> AlignmentInput:
    """Look at boxes; spectra are whitened by ``weight`` or, without it, by the mean power of all of them."""
    count, offsets, small = len(tilt_range_deg), [], []
    device = next(encoder.parameters()).device
    for start in range(0, count, _AT_ONCE):
        volume = torch.from_numpy(read(np.arange(start, min(start + _AT_ONCE, count)))).to(device)
        offsets.append(encoder.offset(volume))
        small.append(fourier_crop(recenter(volume, offsets[-1]), GRID).cpu())
        if done is not None:
            done(min(start + _AT_ONCE, count), count)
    tilts = torch.from_numpy(np.asarray(tilt_range_deg, dtype=np.float32))
    return AlignmentInput(
        torch.cat(offsets).cpu(), whiten_spectra(torch.cat(small), tilts, None if weight is None else weight.cpu())
    )


class ClassAverages(nn.Module):
    """Some averages of each of k classes, for boxes of one size; a class that has none is all zeros."""

    density: Tensor
    """(k, s, g, g, g) On the grid of alignment, zero outside the outline."""
    outline: Tensor
    """(k, s, d, d, d) Probability of each voxel of a box to belong to the particle."""
    weight: Tensor
    """(f,) Whitening of the spectra that they were found in."""
    temperature: Tensor
    """Logarithms of probabilities are divided by it after comparing, so that these are calibrated; see `calibrate`."""

    def __init__(self, classes: int, box_size: int) -> None:
        super().__init__()
        self.register_buffer("density", torch.zeros(classes, AVERAGES_PER_CLASS, GRID, GRID, GRID))
        self.register_buffer("outline", torch.zeros(classes, AVERAGES_PER_CLASS, *3 * (box_size,), dtype=torch.float16))
        self.register_buffer("weight", torch.zeros(COEFFICIENTS))
        self.register_buffer("temperature", torch.ones(()))

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

    def reconsidered(
        self, log_probability: Float[np.ndarray, "n k"], spectra: WhitenedSpectra
    ) -> Float[np.ndarray, "n k"]:
        """Logarithms of probabilities after a look at how averages fit.

        The `CANDIDATES` most probable classes of each box are tried. A class that was not keeps its distance to the
        least fitting of those; one that has no average keeps its distance to the best fitting.
        """
        if self.known.sum() < 2 or not len(log_probability):
            return log_probability
        said = log_probability + LIKELIHOOD_WEIGHT * self._evidence(self._candidates(log_probability), spectra)
        said = said / float(self.temperature)
        return np.asarray(said - np.logaddexp.reduce(said, axis=1, keepdims=True))

    def calibrate(
        self,
        log_probability: Float[np.ndarray, "n k"],
        spectra: WhitenedSpectra,
        label: Int[np.ndarray, " m"],
        spared: WhitenedSpectra,
        crossed: Float[np.ndarray, "m k"] | None,
        sure: float | None = None,
    ) -> None:
        """Bring the mean confidence on n particles to the accuracy that m others of known class let expect.

        These took no part in averages, see `tomosift.averaging.multireference_alignment.select_held_out`; ``crossed`` are logarithms of probabilities
        from which the label of each was left out. Without them, as with one label per class, see `_expected`; ``sure``
        is how many of the n the embeddings alone are expected to name right, where anything says so.

        Source: ours; Laplace's rule as in `temperature_of_few`.
        """
        self.temperature = torch.ones(())
        said = self.reconsidered(log_probability, spectra)
        if crossed is None:
            expected = self._expected(log_probability, said, spectra, label, spared, sure)
        else:
            expected = _laplace(self.reconsidered(crossed, spared), label)
        self.temperature = torch.tensor(match_temperature_to_accuracy(said, expected))

    def _expected(
        self,
        log_probability: Float[np.ndarray, "n k"],
        said: Float[np.ndarray, "n k"],
        spectra: WhitenedSpectra,
        label: Int[np.ndarray, " m"],
        spared: WhitenedSpectra,
        sure: float | None,
    ) -> float:
        """Accuracy where labels that are left out leave a class without any: that of names times that of particles.

        A class is named wrongly where its label lies among particles of another. So averages are asked about all
        classes of a labeled particle, which is named by them as often as any particle goes where in the end it is put,
        if only its class has the right name.

        Of particles, averages are taken to say as much again as embeddings do: their odds of being right are those of
        ``sure``, squared, which falls where most of what averages were made of was named wrongly. Where nobody knows
        how sure embeddings may be, particles are put where they belong about as often as the two agree.
        """
        known = self.known.cpu().numpy()
        fit = self._evidence(np.tile(known, (len(said), 1)), spectra)
        if sure is None:
            likely = np.where(self._candidates(log_probability), fit, -np.inf)
            placed = (likely.argmax(axis=1) == log_probability.argmax(axis=1)).mean()
        else:
            placed = sure**2 / (sure**2 + (1 - sure) ** 2)
        consistent = (fit.argmax(axis=1) == said.argmax(axis=1)).mean()
        named = _laplace(self._evidence(np.tile(known, (len(label), 1)), spared), label)
        return float(placed * min(1.0, named / max(consistent, 1e-9)))

    def _candidates(self, log_probability: Float[np.ndarray, "n k"]) -> Bool[np.ndarray, "n k"]:
        known = self.known.cpu().numpy()
        ranked = np.where(known, log_probability, -np.inf)
        candidate = np.zeros(ranked.shape, dtype=bool)
        np.put_along_axis(candidate, np.argsort(-ranked, axis=1)[:, :CANDIDATE_CLASSES], True, axis=1)
        return np.asarray(candidate & known)

    @torch.inference_mode()
    def _evidence(self, candidate: Bool[np.ndarray, "n k"], spectra: WhitenedSpectra) -> Float[np.ndarray, "n k"]:
        """How averages of the candidates fit; other classes have what the least fitting, or the best fitting, has."""
        known = self.known.cpu().numpy()
        evidence = np.full(candidate.shape, np.nan)
        for k in np.flatnonzero(known):
            rows = np.flatnonzero(candidate[:, k])
            poses = self._poses(int(k), spectra.select(torch.from_numpy(rows)), REFERENCES_PER_CLASS)
            each = [one.evidence for one in poses]
            evidence[rows, k] = torch.logsumexp(torch.stack(each), 0).numpy() - np.log(len(each))
        best, least = np.nanmax(evidence, axis=1, keepdims=True), np.nanmin(evidence, axis=1, keepdims=True)
        return np.asarray(np.where(candidate, evidence, np.where(known, least, best)))

    @torch.inference_mode()
    def outlines(
        self, probability: Float[np.ndarray, "n k"], spectra: WhitenedSpectra
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
            for start, poses in enumerate(self._poses(k, spectra.select(rows), AVERAGES_PER_CLASS)):
                made[rows] += (
                    share[:, None, None, None]
                    / AVERAGES_PER_CLASS
                    * place_in_boxes(self.outline[k, start].float().cpu(), poses)
                )
            weight[rows] += share
        return made, weight

    def _poses(self, k: int, spectra: WhitenedSpectra, starts: int) -> list[Poses]:
        return [search_poses(density, spectra, search_rotations()) for density in self.density[k, :starts].cpu()]


_FLATNESS = 3.0
_LEAST_PROBABILITY = 0.05  # of a class after that, for its outline to take part in a mask


def _laplace(said: Float[np.ndarray, "m k"], label: Int[np.ndarray, " m"]) -> float:
    """Accuracy by Laplace's rule: a few dozen labels all called right do not make a particle certain."""
    return float(((said.argmax(axis=1) == label).sum() + 1) / (len(label) + 2))

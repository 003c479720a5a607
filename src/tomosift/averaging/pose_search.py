"""How a reference lies in noisy boxes: all rotations and small shifts at once, as products of matrices.

Boxes are looked at on a grid of `GRID` voxels whatever their size, which holds what boxes of low SNR hold, and only
where their tilts have measured. A reference in many rotations is one matrix of Fourier coefficients, boxes under one
shift are another, and their product holds every correlation.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Complex64, Float, Int64
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tomosift.physics.rotation import rotate
from tomosift.physics.wedge import wedge_mask

GRID = 16
KEPT = 8
"""Poses of each box that are kept, the most probable first; far more than hold any share worth having."""

_AXES = (1, 2, 3)
_NEAR = torch.cat([torch.zeros(1, 3), torch.eye(3), -torch.eye(3)])
_CUBE = torch.cartesian_prod(*[torch.arange(-1.0, 2.0)] * 3)
_FARTHER = torch.cat([_CUBE[_CUBE.abs().sum(1) > 1], 2 * torch.eye(3), -2 * torch.eye(3)])
"""Shifts (zyx) in voxels of `GRID`; picks whose middle was found well need no other than the first."""
_LIKELY = 64
_AT_ONCE = 64  # boxes whose correlations with all rotations are in memory at a time
_LEAST_SHARE = 0.05  # of a pose, to take part in an average
_REGULARIZATION = 0.05  # of the boxes of an average, as weight on zero where few have measured


@dataclass(frozen=True)
class Poses:
    """The most probable poses of a reference in each of b boxes."""

    rotation: Float[Tensor, "b p 3 3"]
    """Takes the reference into the box (zyx column vectors)."""
    shift_zyx: Float[Tensor, "b p 3"]
    """Of the reference from the middle of the box, in voxels of `GRID`."""
    share: Float[Tensor, "b p"]
    """How probable each is among those that are kept."""
    log_likelihood: Float[Tensor, " b"]
    """Log likelihood ratio of the reference in any pose, and of any strength, to noise alone."""


@dataclass(frozen=True)
class WhitenedSpectra:
    """Whitened Fourier coefficients of boxes on `GRID`, half of the sphere that they fill."""

    coefficient: Complex64[Tensor, "b f"]
    """Of unit mean power, zero where not measured."""
    measured: Float[Tensor, "b f"]
    weight: Float[Tensor, " f"]
    """What coefficients were multiplied with, the inverse root of their mean power in shells."""

    def __len__(self) -> int:
        return len(self.coefficient)

    def select(self, rows: Tensor) -> "WhitenedSpectra":
        """Those of these rows."""
        return WhitenedSpectra(self.coefficient[rows], self.measured[rows], self.weight)


@lru_cache(maxsize=1)
def _geometry() -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Coefficients of the rfftn layout that are kept, and the frequency (zyx, in 1 / edge) of each."""
    full, half = np.fft.fftfreq(GRID, 1 / GRID), np.arange(GRID // 2 + 1)
    z, y, x = np.meshgrid(full, full, half, indexing="ij")
    first_of_two = (x > 0) | (y > 0) | ((y == 0) & (z > 0))
    kept = first_of_two & (z**2 + y**2 + x**2 < (GRID // 2) ** 2)
    return kept, np.stack([z[kept], y[kept], x[kept]]).astype(np.float32)


COEFFICIENTS = int(_geometry()[0].sum())
"""Of the half sphere, for each box."""


def _ball() -> Float[Tensor, "g g g"]:
    axis = torch.arange(GRID) - GRID // 2
    radius = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()
    return torch.sigmoid(2 * (GRID // 2 - 1 - radius))


def _coefficients(small: Float[Tensor, "b g g g"]) -> Complex64[Tensor, "b f"]:
    kept = torch.from_numpy(_geometry()[0])
    spectrum: Tensor = torch.fft.rfftn(torch.fft.ifftshift(small, dim=_AXES), dim=_AXES)
    return spectrum[:, kept]


def _turned(
    reference: Float[Tensor, "g g g"], rotations: Float[Tensor, "r 3 3"], frequency_zyx: Float[Tensor, "3 f"]
) -> Complex64[Tensor, "r f"]:
    """Fourier coefficients at these frequencies of a reference in many rotations, read from one finer spectrum.

    Trilinear in Fourier space on twice the box; what that fades toward the border of the box is made up for beforehand.
    """
    fine, margin = 2 * GRID, GRID // 2
    fade = torch.sinc((torch.arange(GRID) - GRID // 2) / fine).square()
    even = reference / (fade[:, None, None] * fade[:, None] * fade)
    wide = torch.fft.ifftshift(functional.pad(even, (margin,) * 6), dim=(0, 1, 2))
    spectrum = torch.fft.fftshift(torch.fft.fftn(wide), dim=(0, 1, 2))
    # One more plane on each axis, where the first comes round again.
    parts = functional.pad(torch.view_as_real(spectrum).permute(3, 0, 1, 2)[None], (0, 1) * 3, mode="circular")
    # A reference turned by R has at k what it had at R^T k; a frequency of one is two fine voxels.
    place = frequency_zyx.T @ rotations
    grid = (place.flip(-1) * (2 / GRID))[None, :, :, None]
    found = functional.grid_sample(parts, grid, align_corners=True)[0, ..., 0]
    return torch.complex(found[0], found[1])


def wedge_coefficients(tilt_range_deg: Float[Tensor, "b 2"]) -> Float[Tensor, "b f"]:
    """One for coefficients that lie within the tilts of each box, zero for others."""
    ranges, which = torch.unique(tilt_range_deg, dim=0, return_inverse=True)
    return wedge_mask(GRID, ranges)[:, torch.from_numpy(_geometry()[0])][which]


def whiten_spectra(
    small: Float[Tensor, "b g g g"], tilt_range_deg: Float[Tensor, "b 2"], weight: Float[Tensor, " f"] | None = None
) -> WhitenedSpectra:
    """Spectra of boxes on `GRID`, whitened by ``weight`` or by their mean power in shells, which is mostly noise."""
    ball = _ball()
    coefficient = torch.cat([_coefficients(part * ball) for part in torch.split(small, _AT_ONCE)])
    measured = wedge_coefficients(tilt_range_deg)
    weight = _whitening(coefficient, measured) if weight is None else weight
    return WhitenedSpectra(coefficient * weight * measured, measured, weight)


def _whitening(coefficient: Complex64[Tensor, "b f"], measured: Float[Tensor, "b f"]) -> Float[Tensor, " f"]:
    shell = torch.from_numpy(np.linalg.norm(_geometry()[1], axis=0).round().astype(np.int64))
    zero = torch.zeros(GRID)
    power = zero.index_add(0, shell, (coefficient.abs().square() * measured).sum(0))
    count = zero.index_add(0, shell, measured.sum(0))
    return (count.clamp(min=1) / power.clamp(min=1e-20)).sqrt()[shell]


def search_poses(
    reference: Float[Tensor, "g g g"],
    boxes: WhitenedSpectra,
    rotations: Float[Tensor, "r 3 3"],
    cutoff: float = GRID / 2,
) -> Poses:
    """The most probable poses of a reference in each box, by frequencies up to ``cutoff`` (in 1 / edge).

    All rotations are tried with no shift and one by a voxel along each axis, the `_LIKELY` best of them with others as
    well. Noise is taken as Gaussian and white after whitening, the strength of the reference in each box as free; the
    log likelihood of a pose is then the square of its normalized correlation, as far as that is positive.

    Source: constrained cross-correlation after Förster et al. 2008, "Classification of cryo-electron sub-tomograms
    using constrained correlation"; probabilities of poses after Scheres et al. 2009, "Averaging of electron
    subtomograms and random conical tilt reconstructions through likelihood optimization", Structure 17. Shares are of
    the `KEPT` best.
    """
    frequency = torch.from_numpy(_geometry()[1])
    near = frequency.square().sum(0) < cutoff**2
    turned = _turned(reference * _ball(), rotations, frequency[:, near]) * boxes.weight[near]
    shifts = torch.cat([_NEAR, _FARTHER])
    search = _Search(
        torch.view_as_real(turned).flatten(1),
        turned.abs().square().T,
        torch.exp(2j * math.pi / GRID * (shifts @ frequency[:, near])),
    )
    parts = zip(*(torch.split(each, _AT_ONCE) for each in (boxes.coefficient, boxes.measured)), strict=True)
    # Choosing columns copies, and all of them are chosen most of the time.
    found = [
        search.best_of(*part) if near.all() else search.best_of(*(each[:, near] for each in part)) for part in parts
    ]
    likelihood, rotation, shift, evidence = (torch.cat(part) for part in zip(*found, strict=True))
    return Poses(rotations[rotation], shifts[shift], torch.softmax(likelihood, 1), evidence)


@dataclass(frozen=True)
class _Search:
    """A reference in all rotations, ready to be compared with boxes."""

    references: Float[Tensor, "r g"]
    """Real and imaginary parts in turn."""
    power: Float[Tensor, "f r"]
    moves: Complex64[Tensor, "t f"]
    """What takes a shift out of a box."""

    def best_of(
        self, coefficient: Complex64[Tensor, "b f"], measured: Float[Tensor, "b f"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log likelihood, rotation and shift of the `KEPT` best poses of each box, and the evidence."""
        near, count = len(_NEAR), len(self.references)
        norm = (measured @ self.power).sqrt().clamp(min=1e-9)
        first = torch.stack([_real(coefficient * move) @ self.references.T / norm for move in self.moves[:near]], 1)
        likely = first.amax(1).topk(min(_LIKELY, count), dim=1).indices
        moved = _real((coefficient[:, None] * self.moves[near:]).flatten(0, 1))
        moved = moved.reshape(len(coefficient), len(_FARTHER), self.references.shape[1])
        # Box by box the likely references stay in the processor's cache; those of all boxes at once do not.
        second = torch.empty(len(moved), len(_FARTHER), likely.shape[1])
        for one, rows, into in zip(moved, likely, second, strict=True):
            torch.mm(one, self.references[rows].T, out=into)
        second /= norm.gather(1, likely)[:, None]
        likelihood = torch.cat([first.flatten(1), second.flatten(1)], 1).clamp(min=0).square()
        kept, best = likelihood.topk(KEPT, dim=1)
        later = (best - near * count).clamp(min=0)
        is_first, width = best < near * count, likely.shape[1]
        rotation = torch.where(is_first, best % count, likely.gather(1, later % width))
        shift = torch.where(is_first, best // count, near + later // width)
        return kept, rotation, shift, torch.logsumexp(likelihood, 1) - math.log(likelihood.shape[1])


def _real(coefficient: Complex64[Tensor, "b f"]) -> Float[Tensor, "b g"]:
    return torch.view_as_real(coefficient).flatten(1)


def average_aligned(
    volume: Float[Tensor, "b d d d"], tilt_range_deg: Float[Tensor, "b 2"], poses: Poses
) -> Float[Tensor, "d d d"]:
    """Mean of boxes turned back onto the reference, each coefficient over those that have measured it."""
    size = volume.shape[-1]
    total = torch.zeros(size, size, size // 2 + 1, dtype=torch.complex64)
    weight = torch.zeros(size, size, size // 2 + 1)
    for rotation, shift, share in zip(
        poses.rotation.unbind(1), poses.shift_zyx.unbind(1), poses.share.unbind(1), strict=True
    ):
        for rows in _in_parts(share > _LEAST_SHARE):
            back = rotation[rows].mT
            moved = -(back @ shift[rows, :, None])[..., 0] * (size / GRID)
            counts = wedge_mask(size, tilt_range_deg[rows], back) * share[rows, None, None, None]
            total += (torch.fft.rfftn(rotate(volume[rows], back, moved), dim=_AXES) * counts).sum(0)
            weight += counts.sum(0)
    mean: Tensor = torch.fft.irfftn(total / (weight + _REGULARIZATION * len(volume)), s=(size, size, size))
    return mean


def place_in_boxes(density: Float[Tensor, "d d d"], poses: Poses) -> Float[Tensor, "b d d d"]:
    """A density as it lies in each box: the mean over the poses by their shares."""
    scale = density.shape[-1] / GRID
    shown = torch.zeros(len(poses.share), *density.shape)
    for rotation, shift, share in zip(
        poses.rotation.unbind(1), poses.shift_zyx.unbind(1), poses.share.unbind(1), strict=True
    ):
        for rows in _in_parts(share > _LEAST_SHARE):
            turned = rotate(density.expand(len(rows), -1, -1, -1), rotation[rows], shift[rows] * scale)
            shown[rows] += share[rows, None, None, None] * turned
    return shown


def _in_parts(chosen: Bool[Tensor, " b"]) -> tuple[Int64[Tensor, " r"], ...]:
    rows = chosen.nonzero()[:, 0]
    return torch.split(rows, _AT_ONCE) if len(rows) else ()

"""The classic way, as an upper reference of the benchmark: constrained cross-correlation with the true structures."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Complex64, Float
from numpy.typing import NDArray
from torch import Tensor

from tomosift.data.subtomograms import Subtomograms
from tomosift.physics.imaging import ImagingRanges
from tomosift.simulate.crowding import prepare_templates
from tomosift.simulate.structures.densities import template
from tomosift.simulate.subtomograms import simulate_batch

_EXTENT_ANGSTROM = 480.0
_AT_ONCE = 256


def template_bank(
    sources: Sequence[str], ranges: ImagingRanges, voxel_spacing_angstrom: float, box_size: int, poses: int
) -> Complex64[Tensor, "k p f"]:
    """Spectra of every structure in random poses, imaged without noise, at half the sampling of the boxes.

    Tilt range, contrast transfer and envelope are those of ``ranges``; poses are uniform over all rotations and the
    same for every structure. Each spectrum has unit norm and no mean, so that a correlation with it is constrained to
    what was measured.
    """
    edge = 2 * round(0.5 * _EXTENT_ANGSTROM / voxel_spacing_angstrom)
    densities = torch.stack([template(source, voxel_spacing_angstrom, edge) for source in sources])
    prepared = prepare_templates(densities, voxel_spacing_angstrom)
    spacing = (voxel_spacing_angstrom, voxel_spacing_angstrom)
    clean = replace(ranges, has_noise=False, shift_voxels=(0.0, 0.0), scale=(1.0, 1.0), voxel_spacing_angstrom=spacing)
    bank = []
    for label in range(len(sources)):
        generator = torch.Generator().manual_seed(0)
        parts = []
        for start in range(0, poses, _AT_ONCE):
            labels = torch.full((min(_AT_ONCE, poses - start),), label)
            batch = simulate_batch(prepared, labels, clean, generator, box_size=box_size, max_neighbors=0)
            parts.append(_halved(batch.volume))
        spectra = torch.cat(parts).flatten(1)
        bank.append(spectra / _norm(spectra, box_size // 2)[:, None])
    return torch.stack(bank)


@torch.inference_mode()
def match_templates(
    boxes: Subtomograms, bank: Complex64[Tensor, "k p f"], farthest_voxels: int
) -> Float[np.ndarray, "n k"]:
    """The best correlation of each box with each structure, over the poses of the bank and over shifts.

    Source: Förster et al. 2008, "Classification of cryo-electron sub-tomograms using constrained correlation". The
    template alone carries the missing wedge here: what lies in the wedge of the box is zero or noise of no template.
    """
    size = boxes.box_size // 2
    reach = min(size // 2 - 1, (farthest_voxels + 1) // 2)
    near = torch.arange(-reach, reach + 1) % size
    scores = []
    for rows in _batches(len(boxes)):
        spectra = _halved(torch.from_numpy(boxes.volumes(rows))).flatten(1)
        for spectrum in spectra / _norm(spectra, size)[:, None]:
            best = []
            for posed in bank:
                product = (spectrum * posed.conj()).reshape(len(posed), size, size, size // 2 + 1)
                correlation = torch.fft.irfftn(product, s=(size,) * 3, dim=(1, 2, 3))
                best.append(correlation[:, near][:, :, near][:, :, :, near].amax())
            scores.append(torch.stack(best))
    # Unitary, so that a box correlates with itself to 1.
    return (torch.stack(scores) * size**3).numpy()


def _batches(n: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, n, _AT_ONCE):
        yield np.arange(start, min(start + _AT_ONCE, n))


def _halved(volume: Float[Tensor, "b d d d"]) -> Complex64[Tensor, "b e e h"]:
    """Spectrum up to half of Nyquist, laid out for boxes of half the edge, without the mean."""
    size = volume.shape[-1]
    half = size // 2
    kept = torch.fft.fftfreq(half, 1 / half).long()
    spectrum: Tensor = torch.fft.rfftn(volume.float(), dim=(1, 2, 3))
    low = spectrum[:, kept][:, :, kept][..., : half // 2 + 1].clone()
    low[:, 0, 0, 0] = 0
    return low


def _norm(spectrum: Complex64[Tensor, "b f"], size: int) -> Float[Tensor, " b"]:
    """Norm of the boxes that these half spectra stand for, over all frequencies."""
    weight = torch.full((size // 2 + 1,), 2.0)
    weight[0] = 1.0
    if size % 2 == 0:
        weight[-1] = 1.0
    power = spectrum.abs().square().reshape(len(spectrum), -1, size // 2 + 1)
    total: Tensor = (power * weight).sum(dim=(1, 2))
    return total.clamp(min=1e-20).sqrt()

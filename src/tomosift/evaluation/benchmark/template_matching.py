"""Template matching with the true structures by constrained cross-correlation: the oracle of the benchmark."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Complex64, Float
from numpy.typing import NDArray
from torch import Tensor

from tomosift.data.subtomogram_set import Subtomograms
from tomosift.physics.imaging import ImagingRanges
from tomosift.simulation.batch import simulate_batch
from tomosift.simulation.crowding import prepare_templates
from tomosift.simulation.structures.densities import template

_EXTENT_ANGSTROM = 480.0
_CHUNK = 256


def template_bank(
    structures: Sequence[str], ranges: ImagingRanges, voxel_spacing_angstrom: float, box_size: int, rotations: int
) -> Complex64[Tensor, "k p f"]:
    """Compute spectra of structures in random orientations, imaged without noise, at half the sampling of the boxes.

    Parameters
    ----------
    structures
        Names of the atlas, structure files or map files.
    ranges
        Tilt range, CTF and envelope.
    voxel_spacing_angstrom, box_size
        Of the subtomograms to match.
    rotations
        Number of orientations, uniform over all rotations and the same for every structure.

    Returns
    -------
    Tensor
        Each spectrum has unit norm and no mean, so that a correlation with it is constrained to what was measured.
    """
    edge = 2 * round(0.5 * _EXTENT_ANGSTROM / voxel_spacing_angstrom)
    densities = torch.stack([template(name, voxel_spacing_angstrom, edge) for name in structures])
    prepared = prepare_templates(densities, voxel_spacing_angstrom)
    spacing = (voxel_spacing_angstrom, voxel_spacing_angstrom)
    clean = replace(ranges, has_noise=False, shift_voxels=(0.0, 0.0), scale=(1.0, 1.0), voxel_spacing_angstrom=spacing)
    bank = []
    for label in range(len(structures)):
        generator = torch.Generator().manual_seed(0)
        parts = []
        for start in range(0, rotations, _CHUNK):
            labels = torch.full((min(_CHUNK, rotations - start),), label)
            batch = simulate_batch(prepared, labels, clean, generator, box_size=box_size, max_neighbors=0)
            parts.append(_crop_spectrum(batch.volume))
        spectra = torch.cat(parts).flatten(1)
        bank.append(spectra / _norm(spectra, box_size // 2)[:, None])
    return torch.stack(bank)


@torch.inference_mode()
def match_templates(
    subtomograms: Subtomograms, bank: Complex64[Tensor, "k p f"], max_shift_voxels: int
) -> Float[np.ndarray, "n k"]:
    """Compute the highest correlation of each subtomogram with each structure, over rotations and shifts.

    Parameters
    ----------
    subtomograms
        Set of n subtomograms.
    bank
        Result of `template_bank`.
    max_shift_voxels
        Largest shift along each axis.

    Source: Förster et al. 2008, "Classification of cryo-electron sub-tomograms using constrained correlation".
    Deviation: the missing wedge is applied to the templates alone, because in a subtomogram it is zero or holds noise
    without a counterpart in any template.
    """
    size = subtomograms.box_size // 2
    reach = min(size // 2 - 1, (max_shift_voxels + 1) // 2)
    near = torch.arange(-reach, reach + 1) % size
    scores = []
    for rows in _batches(len(subtomograms)):
        spectra = _crop_spectrum(torch.from_numpy(subtomograms.volumes(rows))).flatten(1)
        for spectrum in spectra / _norm(spectra, size)[:, None]:
            best = []
            for templates in bank:
                product = (spectrum * templates.conj()).reshape(len(templates), size, size, size // 2 + 1)
                correlation = torch.fft.irfftn(product, s=(size,) * 3, dim=(1, 2, 3))
                best.append(correlation[:, near][:, :, near][:, :, :, near].amax())
            scores.append(torch.stack(best))
    # Unitary, so that a subtomogram correlates with itself to 1.
    return (torch.stack(scores) * size**3).numpy()


def _batches(n: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, n, _CHUNK):
        yield np.arange(start, min(start + _CHUNK, n))


def _crop_spectrum(volume: Float[Tensor, "b d d d"]) -> Complex64[Tensor, "b e e h"]:
    """Return the spectrum up to half of Nyquist, laid out for boxes of half the edge, without the mean."""
    size = volume.shape[-1]
    half = size // 2
    kept = torch.fft.fftfreq(half, 1 / half).long()
    spectrum: Tensor = torch.fft.rfftn(volume.float(), dim=(1, 2, 3))
    low = spectrum[:, kept][:, :, kept][..., : half // 2 + 1].clone()
    low[:, 0, 0, 0] = 0
    return low


def _norm(spectrum: Complex64[Tensor, "b f"], size: int) -> Float[Tensor, " b"]:
    """Return the norm, over all frequencies, of the volumes of these half spectra."""
    weight = torch.full((size // 2 + 1,), 2.0)
    weight[0] = 1.0
    if size % 2 == 0:
        weight[-1] = 1.0
    power = spectrum.abs().square().reshape(len(spectrum), -1, size // 2 + 1)
    total: Tensor = (power * weight).sum(dim=(1, 2))
    return total.clamp(min=1e-20).sqrt()

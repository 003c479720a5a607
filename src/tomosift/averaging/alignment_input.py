"""What a pose search needs of subtomograms: their centers, and whitened spectra of the recentered volumes."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tomosift.averaging.whitened_spectra import GRID, WhitenedSpectra, whiten_spectra
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.models.center_finder import fourier_crop
from tomosift.models.embedder import Embedder
from tomosift.models.recentering import recenter
from tomosift.progress import Progress, ignore_progress

_BATCH_SIZE = 64


@dataclass(frozen=True, eq=False)
class AlignmentInput:
    """What a pose search needs of n subtomograms."""

    offset_zyx_voxels: Int64[Tensor, "n 3"]
    """Estimated center of each particle, from the center of its box."""
    spectra: WhitenedSpectra
    """Of the recentered subtomograms."""


@torch.inference_mode()
def align_volumes(
    embedder: Embedder,
    volume: Float[Tensor, "n d d d"],
    tilt_range_deg: Float[np.ndarray, "n 2"],
    weight: Float[Tensor, " f"] | None = None,
) -> AlignmentInput:
    """Prepare subtomograms in memory for alignment; see `prepare_alignment`."""
    offset = embedder.estimate_offsets(volume)
    small = fourier_crop(recenter(volume, offset), GRID).cpu()
    tilts = torch.from_numpy(np.asarray(tilt_range_deg, dtype=np.float32))
    return AlignmentInput(offset.cpu(), whiten_spectra(small, tilts, None if weight is None else weight.cpu()))


@torch.inference_mode()
def prepare_alignment(
    embedder: Embedder,
    subtomograms: Subtomograms,
    weight: Float[Tensor, " f"] | None = None,
    progress: Progress = ignore_progress,
) -> AlignmentInput:
    """Recenter subtomograms and compute their whitened spectra.

    Parameters
    ----------
    embedder
        Estimates the centers.
    subtomograms
        Set of n subtomograms.
    weight
        Whitening weight of each Fourier coefficient; None computes it from the mean power of all n.
    progress
        Called with the number of prepared subtomograms.
    """
    count = len(subtomograms)
    offsets, small = [], []
    for start in range(0, count, _BATCH_SIZE):
        rows = np.arange(start, min(start + _BATCH_SIZE, count))
        volume = torch.from_numpy(subtomograms.volumes(rows)).to(embedder.device)
        offsets.append(embedder.estimate_offsets(volume))
        small.append(fourier_crop(recenter(volume, offsets[-1]), GRID).cpu())
        progress(int(rows[-1]) + 1, count)
    tilts = torch.from_numpy(np.asarray(subtomograms.tilt_range_deg, dtype=np.float32))
    spectra = whiten_spectra(torch.cat(small), tilts, None if weight is None else weight.cpu())
    return AlignmentInput(torch.cat(offsets).cpu(), spectra)

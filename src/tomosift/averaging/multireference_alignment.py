"""Multireference alignment: class averages from a few labeled particles, and labels refined by them.

Averages are computed from the current labels; particles are classified by their posterior given the averages; and the
two steps repeat. `tomosift.averaging.class_averages` has the averages themselves.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor
from torch.nn import functional

from tomosift.averaging.alignment_input import AlignmentInput
from tomosift.averaging.class_averages import AVERAGES_PER_CLASS, ClassAverages, search_rotations
from tomosift.averaging.pose_search import average_aligned, search_poses
from tomosift.averaging.whitened_spectra import GRID, WhitenedSpectra
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.models.center_finder import fourier_crop
from tomosift.models.decoders import UNet
from tomosift.models.recentering import recenter
from tomosift.progress import Progress, ignore_progress

MIN_MEMBERS = 10
"""Members of a class from which its average is better than its members one by one."""
MAX_MEMBERS = 100
MIN_CLASSES = 2
"""Class averages from which there is something to compare."""
MAX_HELD_OUT = 10
"""Labeled particles of each class that take no part in averages, so that these can be calibrated on them."""

LOWER_ACCURACY = "class averages classify fewer labeled particles right than embeddings alone; try larger boxes"

MAX_CALIBRATION_PARTICLES = 300
"""Particles of any class that suffice to measure the mean confidence of a classifier."""

ITERATIONS = 2
"""Number of times that averages are computed and particles classified by them."""

_CUTOFFS = (4.0, 5.0, 6.0, 7.0, 8.0)
"""Highest frequency of each alignment, in 1 / edge: orientations are found coarsely first."""


@dataclass(frozen=True, eq=False)
class AlignmentResult:
    """The outcome of multireference alignment for n subtomograms."""

    averages: ClassAverages
    label: Int64[np.ndarray, " n"]
    """Refined labels, -1 where no class is more probable than all others together."""
    is_held_out: Bool[np.ndarray, " n"]
    """Which labeled particles took no part in the averages."""

    @property
    def summary(self) -> dict[str, int | float]:
        """Number of classes with averages, of labeled particles, and the temperature, for a log."""
        return {
            "classes": int(self.averages.has_average.sum()),
            "labeled": int((self.label >= 0).sum()),
            "temperature": float(self.averages.temperature),
        }


def select_held_out(label: Int[np.ndarray, " n"], is_labeled: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Select labeled particles that take no part in averages, so that these classify them as any other particle.

    At most a quarter of the members of a class, and none where the class would keep too few.

    Parameters
    ----------
    label
        Class of each particle, -1 for none.
    is_labeled
        Which of these classes were given by a person.
    """
    held_out = np.zeros(len(label), dtype=bool)
    for k in np.unique(label[is_labeled]):
        rows, count = np.flatnonzero(is_labeled & (label == k)), int((label == k).sum())
        held_out[rows[: max(0, min(MAX_HELD_OUT, count // 4, count - MIN_MEMBERS))]] = True
    return held_out


@torch.inference_mode()
def compute_class_averages(
    subtomograms: Subtomograms,
    alignment: AlignmentInput,
    label: Int[np.ndarray, " n"],
    confidence: Float[np.ndarray, " n"],
    classes: int,
    decoder: UNet,
    progress: Progress = ignore_progress,
    is_held_out: Bool[np.ndarray, " n"] | None = None,
) -> ClassAverages:
    """Compute averages of the classes that have enough of n particles.

    The most confident members of a class are aligned to the mask of one of them, and then to the resulting average,
    with more detail each time. The decoder predicts the mask of an average as it does that of a subtomogram.

    Parameters
    ----------
    subtomograms, alignment
        Set of n subtomograms, and what the pose search needs of them.
    label, confidence
        Class of each, -1 for none, and how confident the label is.
    classes
        Number of classes.
    decoder
        Predicts masks; usually the shipped one.
    progress
        Called with the number of classes done.
    is_held_out
        Particles that take no part, except that the first reference may be the mask of one.

    Notes
    -----
    Source: ours; the loop is that of reference-free subtomogram averaging, with poses weighted by their probability as
    in Scheres et al. 2009, Structure 17.
    """
    averages = ClassAverages(classes, subtomograms.box_size)
    tilts = torch.from_numpy(np.asarray(subtomograms.tilt_range_deg, dtype=np.float32))
    for k in range(classes):
        members = np.flatnonzero(label == k)
        members = members[np.argsort(-confidence[members], kind="stable")]
        rows = (members if is_held_out is None else members[~is_held_out[members]])[:MAX_MEMBERS]
        if len(rows) >= MIN_MEMBERS:
            volume, first = (
                recenter(torch.from_numpy(subtomograms.volumes(part)), alignment.offset_zyx_voxels[part])
                for part in (rows, members[:AVERAGES_PER_CLASS])
            )
            spectra, tilt_range_deg = alignment.spectra.select(torch.from_numpy(rows)), tilts[rows]
            for start in range(AVERAGES_PER_CLASS):
                mask = decoder.decode_centered(first[start : start + 1])[0].sigmoid()
                averages.density[k, start], averages.mask[k, start] = _align_to_average(
                    mask, volume, tilt_range_deg, spectra, decoder
                )
        progress(k + 1, classes)
    averages.weight.copy_(alignment.spectra.weight)
    return averages


def refine_labels(
    subtomograms: Subtomograms,
    alignment: AlignmentInput,
    label: Int[np.ndarray, " n"],
    is_labeled: Bool[np.ndarray, " n"],
    log_probability: Float[np.ndarray, "n k"],
    decoder: UNet,
    progress: Progress = ignore_progress,
) -> AlignmentResult:
    """Refine labels by multireference alignment; return the labels and the class averages recomputed from them.

    Parameters
    ----------
    subtomograms, alignment
        Set of n subtomograms, and what the pose search needs of them.
    label
        Class of each particle, given by a person or a pseudo-label, -1 for none.
    is_labeled
        Which classes were given by a person; these stay. If all were, averages are computed once.
    log_probability
        Log prior of the classes.
    decoder
        Predicts masks.
    progress
        Called with the number of class averages computed.

    Returns
    -------
    AlignmentResult
        A particle of which no class is more probable than all others together has the label -1. Some labeled particles
        are held out, see `select_held_out`.
    """
    classes, log_posterior = log_probability.shape[1], log_probability
    is_held_out = select_held_out(label, is_labeled)
    iterations = 1 if is_labeled.all() else ITERATIONS
    for iteration in range(iterations):
        own = np.take_along_axis(log_posterior, np.maximum(label, 0)[:, None], axis=1)[:, 0]
        confidence = np.where(is_labeled, np.inf, own)

        def report(done: int, total: int, note: str = "", before: int = iteration * classes) -> None:
            progress(before + done, iterations * total, note)

        averages = compute_class_averages(
            subtomograms, alignment, label, confidence, classes, decoder, report, is_held_out
        )
        if iterations > 1:
            log_posterior = averages.update_posterior(log_probability, alignment.spectra)
            assigned = np.where(log_posterior.max(axis=1) > np.log(0.5), log_posterior.argmax(axis=1), -1)
            label = np.where(is_labeled, label, assigned)
    return AlignmentResult(averages, label, is_held_out)


def lowers_accuracy(
    averages: ClassAverages,
    spectra: WhitenedSpectra,
    label: Int[np.ndarray, " m"],
    out_of_fold: Float[np.ndarray, "m k"],
) -> bool:
    """Whether averages classify fewer of m labeled particles right than embeddings alone; one fewer may be chance.

    It happens where particles fill their boxes, so that their masks show nothing. The parameters are those of
    `ClassAverages.calibrate`.
    """
    before, after = (
        int((scores.argmax(axis=1) == label).sum())
        for scores in (out_of_fold, averages.update_posterior(out_of_fold, spectra))
    )
    return after < before - 1


def _align_to_average(
    mask: Float[Tensor, "d d d"],
    volume: Float[Tensor, "b d d d"],
    tilt_range_deg: Float[Tensor, "b 2"],
    spectra: WhitenedSpectra,
    decoder: UNet,
) -> tuple[Float[Tensor, "g g g"], Float[Tensor, "d d d"]]:
    """Density and mask of the average of recentered subtomograms of one class, from the mask of one of them."""
    # Frequencies that the search does not use are averaged the last time only.
    small = fourier_crop(volume, GRID)
    density = _downsample(mask) - _downsample(mask).mean()
    for cutoff in _CUTOFFS:
        poses = search_poses(density, spectra, search_rotations(), cutoff)
        mean = average_aligned(volume if cutoff == _CUTOFFS[-1] else small, tilt_range_deg, poses)
        normalized = (mean - mean.mean()) / mean.std().clamp(min=1e-9)
        mask = decoder.decode_centered(normalized[None])[0].sigmoid()
        margin = round(len(mean) / GRID)
        wide = functional.max_pool3d(mask[None, None], 2 * margin + 1, 1, margin)
        density = fourier_crop(mean[None], GRID)[0] * _downsample(wide[0, 0])
    return density, mask


def _downsample(mask: Float[Tensor, "d d d"]) -> Float[Tensor, "g g g"]:
    """A mask on the grid of alignment."""
    return functional.adaptive_avg_pool3d(mask[None, None], GRID)[0, 0]

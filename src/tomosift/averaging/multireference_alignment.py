"""How averages of classes are found from a few named particles: turned onto each other, and named again by the result.

What averages are and what they say is in `tomosift.averaging.class_averages`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tomosift.averaging.class_averages import (
    AVERAGES_PER_CLASS,
    AlignmentInput,
    ClassAverages,
    search_rotations,
)
from tomosift.averaging.pose_search import GRID, WhitenedSpectra, average_aligned, search_poses
from tomosift.models.center_finder import fourier_crop
from tomosift.models.decoders import UNet
from tomosift.models.encoder import ReadBoxes, ReportDone
from tomosift.models.recentering import recenter

MIN_MEMBERS = 10
"""Particles of a class from which an average says more than they do one by one."""
MAX_MEMBERS = 100
MIN_CLASSES = 2
"""Averages from which there is something to compare."""
MAX_HELD_OUT = 10
"""Labeled particles of each class that are left out of averages, to be asked how far these are to be trusted."""

LOWER_ACCURACY = "they name fewer of the labeled particles right than embeddings alone; larger boxes may help"

MAX_CALIBRATION_PARTICLES = 300
"""Particles of any kind that are enough to say how sure averages make a classifier."""

ITERATIONS = 2
"""Times that averages are made and particles named by them."""

_CUTOFFS = (4.0, 5.0, 6.0, 7.0, 8.0)
"""Highest frequency of each round, in 1 / edge: orientations are found coarsely first."""


@dataclass(frozen=True)
class AlignmentResult:
    """What averages told of n boxes."""

    averages: ClassAverages
    label: Int64[np.ndarray, " n"]
    """As given or after a look at the averages, -1 where no class is more probable than all others together."""
    is_spared: Bool[np.ndarray, " n"]
    """Which of the labeled ones took no part in the averages."""

    @property
    def summary(self) -> dict[str, int | float]:
        """For a log: how many classes have averages, how many boxes have a label, and how sure averages may be."""
        made = self.averages
        found = int((self.label >= 0).sum())
        return {"classes": int(made.known.sum()), "labeled": found, "temperature": float(made.temperature)}


def select_held_out(label: Int[np.ndarray, " n"], is_given: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Which labeled particles are left out of averages, so that these can be asked about them as about any other.

    At most a quarter of those of a class, and none where it would be left with too few.
    """
    left = np.zeros(len(label), dtype=bool)
    for k in np.unique(label[is_given]):
        rows, count = np.flatnonzero(is_given & (label == k)), int((label == k).sum())
        left[rows[: max(0, min(MAX_HELD_OUT, count // 4, count - MIN_MEMBERS))]] = True
    return left


@torch.inference_mode()
def compute_class_averages(
    read: ReadBoxes,
    tilt_range_deg: Float[np.ndarray, "n 2"],
    seen: AlignmentInput,
    label: Int[np.ndarray, " n"],
    surety: Float[np.ndarray, " n"],
    classes: int,
    decoder: UNet,
    done: ReportDone | None = None,
    is_spared: Bool[np.ndarray, " n"] | None = None,
) -> ClassAverages:
    """Averages of the classes that have enough of n boxes, -1 in ``label`` for those of no class.

    The surest particles of a class are turned onto the outline of one of them, and onto what comes of that, with more
    detail each time; the decoder outlines averages as it does boxes. ``surety`` says how sure labels are. Of those
    that are spared only the outline may be taken.

    Source: ours; the loop is that of subtomogram averaging without a reference, poses weighed by their probability as
    in Scheres et al. 2009, Structure 17.
    """
    made = ClassAverages(classes, read(np.arange(1)).shape[-1])
    tilts = torch.from_numpy(np.asarray(tilt_range_deg, dtype=np.float32))
    for k in range(classes):
        surest = np.flatnonzero(label == k)
        surest = surest[np.argsort(-surety[surest], kind="stable")]
        rows = (surest if is_spared is None else surest[~is_spared[surest]])[:MAX_MEMBERS]
        if len(rows) >= MIN_MEMBERS:
            volume, first = (
                recenter(torch.from_numpy(read(part)), seen.offset_zyx_voxels[part])
                for part in (rows, surest[:AVERAGES_PER_CLASS])
            )
            spectra, mine = seen.spectra.select(torch.from_numpy(rows)), tilts[rows]
            for start in range(AVERAGES_PER_CLASS):
                outline = decoder.centered(first[start : start + 1])[0].sigmoid()
                made.density[k, start], made.outline[k, start] = _average(outline, volume, mine, spectra, decoder)
        if done is not None:
            done(k + 1, classes)
    made.weight.copy_(seen.spectra.weight)
    return made


def refine_labels(
    read: ReadBoxes,
    tilt_range_deg: Float[np.ndarray, "n 2"],
    seen: AlignmentInput,
    label: Int[np.ndarray, " n"],
    is_given: Bool[np.ndarray, " n"],
    log_probability: Float[np.ndarray, "n k"],
    decoder: UNet,
    done: ReportDone | None = None,
) -> AlignmentResult:
    """Labels of n boxes after a look at averages of what they were labeled before, and averages of the new labels.

    Those that were given stay, and where all were, that is all; a particle of which no class is more probable than all
    others together gets -1. Some that were given are spared, see `spared`.
    """
    classes, said = log_probability.shape[1], log_probability
    is_spared = select_held_out(label, is_given)
    rounds = 1 if is_given.all() else ITERATIONS
    for turn in range(rounds):
        surety = np.where(is_given, np.inf, np.take_along_axis(said, np.maximum(label, 0)[:, None], axis=1)[:, 0])
        step = None if done is None else partial(_later, done, turn * classes, rounds * classes)
        averages = compute_class_averages(read, tilt_range_deg, seen, label, surety, classes, decoder, step, is_spared)
        if rounds > 1:
            said = averages.reconsidered(log_probability, seen.spectra)
            told = np.where(said.max(axis=1) > np.log(0.5), said.argmax(axis=1), -1)
            label = np.where(is_given, label, told)
    return AlignmentResult(averages, label, is_spared)


@runtime_checkable
class SubtomogramSource(Protocol):
    """What is asked of a set of particles."""

    @property
    def tilt_range_deg(self) -> Float[np.ndarray, "n 2"]:
        """Lowest and highest tilt of each."""

    def volumes(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Boxes of these rows."""


def lower_accuracy(
    averages: ClassAverages, spectra: WhitenedSpectra, label: Int[np.ndarray, " m"], crossed: Float[np.ndarray, "m k"]
) -> bool:
    """Whether averages name fewer of m labeled particles right than embeddings alone; one fewer may be chance.

    See `ClassAverages.calibrate` for what these particles and ``crossed`` are. It happens where particles fill their
    boxes, so that nothing can be told from their outlines.
    """
    before, after = (
        int((said.argmax(axis=1) == label).sum()) for said in (crossed, averages.reconsidered(crossed, spectra))
    )
    return after < before - 1


def _later(done: ReportDone, before: int, total: int, count: int, _: int) -> None:
    done(before + count, total)


def _average(
    start: Float[Tensor, "d d d"],
    volume: Float[Tensor, "b d d d"],
    tilt_range_deg: Float[Tensor, "b 2"],
    spectra: WhitenedSpectra,
    decoder: UNet,
) -> tuple[Float[Tensor, "g g g"], Float[Tensor, "d d d"]]:
    """Density and outline of the average of centered boxes of one class, from the outline of one of them."""
    # What the search does not look at need not be averaged, but for the last time.
    small = fourier_crop(volume, GRID)
    density = _on_grid(start) - _on_grid(start).mean()
    outline = start
    for cutoff in _CUTOFFS:
        poses = search_poses(density, spectra, search_rotations(), cutoff)
        mean = average_aligned(volume if cutoff == _CUTOFFS[-1] else small, tilt_range_deg, poses)
        normalized = (mean - mean.mean()) / mean.std().clamp(min=1e-9)
        outline = decoder.centered(normalized[None])[0].sigmoid()
        wide = functional.max_pool3d(outline[None, None], 2 * round(len(mean) / GRID) + 1, 1, round(len(mean) / GRID))
        density = fourier_crop(mean[None], GRID)[0] * _on_grid(wide[0, 0])
    return density, outline


def _on_grid(outline: Float[Tensor, "d d d"]) -> Float[Tensor, "g g g"]:
    return functional.adaptive_avg_pool3d(outline[None, None], GRID)[0, 0]

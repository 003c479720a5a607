"""Shared fixtures."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tomosift.averaging import class_averages, multireference_alignment
from tomosift.conventions import UNLABELED
from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.particles import Particles
from tomosift.physics.rotation import random_rotations

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real files (TOMOSIFT_TEST_DATA or ../shared/data), or a skip with the reason."""
    folder = Path(os.environ.get("TOMOSIFT_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "MANIFEST.csv").exists():
        pytest.skip(f"no real files at {folder}; set TOMOSIFT_TEST_DATA to the folder that holds MANIFEST.csv")
    return folder


@pytest.fixture(scope="module")
def few_rotations() -> Iterator[None]:
    """Pose searches try 600 rotations, some 27 degrees apart, instead of 1,500: enough for smooth particles."""
    rotations = random_rotations(600, torch.Generator().manual_seed(1))
    with pytest.MonkeyPatch.context() as patch:
        for module in (class_averages, multireference_alignment):
            patch.setattr(module, "search_rotations", lambda: rotations)
        yield


@pytest.fixture(scope="session")
def write_subtomograms() -> Callable[..., Subtomograms]:
    """The function that writes subtomograms in memory as a set and opens it; see `_write_subtomograms`."""
    return _write_subtomograms


def _write_subtomograms(
    folder: Path,
    volume: NDArray[Any] | torch.Tensor,
    label: NDArray[Any] | Sequence[int] | None = None,
    class_names: Sequence[str] | None = None,
    voxel_spacing_angstrom: float = 10.0,
    tilt_range_deg: NDArray[Any] | tuple[float, float] = (-60.0, 60.0),
    tomogram: Sequence[str] | None = None,
    masks: NDArray[np.bool_] | None = None,
) -> Subtomograms:
    """Write subtomograms as a set of its own and open it.

    Parameters
    ----------
    folder
        Of the set; made if absent.
    volume
        ``(n, d, d, d)`` in zyx. The set stores float16 with zero mean and unit variance.
    label
        ``(n,)`` index into ``class_names``, -1 where unlabeled; None leaves all unlabeled.
    class_names
        Names of the classes; None names them ``class-0``, ``class-1`` ...
    voxel_spacing_angstrom
        Edge of a voxel.
    tilt_range_deg
        ``(n, 2)`` lowest and highest tilt angle, or ``(2,)`` for all.
    tomogram
        (n,) names; None puts all particles into ``TS_01``.
    masks
        ``(n, d, d, d)`` voxels of each particle; None writes a set without masks.
    """
    boxes, count = np.asarray(volume), len(volume)
    labels = np.full(count, UNLABELED) if label is None else np.asarray(label)
    names = tuple(f"class-{k}" for k in range(labels.max(initial=-1) + 1)) if class_names is None else class_names
    particles = Particles.create(
        ["TS_01"] * count if tomogram is None else tomogram,
        np.zeros((count, 3)),
        class_name=["" if k == UNLABELED else names[k] for k in labels],
    )
    writer = SubtomogramWriter(
        folder, boxes.shape[-1], voxel_spacing_angstrom, class_names=tuple(names), has_masks=masks is not None
    )
    writer.append(boxes, particles, tilt_range_deg, masks=masks)
    return writer.close()

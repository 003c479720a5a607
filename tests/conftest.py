"""Shared fixtures."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tomosift.averaging import class_averages as averages
from tomosift.averaging import multireference_alignment as averaging
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
    """Particles are looked for in 600 rotations, some 27 degrees apart, which smooth ones can bear, not in 1,500."""
    rotations = random_rotations(600, torch.Generator().manual_seed(1))
    with pytest.MonkeyPatch.context() as patch:
        for module in (averages, averaging):
            patch.setattr(module, "search_rotations", lambda: rotations)
        yield

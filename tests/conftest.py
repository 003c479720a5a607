"""Shared fixtures."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real files (TOMOSIFT_TEST_DATA or ../shared/data), or a skip with the reason."""
    folder = Path(os.environ.get("TOMOSIFT_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "MANIFEST.csv").exists():
        pytest.skip(f"no real files at {folder}; set TOMOSIFT_TEST_DATA to the folder that holds MANIFEST.csv")
    return folder

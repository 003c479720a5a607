"""Fixtures of the tests of the benchmark."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _fast_recentering(without_center_finder: None) -> None:
    """Entries have to run here; their accuracy is the subject of the benchmark itself."""

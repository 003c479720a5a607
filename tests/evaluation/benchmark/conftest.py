"""Fixtures of the tests of the benchmark."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _fast_recentering(fast_recentering: None) -> None:
    """Entries have to run here; their accuracy is the subject of the benchmark itself."""

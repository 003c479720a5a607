"""A small simulated set, and stores of labels on it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tomosift.annotation.store import Store
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.methods import set_digest
from tomosift.physics.imaging import lab_protocol
from tomosift.simulation.subtomograms import SubtomogramSetConfig, simulate_subtomograms

CLASSES = ("ribosome-70s", "groel", "apoferritin")


@pytest.fixture(scope="session")
def subtomograms(tmp_path_factory: pytest.TempPathFactory) -> Subtomograms:
    """240 subtomograms of 16^3 voxels of three structures."""
    imaging = replace(lab_protocol(), snr=(1.0, 1.0), shift_voxels=(-1.0, 1.0))
    config = SubtomogramSetConfig(CLASSES, 80, 16, imaging, 16.0, 0, seed=3)
    return simulate_subtomograms(config, tmp_path_factory.mktemp("label") / "set")


@pytest.fixture
def open_store(subtomograms: Subtomograms, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Open the store of the test; each call opens it again."""
    stores = []

    def open_again() -> Store:
        stores.append(
            Store(tmp_path / "labels" / "labels.sqlite", set_digest(subtomograms), subtomograms.particles.particle_id)
        )
        return stores[-1]

    yield open_again
    for opened in stores:
        opened.close()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    store = open_store()
    for name in CLASSES:
        store.add_class(name, "ada")
    return store

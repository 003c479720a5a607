"""A small simulated set, and stores of labels on it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tomosift.annotation.store import Store
from tomosift.data.subtomograms import Subtomograms
from tomosift.methods import set_digest
from tomosift.physics.imaging import lab_protocol
from tomosift.simulate.subtomograms import SubtomogramSetConfig, simulate_subtomograms

CLASSES = ("ribosome-70s", "groel", "apoferritin")


@pytest.fixture(scope="session")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Subtomograms:
    """240 boxes of 16^3 of three structures."""
    imaging = replace(lab_protocol(), snr=(1.0, 1.0), shift_voxels=(-1.0, 1.0))
    config = SubtomogramSetConfig(CLASSES, 80, 16, imaging, 16.0, 0, seed=3)
    return simulate_subtomograms(config, tmp_path_factory.mktemp("label") / "set")


@pytest.fixture
def opened(boxes: Subtomograms, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Opens the store of the test, again and again if wanted."""
    stores = []

    def make() -> Store:
        stores.append(Store(tmp_path / "labels" / "labels.sqlite", set_digest(boxes), boxes.particles.particle_id))
        return stores[-1]

    yield make
    for one in stores:
        one.close()


@pytest.fixture
def store(opened: Callable[[], Store]) -> Store:
    made = opened()
    for name in CLASSES:
        made.add_class(name, "ada")
    return made

"""Simulated worlds: the files, and how labels are requested."""

from pathlib import Path

import numpy as np
import pytest

import tomosift
from tomosift.io.volumes import write_volume
from tomosift.simulation.dataset_config import TomogramDatasetConfig
from tomosift.workflows.simulate import simulate_tomograms

SIZE = {
    "tomograms": 1,
    "particles_per_class": 4,
    "shape_zyx": (16, 48, 48),
    "tilt_step_deg": 10.0,
    "vesicles": 0,
    "gold_beads": 0,
    "template_extent_angstrom": 120.0,
    "snr_box_size": 12,
    "labels": False,
    "halves": False,
}


@pytest.fixture
def ball(tmp_path: Path) -> str:
    axis = np.arange(12) - 6.0
    square = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    write_volume(tmp_path / "ball.mrc", np.exp(-0.5 * square / 1.6**2).astype(np.float32), 10.0)
    return str(tmp_path / "ball.mrc")


def test_world_names_its_files(ball: str, tmp_path: Path) -> None:
    world = tomosift.simulate([ball], tmp_path / "world", labels_per_class=2, **SIZE)
    tomograms = tomosift.open_tomograms(world.tomograms)
    assert len(tomosift.read_particles(world.picks, tomograms)) == 4
    assert set(tomosift.read_particles(world.truth, tomograms).class_name) == {"ball"}
    assert len(tomosift.read_particles(world.labels, tomograms)) == 2


def test_labels_are_written_on_request_only(ball: str, tmp_path: Path) -> None:
    config = TomogramDatasetConfig(classes=(ball,), **SIZE)
    world = simulate_tomograms(config, tmp_path / "world")
    assert not world.labels.exists()
    assert simulate_tomograms(config, tmp_path / "world", labels_per_class=1).labels.exists()
    with pytest.raises(ValueError, match="labels_per_class is -1, expected 0 or more"):
        simulate_tomograms(config, tmp_path / "world", labels_per_class=-1)

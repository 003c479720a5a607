"""Masks of a set: written beside the boxes, read back by row, refused where they do not fit."""

from pathlib import Path

import numpy as np
import pytest

from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.subtomogram_set import open_subtomograms
from tomosift.errors import FormatError
from tomosift.particles import Particles
from tomosift.simulation.subtomograms import SubtomogramSetConfig, simulate_subtomograms


def write(folder: Path, masks: np.ndarray | None, has_masks: bool = True) -> None:
    particles = Particles.create(["t"] * 5, np.zeros((5, 3)))
    volume = np.random.default_rng(0).normal(size=(5, 4, 4, 4)).astype(np.float32)
    with SubtomogramWriter(folder, 4, 10.0, shard_size=2, has_masks=has_masks) as writer:
        writer.append(volume, particles, np.array([-60, 60]), masks=masks)


def test_masks_are_read_back_in_the_requested_order(tmp_path: Path) -> None:
    masks = np.random.default_rng(1).random((5, 4, 4, 4)) < 0.3
    write(tmp_path / "set", masks)
    boxes = open_subtomograms(tmp_path / "set")
    assert boxes.has_masks
    np.testing.assert_array_equal(boxes.masks([4, 0, 3]), masks[[4, 0, 3]])
    np.testing.assert_array_equal(boxes.select(np.array([2, 1])).masks([0, 1]), masks[[2, 1]])


def test_masks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="masks are missing, but the set was begun with them"):
        write(tmp_path / "a", None)
    with pytest.raises(ValueError, match="masks are given, but the set was begun without them"):
        write(tmp_path / "b", np.zeros((5, 4, 4, 4), bool), has_masks=False)
    with pytest.raises(ValueError, match=r"masks have shape \(5, 4, 4\)"):
        write(tmp_path / "c", np.zeros((5, 4, 4), bool))
    write(tmp_path / "d", np.zeros((5, 4, 4, 4), bool))
    (tmp_path / "d" / "masks-00001.npy").unlink()
    with pytest.raises(FormatError, match=r"masks-00001\.npy"):
        open_subtomograms(tmp_path / "d")
    write(tmp_path / "e", None, has_masks=False)
    with pytest.raises(ValueError, match="has no masks; simulate a set with masks"):
        open_subtomograms(tmp_path / "e").masks([0])


def test_simulated_masks_lie_on_the_density_and_a_request_without_masks_opens_the_same_set(tmp_path: Path) -> None:
    config = SubtomogramSetConfig(("apoferritin",), per_class=4, box_size=16, voxel_spacing_angstrom=16.0)
    boxes = simulate_subtomograms(config, tmp_path / "set", masks=True)
    assert boxes.has_masks
    masks, volume = boxes.masks(range(4)), boxes.volumes(range(4))
    assert all(0.005 < mask.mean() < 0.5 for mask in masks)
    assert np.mean([box[mask].mean() - box[~mask].mean() for box, mask in zip(volume, masks, strict=True)]) > 0
    assert simulate_subtomograms(config, tmp_path / "set").path == boxes.path
    plain = simulate_subtomograms(config, tmp_path / "plain")
    assert not plain.has_masks
    with pytest.raises(ValueError, match="already holds a finished set"):
        simulate_subtomograms(config, tmp_path / "plain", masks=True)

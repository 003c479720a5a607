"""Label volumes: masks lie where their boxes were cut, also at the borders."""

import numpy as np

from tomosift.data.label_volume import LabelVolume
from tomosift.particles import Grid


def test_center_of_a_mask_lies_at_the_position_of_its_particle() -> None:
    volume = LabelVolume(Grid((20, 30, 40), 5.0), 10.0)
    assert volume.label.shape == (10, 15, 20)
    masks = np.zeros((1, 4, 4, 4), dtype=bool)
    masks[0, 2, 2, 2] = masks[0, 2, 2, 3] = True
    volume.paint(masks, np.array([[50.0, 62.0, 90.0]]), np.array([3]))
    assert np.argwhere(volume.label).tolist() == [[5, 6, 9], [5, 6, 10]]
    assert set(np.unique(volume.label)) == {0, 3}


def test_voxels_beyond_the_volume_are_ignored() -> None:
    volume = LabelVolume(Grid((8, 8, 8), 10.0), 10.0)
    volume.paint(
        np.ones((3, 4, 4, 4), dtype=bool), np.array([[0.0, 0, 0], [70, 70, 70], [900, 0, 0]]), np.array([1, 2, 3])
    )
    assert np.count_nonzero(volume.label == 1) == 8
    assert np.count_nonzero(volume.label == 2) == 27
    assert not (volume.label == 3).any()

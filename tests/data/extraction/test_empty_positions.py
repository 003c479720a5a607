"""Places in tomograms where nobody picked a particle."""

from pathlib import Path

import mrcfile
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from tomosift.data.extraction.empty_positions import sample_empty_positions
from tomosift.data.extraction.tomogram_sources import open_tomograms
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.particles import Particles


@pytest.fixture
def tomograms(tmp_path: Path) -> dict[str, Tomogram]:
    for name in ("one", "two"):
        with mrcfile.new(tmp_path / f"{name}.mrc") as file:
            file.set_data(np.zeros((20, 80, 90), dtype=np.float32))
            file.voxel_size = 10.0
    return dict(open_tomograms(tmp_path))


PICKS = Particles.create(
    tomogram=["one", "one", "two"], position_zyx_angstrom=np.array([[100, 400, 450], [100, 200, 200], [90, 300, 300.0]])
)


def test_positions_are_away_from_picks_and_borders_and_even_over_tomograms(tomograms: dict[str, Tomogram]) -> None:
    found = sample_empty_positions(PICKS, tomograms, 31, 150.0, 60.0, seed=1)
    assert len(found) == 31
    names = found.tomogram.astype(str)
    assert sorted(np.unique(names, return_counts=True)[1].tolist()) == [15, 16]
    place = found.position_zyx_angstrom
    assert (place >= 60).all()
    assert (place <= np.array([190, 790, 890]) - 60).all()
    for name in ("one", "two"):
        mine = PICKS.position_zyx_angstrom[PICKS.tomogram.astype(str) == name]
        assert cdist(place[names == name], mine).min() >= 150
    assert len(set(found.particle_id)) == 31
    again = sample_empty_positions(PICKS, tomograms, 31, 150.0, 60.0, seed=1)
    np.testing.assert_array_equal(place, again.position_zyx_angstrom)


def test_a_tomogram_thinner_than_a_box_gives_positions_in_its_central_plane(tomograms: dict[str, Tomogram]) -> None:
    found = sample_empty_positions(PICKS, tomograms, 10, 150.0, 160.0, seed=1)
    np.testing.assert_allclose(found.position_zyx_angstrom[:, 0], 95.0)


def test_no_position_or_no_count_is_an_error(tomograms: dict[str, Tomogram]) -> None:
    with pytest.raises(ValueError, match="tomogram one has no position 3000 A away from all picks"):
        sample_empty_positions(PICKS, tomograms, 4, 3000.0, 60.0, seed=0)
    with pytest.raises(ValueError, match="empty is 0, expected at least 1"):
        sample_empty_positions(PICKS, tomograms, 0, 100.0, 60.0, seed=0)

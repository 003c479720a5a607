"""A finished set answers its own request alone, and a request loses no particles quietly."""

from pathlib import Path

import numpy as np
import pytest

from tomosift.data.extraction.dropped_particles import NoSubtomogramsError
from tomosift.data.extraction.extract import extract
from tomosift.data.extraction.extraction_plan import check_settings
from tomosift.data.extraction.tomogram_sources import open_tomograms
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.folder_lock import locked_folder
from tomosift.io.volumes import write_volume
from tomosift.particles import Particles

PICKS = Particles.create(["TS_01"] * 4, np.array([[100.0, 120.0, 90.0 + 20 * k] for k in range(4)]))


def write(folder: Path, seed: int) -> Path:
    volume = np.random.default_rng(seed).normal(size=(20, 24, 28)).astype(np.float32)
    write_volume(folder / "TS_01.mrc", volume, 10.0)
    return folder / "TS_01.mrc"


def cut(folder: Path, picks: Particles = PICKS, box_size: int = 8, **options: bool) -> Subtomograms:
    tomograms = open_tomograms(folder / "TS_01.mrc")
    return extract(picks, tomograms, folder / "set", voxel_spacing_angstrom=10.0, box_size=box_size, **options)


def test_a_replaced_tomogram_is_noticed_and_the_set_remade_on_request(tmp_path: Path) -> None:
    write(tmp_path, 0)
    earlier = cut(tmp_path).volumes([0])
    content = write(tmp_path, 0).read_bytes()
    (tmp_path / "TS_01.mrc").write_bytes(content)  # a copy has another time and is the same
    np.testing.assert_array_equal(cut(tmp_path).volumes([0]), earlier)
    write(tmp_path, 1)
    with pytest.raises(ValueError, match=r"tomogram TS_01 was replaced by another file content; --remake"):
        cut(tmp_path)
    (tmp_path / "set" / "notes.txt").write_text("kept")
    assert not np.allclose(cut(tmp_path, remake=True).volumes([0]), earlier)
    assert (tmp_path / "set" / "notes.txt").read_text() == "kept"


def test_other_picks_and_options_are_named(tmp_path: Path) -> None:
    write(tmp_path, 0)
    cut(tmp_path)
    with pytest.raises(ValueError, match="box_size was 8, is 10"):
        cut(tmp_path, box_size=10)
    with pytest.raises(ValueError, match="other particles"):
        cut(tmp_path, PICKS.select(np.arange(3)))
    assert len(cut(tmp_path, PICKS.select(np.arange(3)), remake=True)) == 3


def test_losing_most_particles_is_an_error_unless_forced(tmp_path: Path) -> None:
    write(tmp_path, 0)
    outside = np.concatenate([PICKS.position_zyx_angstrom[:1], PICKS.position_zyx_angstrom[1:] + 1000])
    picks = PICKS.with_geometry(outside)
    with pytest.raises(NoSubtomogramsError, match="3 of 4 particles gave no box: the center lies outside"):
        cut(tmp_path, picks)
    assert len(cut(tmp_path, picks, force=True)) == 1


@pytest.mark.parametrize(("box_size", "spacing"), [(3, 10.0), (300, 10.0), (32, 0.0), (32, float("nan")), (32, -1.0)])
def test_settings_that_no_stage_can_use_are_refused(box_size: int, spacing: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        check_settings(box_size, spacing)


def test_a_second_run_on_a_folder_stops(tmp_path: Path) -> None:
    write(tmp_path, 0)
    with locked_folder(tmp_path / "set"), pytest.raises(ValueError, match=r"set is in use by process \d+ on \S+ since"):
        cut(tmp_path)
    (tmp_path / "set" / ".lock").write_text("process 1 of a machine that was switched off")
    assert len(cut(tmp_path)) == 4
    assert not (tmp_path / "set" / ".lock").exists()

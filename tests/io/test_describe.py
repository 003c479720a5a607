"""What is shown of a file: volumes, structures and particle tables."""

import json
from pathlib import Path

import emfile
import numpy as np
import pytest

from tomosift.errors import FormatError
from tomosift.io.describe import describe
from tomosift.io.particles import write_particles
from tomosift.io.volumes import write_volume
from tomosift.particles import Particles


def test_a_volume_is_described_with_size_spacing_and_values(tmp_path: Path) -> None:
    data = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
    data[0, 0, 0] = np.nan
    write_volume(tmp_path / "v.zarr", data, 7.5)
    lines = dict(describe(tmp_path / "v.zarr"))
    assert lines["Kind"] == "volume"
    assert lines["Size (z, y, x)"] == "3 x 4 x 5"
    assert lines["Voxel spacing"] == "7.5 A"
    assert lines["Values"].startswith("1 to 59, mean 30")
    assert lines["Note"] == "1 of 60 values are not numbers"


def test_a_table_in_pixels_is_described_in_pixels_unless_the_spacing_is_given(tmp_path: Path) -> None:
    particles = Particles.create(["1", "1", "2"], 10 * np.arange(9.0).reshape(3, 3), class_name=["a", "b", "b"])
    write_particles(tmp_path / "t.tbl", particles, voxel_spacing_angstrom=10.0)
    lines = dict(describe(tmp_path / "t.tbl"))
    assert lines["Particles"] == "3"
    assert lines["Tomograms"] == "2: 1 (2), 2 (1)"
    assert lines["Position z"] == "0.0 to 6.0 pixels"
    assert lines["Note"] == "the file states no pixel size; give it with --picks-spacing"
    assert lines["Orientations"] == "0 of 3"
    assert lines["Classes"] == "class 1 (1), class 2 (2)"
    assert dict(describe(tmp_path / "t.tbl", voxel_spacing_angstrom=10.0))["Position z"] == "0.0 to 60.0 A"


def test_em_files_of_one_section_are_lists_and_others_volumes(tmp_path: Path) -> None:
    for name, shape in (("volume.em", (4, 4, 20)), ("list.em", (1, 4, 20)), ("wedges.em", (1, 4, 3))):
        emfile.write(tmp_path / name, np.ones(shape, dtype=np.float32))
    assert dict(describe(tmp_path / "volume.em"))["Kind"] == "volume"
    assert dict(describe(tmp_path / "list.em"))["Particles"] == "4"
    with pytest.raises(FormatError, match="motive list size is 3 x 4 x 1"):
        describe(tmp_path / "wedges.em")


def test_a_structure_is_described(real_data: Path) -> None:
    lines = dict(describe(real_data / "structures" / "1bxn.pdb.gz"))
    assert lines["Kind"] == "atomic structure"
    assert int(lines["Atoms"]) > 10000


def test_metadata_of_a_portal_tomogram_points_to_the_tomogram(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps({"voxel_spacing": 12.3, "omezarr_dir": "a.zarr"}))
    with pytest.raises(FormatError, match="name the tomogram's own file"):
        describe(tmp_path / "t.json")


def test_a_missing_file_is_called_missing(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="file is missing"):
        describe(tmp_path / "nothing.star")

"""The door to particle tables: its table, detection, and what is said about any file."""

import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import emfile
import numpy as np
import pytest

import tomosift.io
from tomosift.errors import FormatError
from tomosift.io import particles as formats
from tomosift.io.volumes import write_volume
from tomosift.particles import Particles


@pytest.mark.parametrize("name", formats.FORMATS)
def test_each_format_is_a_module_that_reads_and_writes(name: str) -> None:
    module = importlib.import_module(f"tomosift.io.particles.{name}")
    assert callable(module.read_particles)
    assert callable(module.write_particles)
    assert formats.FORMATS[name].endswith(".")


def test_every_module_that_reads_particles_is_in_the_table() -> None:
    found = {
        info.name
        for info in pkgutil.iter_modules(tomosift.io.__path__)
        if hasattr(importlib.import_module(f"tomosift.io.particles.{info.name}"), "write_particles")
    }
    assert found - {"formats"} == set(formats.FORMATS)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.star", "", "relion"),
        ("a.STAR.gz", "", "relion"),
        ("a.csv", "", "csv"),
        ("a.tbl", "", "dynamo"),
        ("a.em", "", "motive_list"),
        ("a.mod", "", "imod"),
        ("a.ndjson", "", "portal"),
        ("a.txt", "", "pytom"),
        ("a.json", '{"pickable_objects": []}', "copick"),
        ("a.json", '{"pickable_object_name": "x", "points": []}', "copick"),
        ("a.json", '{"annotation_object": {}}', "portal"),
        ("a.xml", "<objlist/>", "deepfinder"),
        ("a.xml", "<!-- PyTom --><ParticleList/>", "pytom"),
        ("a", "# version 30001\n\ndata_particles\n", "relion"),
        ("a.dat", "IMODV1.2", "imod"),
    ],
)
def test_formats_are_told_by_suffix_and_then_by_content(tmp_path: Path, name: str, content: str, expected: str) -> None:
    (tmp_path / name).write_text(content)
    assert formats.detect_format(tmp_path / name) == expected


def test_a_project_folder_is_copick(tmp_path: Path) -> None:
    (tmp_path / "ExperimentRuns").mkdir()
    assert formats.detect_format(tmp_path) == "copick"


@pytest.mark.parametrize(("name", "content"), [("a.pdf", "%PDF"), ("a.json", "{"), ("a.json", "{}"), ("a.xml", "<a/>")])
def test_other_files_are_refused_in_one_sentence(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(FormatError, match="expected"):
        formats.detect_format(tmp_path / name)


def test_missing_files_are_called_missing(tmp_path: Path) -> None:
    for question in (formats.detect_format, formats.describe):
        with pytest.raises(FormatError, match="file is missing"):
            question(tmp_path / "nothing.star")


def test_an_unknown_format_name_is_a_wrong_argument(tmp_path: Path) -> None:
    (tmp_path / "a.star").write_text("")
    with pytest.raises(ValueError, match="particle format is 'stra', expected one of star, csv"):
        formats.read_particles(tmp_path / "a.star", format="stra")


def test_an_unknown_suffix_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"suffix '\.doc', expected \.star"):
        formats.write_particles(tmp_path / "a.doc", Particles.create(["a"], np.zeros((1, 3))))


def test_a_named_format_goes_before_the_suffix(tmp_path: Path) -> None:
    particles = Particles.create(["7"], np.array([[1.0, 2, 3]]))
    formats.write_particles(tmp_path / "odd.name", particles, voxel_spacing_angstrom=1.0, format="dynamo")
    back = formats.read_particles(tmp_path / "odd.name", voxel_spacing_angstrom=1.0, format="dynamo")
    np.testing.assert_allclose(back.position_zyx_angstrom, [[1, 2, 3]])


def test_the_door_opens_without_loading_the_rooms_behind_it() -> None:
    code = "import sys, tomosift.io.particles; print(*{'torch', 'zarr', 'gemmi', 'starfile'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == ""


def test_a_volume_is_described_with_size_spacing_and_values(tmp_path: Path) -> None:
    data = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
    data[0, 0, 0] = np.nan
    write_volume(tmp_path / "v.zarr", data, 7.5)
    lines = dict(formats.describe(tmp_path / "v.zarr"))
    assert lines["Kind"] == "volume"
    assert lines["Size (z, y, x)"] == "3 x 4 x 5"
    assert lines["Voxel spacing"] == "7.5 A"
    assert lines["Values"].startswith("1 to 59, mean 30")
    assert lines["Note"] == "1 of 60 values are not numbers"


def test_a_table_in_pixels_is_described_in_pixels_unless_told_the_spacing(tmp_path: Path) -> None:
    particles = Particles.create(["1", "1", "2"], 10 * np.arange(9.0).reshape(3, 3), class_name=["a", "b", "b"])
    formats.write_particles(tmp_path / "t.tbl", particles, voxel_spacing_angstrom=10.0)
    lines = dict(formats.describe(tmp_path / "t.tbl"))
    assert lines["Particles"] == "3"
    assert lines["Tomograms"] == "2: 1 (2), 2 (1)"
    assert lines["Position z"] == "0.0 to 6.0 pixels"
    assert lines["Note"] == "the file states no pixel size; give it with --picks-spacing"
    assert lines["Orientations"] == "0 of 3"
    assert lines["Classes"] == "class 1 (1), class 2 (2)"
    assert dict(formats.describe(tmp_path / "t.tbl", voxel_spacing_angstrom=10.0))["Position z"] == "0.0 to 60.0 A"


def test_em_files_of_one_section_are_lists_and_others_volumes(tmp_path: Path) -> None:
    for name, shape in (("volume.em", (4, 4, 20)), ("list.em", (1, 4, 20)), ("wedges.em", (1, 4, 3))):
        emfile.write(tmp_path / name, np.ones(shape, dtype=np.float32))
    assert dict(formats.describe(tmp_path / "volume.em"))["Kind"] == "volume"
    assert dict(formats.describe(tmp_path / "list.em"))["Particles"] == "4"
    with pytest.raises(FormatError, match="motive list size is 3 x 4 x 1"):
        formats.describe(tmp_path / "wedges.em")


def test_a_structure_is_described(real_data: Path) -> None:
    lines = dict(formats.describe(real_data / "structures" / "1bxn.pdb.gz"))
    assert lines["Kind"] == "atomic structure"
    assert int(lines["Atoms"]) > 10000


def test_metadata_of_a_portal_tomogram_points_to_the_tomogram(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps({"voxel_spacing": 12.3, "omezarr_dir": "a.zarr"}))
    with pytest.raises(FormatError, match="name the tomogram's own file"):
        formats.describe(tmp_path / "t.json")

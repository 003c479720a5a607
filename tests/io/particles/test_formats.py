"""The door to particle tables: the formats it finds, which one a file has, and what it refuses."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tomosift.errors import FormatError
from tomosift.io import particles as formats
from tomosift.io.particles import registry
from tomosift.particles import Particles

DOOR = {"read_particles", "write_particles"}
NEW_FORMAT = """
import numpy as np
from tomosift.io.particles.registry import Format, Opening
from tomosift.particles import Particles


def _is_point_list(opening: Opening) -> bool:
    return opening.text.startswith("POINTS")


FORMAT = Format("A list of points.", suffixes=(".points", ".xml"), recognizes=_is_point_list)


def read_particles(path, *, voxel_spacing_angstrom=None, grids=None):
    xyz = np.loadtxt(path, skiprows=1, ndmin=2)
    return Particles.create([path.stem] * len(xyz), xyz[:, ::-1], source="point_list")


def write_particles(path, particles, *, voxel_spacing_angstrom=None, grids=None):
    np.savetxt(path, particles.position_zyx_angstrom[:, ::-1], header="POINTS", comments="")
"""


@pytest.fixture
def new_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A format that one more file in the room adds."""
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "point_list.py").write_text(NEW_FORMAT)
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path / "room")])
    registry.find_formats.cache_clear()
    yield "point_list"
    registry.find_formats.cache_clear()
    sys.modules.pop("tomosift.io.particles.point_list", None)


def test_formats_are_the_modules_that_read_and_write_particles() -> None:
    room = set()
    for path in Path(registry.__file__).parent.glob("*.py"):
        names = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        if names >= DOOR:
            room.add(path.stem)
    assert room - {"__init__"} == set(formats.FORMATS)


def test_each_format_describes_itself_in_a_sentence() -> None:
    for sentence in formats.FORMATS.values():
        assert sentence[0].isupper()
        assert sentence.endswith(".")


def test_no_two_formats_are_written_under_the_same_suffix() -> None:
    first = [declared.suffixes[0] for declared in registry.find_formats().values()]
    assert len(set(first)) == len(first)
    for name, declared in registry.find_formats().items():
        assert formats.format_to_write(Path("a").with_suffix(declared.suffixes[0])) == name


def test_one_file_adds_a_format(new_format: str, tmp_path: Path) -> None:
    assert formats.FORMATS[new_format] == "A list of points."
    assert formats.SUFFIXES[".points"] == (new_format,)
    assert formats.SUFFIXES[".xml"] == ("deepfinder", new_format, "pytom")
    particles = Particles.create(["a", "a"], np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    formats.write_particles(tmp_path / "a.points", particles)
    back = formats.read_particles(tmp_path / "a.points")
    np.testing.assert_array_equal(back.position_zyx_angstrom, particles.position_zyx_angstrom)
    for name in ("a.xml", "a"):  # a shared suffix and none: recognized by content
        (tmp_path / "a.points").rename(tmp_path / name)
        assert formats.detect_format(tmp_path / name) == new_format
        (tmp_path / name).rename(tmp_path / "a.points")
    with pytest.raises(ValueError, match=r"expected .*\.points \(point_list\)"):
        formats.write_particles(tmp_path / "a.doc", particles)


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
        ("a.json", '{"omezarr_dir": "a.zarr"}', "portal"),
        ("a.xml", "<objlist/>", "deepfinder"),
        ("a.xml", "<!-- PyTom --><ParticleList/>", "pytom"),
        ("a", "# version 30001\n\ndata_particles\n", "relion"),
        ("a.dat", "IMODV1.2", "imod"),
    ],
)
def test_the_suffix_decides_before_the_content(tmp_path: Path, name: str, content: str, expected: str) -> None:
    (tmp_path / name).write_text(content)
    assert formats.detect_format(tmp_path / name) == expected


def test_a_project_folder_is_copick(tmp_path: Path) -> None:
    (tmp_path / "ExperimentRuns").mkdir()
    assert formats.detect_format(tmp_path) == "copick"


def test_a_folder_that_is_no_project_is_neither_read_nor_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder, expected a file such as"):
        formats.format_to_write(tmp_path)
    with pytest.raises(FormatError, match="folder is of no known format"):
        formats.detect_format(tmp_path)


@pytest.mark.parametrize(("name", "content"), [("a.pdf", "%PDF"), ("a.json", "{"), ("a.json", "{}"), ("a.xml", "<a/>")])
def test_other_files_are_refused_in_one_sentence(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(FormatError, match="expected"):
        formats.detect_format(tmp_path / name)


def test_a_missing_file_is_called_missing(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="file is missing"):
        formats.detect_format(tmp_path / "nothing.star")


def test_an_unknown_format_name_is_a_wrong_argument(tmp_path: Path) -> None:
    (tmp_path / "a.star").write_text("")
    with pytest.raises(ValueError, match="particle format is 'stra', expected one of copick, csv"):
        formats.read_particles(tmp_path / "a.star", format="stra")


def test_an_unknown_suffix_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"suffix '\.doc', expected \.coords"):
        formats.write_particles(tmp_path / "a.doc", Particles.create(["a"], np.zeros((1, 3))))


@pytest.mark.parametrize("suffix", [".txt", ".coords"])
def test_formats_without_classes_are_refused_for_classes(tmp_path: Path, suffix: str) -> None:
    assert formats.format_to_write(tmp_path / f"a{suffix}") == "pytom"
    with pytest.raises(ValueError, match="hold no classes"):
        formats.format_to_write(tmp_path / f"a{suffix}", has_classes=True)


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="the system has no devices")
def test_devices_are_no_output() -> None:
    with pytest.raises(FormatError, match="a device or a pipe"):
        formats.write_particles(Path("/dev/null"), Particles.create(["a"], np.zeros((1, 3))), format="csv")


def test_a_named_format_goes_before_the_suffix(tmp_path: Path) -> None:
    particles = Particles.create(["7"], np.array([[1.0, 2, 3]]))
    formats.write_particles(tmp_path / "odd.name", particles, voxel_spacing_angstrom=1.0, format="dynamo")
    back = formats.read_particles(tmp_path / "odd.name", voxel_spacing_angstrom=1.0, format="dynamo")
    np.testing.assert_allclose(back.position_zyx_angstrom, [[1, 2, 3]])


def test_the_door_opens_without_loading_the_formats_behind_it() -> None:
    unwanted = "{'torch', 'zarr', 'gemmi', 'starfile', 'emfile', 'tomosift.io.particles.relion'}"
    code = f"import sys, tomosift.io.particles; print(*{unwanted} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == ""

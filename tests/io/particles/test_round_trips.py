"""Particles of every format, written in every other one, come back where they were and as they were turned."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomosift.io.particles import read_particles, write_particles
from tomosift.io.particles.registry import find_formats
from tomosift.particles import Grid, Particles

TOMOGRAM_SPACING = 7.84  # the subtomograms may have any other
GRIDS = {"TS_01": Grid((200, 400, 380), TOMOGRAM_SPACING)}
FILES = {
    "relion": "a.star", "dynamo": "a.tbl", "motive_list": "a.em", "imod": "a.mod", "deepfinder": "a.xml",
    "pytom": "TS_01.xml", "csv": "a.csv", "portal": "TS_01.ndjson", "copick": "project.json",
}  # fmt: skip
"""A file of each format; formats of one tomogram have its name."""
CLASSES = ("class 2", "class 1", "class 2", "class 1", "class 1")


def draw(is_one_class: bool = False) -> Particles:
    rng = np.random.default_rng(4)
    position = rng.uniform(100, 1400, size=(5, 3))
    rotation = Rotation.random(5, random_state=1).as_matrix()
    return Particles.create(
        ["TS_01"] * 5, position, rotation=rotation, class_name=["class 1"] * 5 if is_one_class else CLASSES
    )


def path_of(folder: Path, name: str) -> Path:
    path = folder / FILES[name].replace("a.", "TS_01.")
    if name == "copick":
        names = ("class 1", "class 2", "particle")
        objects = ", ".join(f'{{"name": "{name}", "is_particle": true}}' for name in names)
        (folder / "overlay").mkdir()
        path.write_text(f'{{"pickable_objects": [{objects}], "overlay_root": "overlay"}}')
    return path


def angles_between(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) in degrees."""
    return np.rad2deg((Rotation.from_matrix(one) * Rotation.from_matrix(other).inv()).magnitude())


def by_position(particles: Particles) -> Particles:
    """Formats that group particles by class change their order."""
    return particles.select(np.argsort(particles.position_zyx_angstrom[:, 0]))


def test_every_format_has_a_file() -> None:
    assert set(FILES) == set(find_formats())


@pytest.mark.parametrize(("one", "other"), list(product(FILES, FILES)))
def test_positions_and_orientations_survive_every_pair(tmp_path: Path, one: str, other: str) -> None:
    particles = draw(is_one_class="portal" in (one, other))  # it has one object in each file
    expected = by_position(particles)
    for k, name in enumerate((one, other)):
        (tmp_path / str(k)).mkdir()
        path = path_of(tmp_path / str(k), name)
        write_particles(path, particles, grids=GRIDS, format=name)
        particles = read_particles(path, voxel_spacing_angstrom=TOMOGRAM_SPACING, grids=GRIDS, format=name)
    back = by_position(particles)
    np.testing.assert_allclose(back.position_zyx_angstrom, expected.position_zyx_angstrom, atol=0.01)
    assert angles_between(back.rotation, expected.rotation).max() < 0.01


@pytest.mark.parametrize("target", ["relion", "csv"])
@pytest.mark.parametrize("source", ["pytom", "shrec", "deepfinder"])
def test_lists_become_tables_with_positions_angles_and_the_new_class(tmp_path: Path, source: str, target: str) -> None:
    if source == "shrec":
        path = tmp_path / "TS_01.txt"
        path.write_text("1bxn 24 25 26 10 20 30\n3cf3 50 60 70 40 50 60\n")
        given = read_particles(path, voxel_spacing_angstrom=TOMOGRAM_SPACING)
    else:
        path = path_of(tmp_path, source)
        write_particles(path, draw(), grids=GRIDS, format=source)
        given = read_particles(path, voxel_spacing_angstrom=TOMOGRAM_SPACING)
    names = np.array([f"new {k % 2}".replace(" ", "-") for k in range(len(given))], dtype=object)
    classified = given.with_columns({"tomosiftClass": names})
    classified = Particles(**{**vars(classified), "class_name": names})
    out = tmp_path / FILES[target]
    write_particles(out, classified, grids=GRIDS)
    back = read_particles(out, grids=GRIDS)
    np.testing.assert_allclose(back.position_zyx_angstrom, given.position_zyx_angstrom, atol=0.01)
    assert back.class_name.tolist() == names.tolist()
    known = np.isfinite(given.rotation).all(axis=(1, 2))
    assert (np.isfinite(back.rotation).all(axis=(1, 2)) == known).all()
    assert source == "shrec" or known.all()
    if known.any():
        assert angles_between(back.rotation[known], given.rotation[known]).max() < 0.01

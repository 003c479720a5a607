"""PyTom particle lists (``.xml``) and lists of coordinates (``.txt``).

``PickPosition`` plus ``Shift`` is a voxel index from 0 in the tomogram that was picked. ``Rotation`` has TOM's angles
under other names: Z1 is phi, Z2 is psi, X is theta, and it takes the reference into the tomogram. Lists of coordinates
hold x, y, z per line below comments, one of which names the tomogram. The SHREC challenges' lists (an object's name,
then x, y, z and three angles) are read too. Their angles are kept as columns only, because the lists do not say in
which order they are.

Source: PyTom's ``ParticleList`` XML and coordinate list.
"""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tomosift.errors import FormatError
from tomosift.files import written_then_renamed
from tomosift.io import angles
from tomosift.io.file_content import parse_xml, read_bytes, suffix_of
from tomosift.io.particles.deepfinder import parse_numbers
from tomosift.io.particles.pixel_size import PixelSize
from tomosift.io.particles.pixel_tables import PixelConvention, class_names
from tomosift.io.particles.registry import Format, Opening
from tomosift.particles import Grid, Particles


def _is_particle_list(opening: Opening) -> bool:
    """Whether the XML holds PyTom's root element."""
    return "<ParticleList" in opening.text


FORMAT = Format(
    "A PyTom particle list (.xml) or list of coordinates (.txt).",
    suffixes=(".txt", ".coords", ".xml"),
    recognizes=_is_particle_list,
    without_classes=(".txt", ".coords"),
)
CONVENTION = PixelConvention("pytom_list", (0.0, 0.0, 0.0), angles.from_tom, angles.to_tom)
COORDINATE_SUFFIXES = (".txt", ".coords")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
OBJECT_NAME = re.compile(r"(?=.*[A-Za-z])\d[A-Za-z0-9]{3}|[A-Za-z]\w*")


def _parse_particle(path: Path, element: ElementTree.Element, k: int) -> dict[str, Any]:
    """Return particle k (from 0) as a row of values by name."""
    position, shift, rotation = (element.find(name) for name in ("PickPosition", "Shift", "Rotation"))
    if position is None:
        raise FormatError(path, f"particle {k + 1}", "without PickPosition", "a position in a tomogram")
    row: dict[str, Any] = {"Filename": element.get("Filename", ""), "Origin": position.get("Origin", "")}
    row |= dict(zip("XYZ", parse_numbers(path, position, ["X", "Y", "Z"], k), strict=True))
    shifts = parse_numbers(path, shift, ["X", "Y", "Z"], k) if shift is not None else [0.0] * 3
    row |= dict(zip(["ShiftX", "ShiftY", "ShiftZ"], shifts, strict=True))
    triple = parse_numbers(path, rotation, ["Z1", "Z2", "X"], k) if rotation is not None else [np.nan] * 3
    row |= dict(zip(["Z1", "Z2", "X_rotation"], triple, strict=True))
    score, label = element.find("Score"), element.find("Class")
    row["Score"] = parse_numbers(path, score, ["Value"], k)[0] if score is not None else np.nan
    row["Class"] = label.get("Name", "") if label is not None else ""
    return row


def _read_coordinates(path: Path, size: PixelSize) -> Particles:
    """Read a list of coordinates: lines ``x y z``, or ``object x y z`` with three angles or none."""
    name, rows = path.name.split(".")[0], list[list[Any]]()
    for k, line in enumerate(read_bytes(path).decode(errors="replace").splitlines()):
        words = line.split()
        if words and words[0].startswith("#"):
            name = PurePosixPath(words[1]).name if words[0] == "#TOMONAME" and len(words) > 1 else name
        elif words:
            label = words.pop(0) if OBJECT_NAME.fullmatch(words[0]) else ""
            values = [float(word) for word in words if NUMBER.fullmatch(word)]
            if len(values) != len(words) or len(values) not in ({3, 6} if label else {3}):
                advice = "name a table with column names .csv or .tsv" if not rows else ""
                raise FormatError(path, f"line {k + 1}", repr(line[:40]), "the three numbers x, y and z", advice)
            rows.append([label, *values, *[np.nan] * (6 - len(values))])
    if not rows:
        raise FormatError(path, "number of coordinates", "0", "at least one line of x, y and z")
    table = pd.DataFrame(rows, columns=["object", "x", "y", "z", "angle1", "angle2", "angle3"])
    return CONVENTION.particles(
        path,
        np.full(len(rows), name, dtype=object),
        table[["x", "y", "z"]].to_numpy(),
        size,
        class_name=table["object"].to_numpy(dtype=object),
        columns=table.replace("", np.nan).dropna(axis="columns", how="all"),
    )


def read_particles(
    path: Path, *, voxel_spacing_angstrom: float | None = None, grids: Mapping[str, Grid] | None = None
) -> Particles:
    """Read a particle list or a list of coordinates; an XML list without a tomogram has its own name as tomogram.

    Parameters
    ----------
    path
        The list.
    voxel_spacing_angstrom, grids
        Size of one pixel, see `tomosift.io.particles.read_particles`.

    Raises
    ------
    FormatError
        The list is malformed, or nothing says the voxel spacing.
    """
    size = PixelSize(voxel_spacing_angstrom, grids)
    if suffix_of(path) in COORDINATE_SUFFIXES:
        return _read_coordinates(path, size)
    items = list(parse_xml(path, "ParticleList").iter("Particle"))
    if not items:
        raise FormatError(path, "number of particles", "0", "at least one <Particle>")
    table = pd.DataFrame([_parse_particle(path, item, k) for k, item in enumerate(items)])
    tomogram = table["Origin"].replace("", path.stem).to_numpy(dtype=object)
    xyz = table[["X", "Y", "Z"]].to_numpy() + table[["ShiftX", "ShiftY", "ShiftZ"]].to_numpy()
    return CONVENTION.particles(
        path,
        tomogram,
        xyz,
        size,
        angles_deg=table[["Z1", "Z2", "X_rotation"]].to_numpy(),
        class_name=class_names(table["Class"].to_numpy(dtype=object)),
        score=table["Score"].to_numpy(),
        columns=table,
    )


def write_particles(
    path: Path,
    particles: Particles,
    *,
    voxel_spacing_angstrom: float | None = None,
    grids: Mapping[str, Grid] | None = None,
) -> None:
    """Write a particle list (``.xml``), or bare coordinates of one tomogram (``.txt``).

    Parameters
    ----------
    path
        The list to write; its suffix says which.
    particles
        What to write.
    voxel_spacing_angstrom, grids
        Size of one pixel, see `tomosift.io.particles.write_particles`.

    Raises
    ------
    ValueError
        Particles of several tomograms for a ``.txt``, or nothing says the voxel spacing.
    """
    xyz = CONVENTION.pixels(particles, PixelSize(voxel_spacing_angstrom, grids))
    if suffix_of(path) in COORDINATE_SUFFIXES:
        _write_coordinates(path, particles, xyz)
        return
    root = _build_list(particles, xyz)
    with written_then_renamed(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8")


def _write_coordinates(path: Path, particles: Particles, xyz: NDArray[np.float64]) -> None:
    """Write bare coordinates in pixels below a comment with the tomogram's name."""
    names = sorted({str(name) for name in particles.tomogram})
    if len(names) > 1:
        raise ValueError(f"a coordinate list holds one tomogram but {len(names)} were given; write .xml or .star")
    with written_then_renamed(path) as temporary:
        np.savetxt(temporary, xyz, fmt="%.8g", header=f"\nTOMONAME \t{''.join(names)}\n", comments="#")


def _build_list(particles: Particles, xyz: NDArray[np.float64]) -> ElementTree.Element:
    """Return the XML of a particle list; unknown rotations and scores have no element."""
    triples = CONVENTION.angles_deg(particles)
    root = ElementTree.Element("ParticleList")
    for k in range(len(particles)):
        item = ElementTree.SubElement(root, "Particle", {"Filename": str(particles.particle_id[k])})
        if np.isfinite(triples[k]).all():
            triple = {name: f"{value:.10g}" for name, value in zip(["Z1", "Z2", "X"], triples[k], strict=True)}
            ElementTree.SubElement(item, "Rotation", triple | {"Paradigm": "ZXZ"})
        position = {axis: f"{value:.10g}" for axis, value in zip("XYZ", xyz[k], strict=True)}
        ElementTree.SubElement(item, "PickPosition", position | {"Origin": str(particles.tomogram[k]), "Binning": "1"})
        if np.isfinite(particles.score[k]):
            ElementTree.SubElement(item, "Score", {"Type": "FLCFScore", "Value": f"{particles.score[k]:.10g}"})
        ElementTree.SubElement(item, "Class", {"Name": str(particles.class_name[k])})
    ElementTree.indent(root)
    return root

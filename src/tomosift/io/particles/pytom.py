"""PyTom particle lists (``.xml``) and lists of coordinates (``.txt``).

``PickPosition`` plus ``Shift`` is a voxel index from 0 in the tomogram that was picked. ``Rotation`` has TOM's angles
under other names: Z1 is phi, Z2 is psi, X is theta, and it takes the reference into the tomogram. Coordinates lists
hold x, y, z per line below comments, one of which names the tomogram. The SHREC challenges' lists, an object's name
before x, y, z and three angles behind, are read too; the angles are kept as columns only, because the lists do not say
in which order they stand.

Source: PyTom's ``ParticleList`` XML and coordinate list.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from tomosift.errors import FormatError
from tomosift.files import written_then_renamed
from tomosift.io import angles
from tomosift.io.particles import pixel_tables
from tomosift.io.particles.deepfinder import numbers, parse_xml
from tomosift.particles import Grid, Particles

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
OBJECT_NAME = re.compile(r"(?=.*[A-Za-z])\d[A-Za-z0-9]{3}|[A-Za-z]\w*")
FIRST_VOXEL_XYZ = (0.0, 0.0, 0.0)


def _parts(path: Path, element: ElementTree.Element, k: int) -> dict[str, Any]:
    """One particle as a row of named values."""
    position, shift, rotation = (element.find(name) for name in ("PickPosition", "Shift", "Rotation"))
    if position is None:
        raise FormatError(path, f"particle {k + 1}", "without PickPosition", "a position in a tomogram")
    row: dict[str, Any] = {"Filename": element.get("Filename", ""), "Origin": position.get("Origin", "")}
    row |= dict(zip("XYZ", numbers(path, position, ["X", "Y", "Z"], k), strict=True))
    moved = numbers(path, shift, ["X", "Y", "Z"], k) if shift is not None else [0.0] * 3
    row |= dict(zip(["ShiftX", "ShiftY", "ShiftZ"], moved, strict=True))
    turned = numbers(path, rotation, ["Z1", "Z2", "X"], k) if rotation is not None else [np.nan] * 3
    row |= dict(zip(["Z1", "Z2", "X_rotation"], turned, strict=True))
    score, label = element.find("Score"), element.find("Class")
    row["Score"] = numbers(path, score, ["Value"], k)[0] if score is not None else np.nan
    row["Class"] = label.get("Name", "") if label is not None else ""
    return row


def _read_coordinates(path: Path) -> Particles:
    """The lines of a coordinate list in voxels: ``x y z``, or ``object x y z`` with three angles or none."""
    name, rows = path.name.split(".")[0], []
    for k, line in enumerate(pixel_tables.content(path).decode(errors="replace").splitlines()):
        words = line.split()
        if words and words[0].startswith("#"):
            name = PurePosixPath(words[1]).name if words[0] == "#TOMONAME" and len(words) > 1 else name
        elif words:
            label = words.pop(0) if OBJECT_NAME.fullmatch(words[0]) else ""
            values = [float(word) for word in words if NUMBER.fullmatch(word)]
            if len(values) != len(words) or len(values) not in ({3, 6} if label else {3}):
                raise FormatError(path, f"line {k + 1}", repr(line[:40]), "the three numbers x, y and z")
            rows.append([label, *values, *[np.nan] * (6 - len(values))])
    if not rows:
        raise FormatError(path, "number of coordinates", "0", "at least one line of x, y and z")
    table = pd.DataFrame(rows, columns=["object", "x", "y", "z", "angle1", "angle2", "angle3"])
    return Particles.create(
        np.full(len(rows), name, dtype=object),
        pixel_tables.positions(path, table[["x", "y", "z"]].to_numpy(), FIRST_VOXEL_XYZ, np.ones(len(rows))),
        class_name=table["object"].to_numpy(dtype=object),
        columns=table.replace("", np.nan).dropna(axis="columns", how="all"),
        source="pytom",
    )


def read_particles(
    path: Path, *, voxel_spacing_angstrom: float | None = None, grids: Mapping[str, Grid] | None = None
) -> Particles:
    """Read a particle list or a coordinate list; an XML list without a tomogram is named after itself.

    Raises
    ------
    FormatError
        The list is malformed, or nothing says the voxel spacing.
    """
    if ".txt" in path.name.lower():
        listed = _read_coordinates(path)
        spacings = pixel_tables.spacings_to_read(path, listed.tomogram, voxel_spacing_angstrom, grids)
        return replace(listed, position_zyx_angstrom=listed.position_zyx_angstrom * spacings[:, None])
    items = list(parse_xml(path, "ParticleList").iter("Particle"))
    if not items:
        raise FormatError(path, "number of particles", "0", "at least one <Particle>")
    table = pd.DataFrame([_parts(path, item, k) for k, item in enumerate(items)])
    tomogram = table["Origin"].replace("", path.stem).to_numpy(dtype=object)
    spacings = pixel_tables.spacings_to_read(path, tomogram, voxel_spacing_angstrom, grids)
    xyz = table[["X", "Y", "Z"]].to_numpy() + table[["ShiftX", "ShiftY", "ShiftZ"]].to_numpy()
    return Particles.create(
        tomogram,
        pixel_tables.positions(path, xyz, FIRST_VOXEL_XYZ, spacings),
        rotation=angles.from_tom(table[["Z1", "Z2", "X_rotation"]].to_numpy()),
        class_name=pixel_tables.class_names(table["Class"].to_numpy(dtype=object)),
        score=table["Score"].to_numpy(),
        columns=table,
        source="pytom",
    )


def write_particles(
    path: Path,
    particles: Particles,
    *,
    voxel_spacing_angstrom: float | None = None,
    grids: Mapping[str, Grid] | None = None,
) -> None:
    """Write a particle list (``.xml``), or bare coordinates of one tomogram (``.txt``).

    Raises
    ------
    ValueError
        Particles of several tomograms for a ``.txt``, or nothing says the voxel spacing.
    """
    spacings = pixel_tables.spacings_to_write(particles.tomogram, voxel_spacing_angstrom, grids)
    xyz = pixel_tables.pixels(particles, FIRST_VOXEL_XYZ, spacings)
    if path.suffix.lower() == ".txt":
        names = sorted({str(name) for name in particles.tomogram})
        if len(names) > 1:
            raise ValueError(f"a coordinate list holds one tomogram but {len(names)} were given; write .xml or .star")
        with written_then_renamed(path) as temporary:
            np.savetxt(temporary, xyz, fmt="%.8g", header=f"\nTOMONAME \t{''.join(names)}\n", comments="#")
        return
    triples = angles.to_tom(particles.rotation)
    root = ElementTree.Element("ParticleList")
    for k in range(len(particles)):
        item = ElementTree.SubElement(root, "Particle", {"Filename": str(particles.particle_id[k])})
        if np.isfinite(triples[k]).all():
            turned = {name: f"{value:.10g}" for name, value in zip(["Z1", "Z2", "X"], triples[k], strict=True)}
            ElementTree.SubElement(item, "Rotation", turned | {"Paradigm": "ZXZ"})
        picked = {axis: f"{value:.10g}" for axis, value in zip("XYZ", xyz[k], strict=True)}
        ElementTree.SubElement(item, "PickPosition", picked | {"Origin": str(particles.tomogram[k]), "Binning": "1"})
        if np.isfinite(particles.score[k]):
            ElementTree.SubElement(item, "Score", {"Type": "FLCFScore", "Value": f"{particles.score[k]:.10g}"})
        ElementTree.SubElement(item, "Class", {"Name": str(particles.class_name[k])})
    ElementTree.indent(root)
    with written_then_renamed(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8")

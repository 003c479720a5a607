"""DeepFinder object lists (``.xml``): class, voxel index and, for some, angles of every object.

Coordinates are voxel indices that start at 0. ``phi``, ``psi`` and ``the`` are TOM's angles. The tomogram is only a
number, ``tomo_idx``. DeepFinder's label volumes are stored with their axes in the opposite order to tomograms; the
list's x, y and z are those of the tomogram.

Source: DeepFinder's object list; checked against the labels of its two simulated tomograms (objects of 500 to 1700
voxels have their centre of mass within 2 voxels of the listed one).
"""

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tomosift.errors import FormatError
from tomosift.files import written_then_renamed
from tomosift.io import angles
from tomosift.io.particles import pixel_tables
from tomosift.particles import Grid, Particles

FIRST_VOXEL_XYZ = (0.0, 0.0, 0.0)
ANGLES = ["phi", "psi", "the"]


def parse_xml(path: Path, root: str) -> ElementTree.Element:
    """The root element of an XML file, which must be named ``root``; entity definitions are refused unread."""
    content = pixel_tables.content(path)
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise FormatError(path, "XML", "with its own entity definitions", "plain elements")
    try:
        element = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise FormatError(path, "XML", f"malformed ({error})", f"a complete <{root}>") from error
    if element.tag != root:
        raise FormatError(path, "root element", f"<{element.tag}>", f"<{root}>")
    return element


def numbers(path: Path, element: ElementTree.Element, names: list[str], k: int) -> list[float]:
    """The named attributes as numbers; ``FormatError`` for the one that is missing or is none."""
    values = []
    for name in names:
        try:
            values.append(float(element.attrib[name]))
        except (KeyError, ValueError) as error:
            got = repr(element.attrib.get(name, "missing"))
            raise FormatError(path, f"{name} of <{element.tag}> {k + 1}", got, "a number") from error
    return values


def read_particles(
    path: Path, *, voxel_spacing_angstrom: float | None = None, grids: Mapping[str, Grid] | None = None
) -> Particles:
    """Read an object list; objects without angles have no orientation.

    Raises
    ------
    FormatError
        The list is malformed, or nothing says the voxel spacing.
    """
    objects = list(parse_xml(path, "objlist").iter("object"))
    xyz = np.array([numbers(path, item, ["x", "y", "z"], k) for k, item in enumerate(objects)]).reshape(-1, 3)
    triples = np.full((len(objects), 3), np.nan)
    for k, item in enumerate(objects):
        if all(name in item.attrib for name in ANGLES):
            triples[k] = numbers(path, item, ANGLES, k)
    columns = pd.DataFrame([dict(item.attrib) for item in objects])
    tomogram = _attribute(columns, "tomo_name", _attribute(columns, "tomo_idx", np.full(len(objects), path.stem)))
    spacings = pixel_tables.spacings_to_read(path, tomogram, voxel_spacing_angstrom, grids)
    label = _attribute(columns, "class_label", np.full(len(objects), ""))
    size = columns["cluster_size"] if "cluster_size" in columns else np.full(len(objects), np.nan)
    return Particles.create(
        tomogram,
        pixel_tables.positions(path, xyz, FIRST_VOXEL_XYZ, spacings),
        rotation=angles.from_tom(triples),
        class_name=pixel_tables.class_names(label, unset_when_uniform=False),
        score=pd.to_numeric(pd.Series(size), errors="coerce").to_numpy(dtype=np.float64),
        columns=columns,
        source="deepfinder",
    )


def _attribute(columns: pd.DataFrame, name: str, default: NDArray[np.generic]) -> NDArray[np.generic]:
    if name not in columns:
        return default.astype(object)
    return columns[name].fillna("").to_numpy(dtype=object)


def write_particles(
    path: Path,
    particles: Particles,
    *,
    voxel_spacing_angstrom: float | None = None,
    grids: Mapping[str, Grid] | None = None,
) -> None:
    """Write an object list; tomogram names that are not numbers go to ``tomo_name`` beside the number.

    Objects that came from DeepFinder keep their other attributes, and columns that were added become attributes.

    Raises
    ------
    ValueError
        Nothing says the voxel spacing.
    """
    spacings = pixel_tables.spacings_to_write(particles.tomogram, voxel_spacing_angstrom, grids)
    xyz = pixel_tables.pixels(particles, FIRST_VOXEL_XYZ, spacings)
    number, label = pixel_tables.tomogram_numbers(particles.tomogram), pixel_tables.class_numbers(particles)
    triples = angles.to_tom(particles.rotation)
    kept = particles.columns.astype(object).to_dict("records") if particles.source == "deepfinder" else []
    root = ElementTree.Element("objlist")
    for k in range(len(particles)):
        item = {str(name): str(value) for name, value in kept[k].items() if value == value} if kept else {}
        item |= {"tomo_idx": str(number[k]), "class_label": str(label[k])}
        if str(number[k]) != particles.tomogram[k]:
            item["tomo_name"] = str(particles.tomogram[k])
        item |= {axis: f"{value:.10g}" for axis, value in zip("xyz", xyz[k], strict=True)}
        if np.isfinite(triples[k]).all():
            item |= {name: f"{value:.10g}" for name, value in zip(ANGLES, triples[k], strict=True)}
        ElementTree.SubElement(root, "object", item)
    ElementTree.indent(root)
    with written_then_renamed(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8")

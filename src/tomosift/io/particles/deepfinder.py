"""DeepFinder object lists (``.xml``): class, voxel index and, for some, angles of every object.

Coordinates are voxel indices that start at 0. ``phi``, ``psi`` and ``the`` are TOM's angles. The tomogram is only a
number, ``tomo_idx``. DeepFinder's label volumes are stored with their axes in the opposite order to tomograms, but the
list's x, y and z are those of the tomogram.

Source: DeepFinder's object list; checked against the labels of its two simulated tomograms (objects of 500 to 1700
voxels have their center of mass within 2 voxels of the listed one).
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
from tomosift.io.file_content import parse_xml
from tomosift.io.particles.pixel_size import PixelSize
from tomosift.io.particles.pixel_tables import (
    PixelConvention,
    class_names,
    class_numbers,
    tomogram_numbers,
)
from tomosift.io.particles.registry import Format, Opening
from tomosift.particles import Grid, Particles


def _is_object_list(opening: Opening) -> bool:
    """Whether the XML holds DeepFinder's root element."""
    return "<objlist" in opening.text


FORMAT = Format("A DeepFinder object list (.xml).", suffixes=(".xml",), recognizes=_is_object_list)
CONVENTION = PixelConvention("deepfinder", (0.0, 0.0, 0.0), angles.from_tom, angles.to_tom)
ANGLES = ["phi", "psi", "the"]


def parse_numbers(path: Path, element: ElementTree.Element, names: list[str], k: int) -> list[float]:
    """Return these attributes of element k (from 0) as numbers; `FormatError` where one is missing or no number."""
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
    objects = list(parse_xml(path, "objlist").iter("object"))
    xyz = np.array([parse_numbers(path, item, ["x", "y", "z"], k) for k, item in enumerate(objects)]).reshape(-1, 3)
    triples = np.full((len(objects), 3), np.nan)
    for k, item in enumerate(objects):
        if all(name in item.attrib for name in ANGLES):
            triples[k] = parse_numbers(path, item, ANGLES, k)
    columns = pd.DataFrame([dict(item.attrib) for item in objects])
    tomogram = _attribute(columns, "tomo_name", _attribute(columns, "tomo_idx", np.full(len(objects), path.stem)))
    label = _attribute(columns, "class_label", np.full(len(objects), ""))
    size = columns["cluster_size"] if "cluster_size" in columns else np.full(len(objects), np.nan)
    return CONVENTION.particles(
        path,
        tomogram,
        xyz,
        PixelSize(voxel_spacing_angstrom, grids),
        angles_deg=triples,
        class_name=class_names(label, is_unset_when_uniform=False),
        score=pd.to_numeric(pd.Series(size), errors="coerce").to_numpy(dtype=np.float64),
        columns=columns,
    )


def _attribute(columns: pd.DataFrame, name: str, default: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return an attribute of every object, or the default where no object has it."""
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

    Parameters
    ----------
    path
        The list to write.
    particles
        What to write.
    voxel_spacing_angstrom, grids
        Size of one pixel, see `tomosift.io.particles.write_particles`.

    Raises
    ------
    ValueError
        Nothing says the voxel spacing.
    """
    xyz = CONVENTION.pixels(particles, PixelSize(voxel_spacing_angstrom, grids))
    number, label = tomogram_numbers(particles.tomogram), class_numbers(particles)
    triples = CONVENTION.angles_deg(particles)
    is_unchanged = particles.source == CONVENTION.source
    records = particles.columns.astype(object).to_dict("records") if is_unchanged else [{}] * len(particles)
    root = ElementTree.Element("objlist")
    for k in range(len(particles)):
        item = {str(name): str(value) for name, value in records[k].items() if value == value}
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

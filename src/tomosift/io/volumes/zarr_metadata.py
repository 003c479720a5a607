"""Multiscale metadata of OME-Zarr, versions 0.4 and 0.5, parsed and built.

Source: the OME-NGFF specification, https://ngff.openmicroscopy.org, sections ``multiscales`` and
``coordinateTransformations``. Of the latter only scale and translation exist in these versions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.errors import FormatError
from tomosift.io.volumes.tiff import ANGSTROM_PER_UNIT
from tomosift.io.volumes.volume import cubic_spacing


@dataclass(frozen=True)
class Axes:
    """Which stored axes of the arrays are z, y and x."""

    order: tuple[int, int, int]
    """Stored axes that are z, y, x."""
    angstrom_per_unit: tuple[float | None, ...]
    """Of z, y, x; None where no unit of length is stated."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Placement:
    """Where the voxels of one array are."""

    voxel_spacing_angstrom: float | None
    origin_zyx_angstrom: tuple[float, float, float]
    notes: tuple[str, ...]


def ome_attributes(group: Any) -> Mapping[str, Any]:
    """Return the OME metadata of a group: under ``ome`` since 0.5, at the top before."""
    attributes = dict(group.attrs)
    ome = attributes.get("ome", attributes)
    return ome if isinstance(ome, Mapping) else {}


def parse_multiscale(path: Path, group: Any) -> Mapping[str, Any]:
    """Return the first multiscale image of a group; `FormatError` without one."""
    listed = ome_attributes(group).get("multiscales")
    first = listed[0] if isinstance(listed, list) and listed else None
    if not isinstance(first, Mapping) or not isinstance(first.get("datasets"), list) or not first["datasets"]:
        raise FormatError(path, "multiscales", "missing", "OME-Zarr metadata", "open one of its arrays by path instead")
    return first


def parse_axes(path: Path, multiscale: Mapping[str, Any]) -> Axes:
    """Return the axes of a multiscale image; `FormatError` where z, y or x is missing."""
    axes = multiscale.get("axes", [])
    if not isinstance(axes, list):
        raise FormatError(path, "axes", repr(axes)[:40], "a list with z, y and x")
    names = [axis.get("name", "") if isinstance(axis, Mapping) else str(axis) for axis in axes]
    if not {"x", "y", "z"} <= set(names):
        raise FormatError(path, "axes", f"{names}", "z, y and x among them", "this is not a volume")
    order = (names.index("z"), names.index("y"), names.index("x"))
    units = [str(axes[axis].get("unit", "")).lower() if isinstance(axes[axis], Mapping) else "" for axis in order]
    notes = []
    if any(unit not in ANGSTROM_PER_UNIT for unit in units):
        unknown = next(unit for unit in units if unit not in ANGSTROM_PER_UNIT)
        then = "so the voxel size is unknown" if unknown else "Angstrom was assumed"
        notes.append(f"the unit of the axes is {unknown or 'missing'}; {then}")
    if list(order) != sorted(order):
        notes.append(f"the axis order in the file is {','.join(names)}; the data was put in z,y,x")
    return Axes(order, tuple(ANGSTROM_PER_UNIT.get(unit) for unit in units), tuple(notes))


def parse_placement(path: Path, multiscale: Mapping[str, Any], entry: Any, axes: Axes, dimensions: int) -> Placement:
    """Return voxel spacing and origin of one array of a multiscale image.

    A voxel size of 1 without a unit is unknown, on every level.

    Parameters
    ----------
    path
        The group, for error messages.
    multiscale, entry
        The image, and the array's entry among its ``datasets``.
    axes
        Axes of the image.
    dimensions
        Number of axes of the array.

    Raises
    ------
    FormatError
        The transformations are malformed.
    """
    try:
        scale, translation = _compose(multiscale, entry, dimensions)
        finest, _ = _compose(multiscale, multiscale["datasets"][0], dimensions)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(path, "coordinateTransformations", f"broken ({error})", "numbers, one per axis") from error
    order = list(axes.order)
    has_unit = None not in axes.angstrom_per_unit
    factor = np.asarray([unit or 1.0 for unit in axes.angstrom_per_unit])
    sizes, origin = scale[order] * factor, translation[order] * factor
    spacing, reason = cubic_spacing((sizes[0], sizes[1], sizes[2]), has_unit)
    if any(note.endswith("the voxel size is unknown") for note in axes.notes):
        spacing, reason = None, ""
    elif not _states_scale(multiscale, entry):
        spacing, reason = None, "no scale is stated, so the voxel size is unknown"
    if not has_unit and np.all(finest[order] == 1.0):
        spacing, reason = None, "the voxel size is 1 without a unit, which programs write when they do not know it"
    start = (float(origin[0]), float(origin[1]), float(origin[2]))
    return Placement(spacing, start, (*axes.notes, reason) if reason else axes.notes)


def _states_scale(multiscale: Mapping[str, Any], entry: Any) -> bool:
    """Whether a transformation of the array, or of all arrays, is a scale."""
    listed = [*(entry.get("coordinateTransformations") or []), *(multiscale.get("coordinateTransformations") or [])]
    return any(isinstance(one, Mapping) and one.get("type") == "scale" for one in listed)


def _compose(
    multiscale: Mapping[str, Any], entry: Any, dimensions: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scale and translation of an array: its own, then those common to all."""
    scale, translation = _apply_in_order(entry.get("coordinateTransformations"), dimensions)
    common_scale, common_translation = _apply_in_order(multiscale.get("coordinateTransformations"), dimensions)
    return scale * common_scale, translation * common_scale + common_translation


def _apply_in_order(entries: Any, dimensions: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scale and translation of a list of transformations."""
    scale, translation = np.ones(dimensions), np.zeros(dimensions)
    for entry in entries or []:
        if entry.get("type") == "scale":
            factor = np.asarray(entry["scale"], dtype=np.float64)
            scale, translation = scale * factor, translation * factor
        elif entry.get("type") == "translation":
            translation = translation + np.asarray(entry["translation"], dtype=np.float64)
    return scale, translation


def build_metadata(
    name: str,
    levels: int,
    voxel_spacing_angstrom: float | None,
    origin_zyx_angstrom: tuple[float, float, float],
    version: str,
) -> dict[str, Any]:
    """Return the attributes of an OME-Zarr group whose arrays are named ``0``, ``1`` ...

    Parameters
    ----------
    name
        Name of the image.
    levels
        Number of resolutions, each half as fine as the one before.
    voxel_spacing_angstrom
        Of the finest; None writes a scale of 1 without a unit.
    origin_zyx_angstrom
        Position of the center of voxel 0 of the finest.
    version
        ``0.4`` or ``0.5``.
    """
    unit = {"unit": "angstrom"} if voxel_spacing_angstrom is not None else {}
    datasets = []
    for level in range(levels):
        # The mean of 2^k voxels is half of 2^k - 1 voxels behind the first of them.
        edge = (voxel_spacing_angstrom or 1.0) * 2**level
        shift = (2**level - 1) / 2 * (voxel_spacing_angstrom or 1.0)
        transforms: list[dict[str, Any]] = [{"type": "scale", "scale": [edge] * 3}]
        if level or any(origin_zyx_angstrom):
            translation = [float(origin) + shift for origin in origin_zyx_angstrom]
            transforms.append({"type": "translation", "translation": translation})
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    axes = [{"name": axis, "type": "space", **unit} for axis in "zyx"]
    multiscale = {"name": name, "axes": axes, "datasets": datasets, "type": "mean"}
    if version == "0.5":
        return {"ome": {"version": version, "multiscales": [multiscale]}}
    return {"multiscales": [{"version": version, **multiscale}]}

"""Positions, orientations and pixel sizes in the columns of RELION and of the programs that write its files.

Rules, each the first that applies:

=============  ====================================================================================================
dialect        recognized by
=============  ====================================================================================================
``m``          ``wrpCoordinateX1`` or ``wrpCoordinateX``: M, in Angstrom; the first of several poses counts
``relion5``    ``rlnCenteredCoordinateXAngst``: Angstrom from the tomogram's center; ``rlnCoordinateX`` beside it is
               ignored, as RELION does
``relion4``    ``rlnTomoName``
``warp``       a tomogram name that ends in ``.tomostar``, or any column that starts with ``wrp``
``pytom``      ``rlnLCCmax`` or a column that starts with ``ptm``
``relion31``   an optics block, ``rlnOpticsGroup`` or ``rlnOriginXAngst``
``relion3``    everything else with ``rlnCoordinateX``
=============  ====================================================================================================

One pixel of ``rlnCoordinateX/Y/Z`` is, from the particle's own row and else from its optics group:
``rlnTomoTiltSeriesPixelSize``, ``rlnMicrographPixelSize``, ``rlnPixelSize``, ``rlnImagePixelSize``,
``rlnDetectorPixelSize`` (times 10000 / ``rlnMagnification`` where the file has that),
``rlnMicrographOriginalPixelSize``. ``rlnImagePixelSize`` is divided by ``rlnTomoSubtomogramBinning`` where that stands
beside it, except in 2D stacks of WarpTools (see `tomosift.io.particles.relion`). A file without any of them is read by
the rule of `tomosift.io.particles.pixel_size`.

``rlnOriginX/Y/ZAngst`` (Angstrom) goes before ``rlnOriginX/Y/Z`` (pixels of the image). It is subtracted, rotated by
the ``rlnTomoSubtomogramRot/Tilt/Psi`` of the particle where it has them. Orientations are subtomogram times particle.

Source: RELION, ``ParticleSet::getPosition`` and ``getMatrix3x3``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tomosift.errors import FormatError
from tomosift.io.angles import drop_uniform_angles, from_relion
from tomosift.io.tomogram_names import match_names
from tomosift.particles import Grid, Particles

Center = Literal["relion", "relion-python"]
"""Where centered coordinates count from: ``relion``, size/2 as RELION's C++ programs; ``relion-python``,
(size/2 - 1) pixels of the tilt series as its Python picker wrote them."""

PIXEL_COORDINATES = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")
CENTERED_COORDINATES = ("rlnCenteredCoordinateXAngst", "rlnCenteredCoordinateYAngst", "rlnCenteredCoordinateZAngst")
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
SUBTOMOGRAM_ANGLES = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
ORIGIN_ANGSTROM = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst")
ORIGIN_PIXELS = ("rlnOriginX", "rlnOriginY", "rlnOriginZ")
TOMOGRAM_SIZE = ("rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ")
COORDINATE_PIXEL_SIZES = (
    "rlnTomoTiltSeriesPixelSize",
    "rlnMicrographPixelSize",
    "rlnPixelSize",
    "rlnImagePixelSize",
    "rlnDetectorPixelSize",
    "rlnMicrographOriginalPixelSize",
)
IMAGE_PIXEL_SIZES = ("rlnImagePixelSize", "rlnPixelSize", "rlnDetectorPixelSize")
M_COORDINATES = (
    ("wrpCoordinateX1", "wrpCoordinateY1", "wrpCoordinateZ1"),
    ("wrpCoordinateX", "wrpCoordinateY", "wrpCoordinateZ"),
)
M_ANGLES = (("wrpAngleRot1", "wrpAngleTilt1", "wrpAnglePsi1"), ("wrpAngleRot", "wrpAngleTilt", "wrpAnglePsi"))
NAME_COLUMNS, BINNING = ("rlnTomoName", "rlnMicrographName", "wrpSourceName"), "rlnTomoSubtomogramBinning"
UNSET = -999.0
"""RELION's number for a value that was never set."""


def has(columns: pd.DataFrame, labels: tuple[str, ...]) -> bool:
    """Whether the table has all of these columns."""
    return all(label in columns for label in labels)


def dialect(columns: pd.DataFrame, optics: pd.DataFrame | None) -> str:
    """Return the program whose particle list this is, by the table in the module's docstring; empty for none.

    Parameters
    ----------
    columns
        A block of a STAR file.
    optics
        The optics block beside it, if any.
    """
    if any(has(columns, labels) for labels in M_COORDINATES):
        return "m"
    if has(columns, CENTERED_COORDINATES):
        return "relion5"
    if not has(columns, PIXEL_COORDINATES):
        return ""
    if "rlnTomoName" in columns:
        return "relion4"
    names = columns["rlnMicrographName"] if "rlnMicrographName" in columns else pd.Series([], dtype=object)
    if names.astype(str).str.endswith(".tomostar").any() or any(str(label).startswith("wrp") for label in columns):
        return "warp"
    if "rlnLCCmax" in columns or any(str(label).startswith("ptm") for label in columns):
        return "pytom"
    if optics is not None or "rlnOpticsGroup" in columns or has(columns, ORIGIN_ANGSTROM[:1]):
        return "relion31"
    return "relion3"


def numbers(path: Path, columns: pd.DataFrame, labels: tuple[str, ...]) -> NDArray[np.float64]:
    """Return the columns with these labels as float64 ``(n, k)``.

    Raises
    ------
    FormatError
        A row holds no number; the message names the column and the row, from 1.
    """
    values = np.empty((len(columns), len(labels)))
    for k, label in enumerate(labels):
        column = columns[label]
        parsed = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
        if column.dtype.kind not in "iuf":
            wrong = np.flatnonzero(np.isnan(parsed) & ~column.isna() & (column.astype(str).str.lower() != "nan"))
            if wrong.size:
                raise FormatError(path, f"{label} of row {wrong[0] + 1}", repr(column.iloc[wrong[0]]), "a number")
        values[:, k] = parsed
    return values


def coordinates(path: Path, columns: pd.DataFrame, labels: tuple[str, ...]) -> NDArray[np.float64]:
    """Return the columns with these labels ``(n, k)``; `FormatError` where a value is not finite."""
    values = numbers(path, columns, labels)
    rows, axes = np.nonzero(~np.isfinite(values))
    if rows.size:
        where, got = f"{labels[axes[0]]} of row {rows[0] + 1}", str(values[rows[0], axes[0]])
        raise FormatError(path, where, got, "a finite number", "remove the particle or give its position")
    return values


def pixel_size(
    path: Path, columns: pd.DataFrame, optics: pd.DataFrame | None, candidates: tuple[str, ...]
) -> NDArray[np.float64] | None:
    """Return Angstrom per pixel ``(n,)`` from the first of these labels that the file has, or None.

    Parameters
    ----------
    path
        The file, for error messages.
    columns, optics
        The particles and the optics block, if any.
    candidates
        Labels, such as `COORDINATE_PIXEL_SIZES`. One that is 0, no number or unset in some row is passed over.

    Raises
    ------
    FormatError
        A pixel size is negative or infinite, or a particle's optics group does not exist.
    """
    for label in candidates:
        size = _values_of_particles(path, columns, optics, label)
        if size is None:
            continue
        if label == "rlnImagePixelSize" and candidates == COORDINATE_PIXEL_SIZES:
            # The pixel of binned subtomograms; coordinates count those of the tilt series.
            binning = _values_of_particles(path, columns, optics, BINNING)
            size = size if binning is None else size / binning
        if label == "rlnDetectorPixelSize":
            magnification = _values_of_particles(path, columns, optics, "rlnMagnification")
            size = size if magnification is None else size * 1e4 / magnification
        wrong = np.flatnonzero(~(np.isfinite(size) & (size > 0)))
        if wrong.size == 0:
            return size
        if not (np.isnan(size[wrong]) | np.isin(size[wrong], (0.0, UNSET))).all():
            raise FormatError(path, f"{label} of row {wrong[0] + 1}", str(size[wrong[0]]), "a positive pixel size")
    return None


def _values_of_particles(
    path: Path, columns: pd.DataFrame, optics: pd.DataFrame | None, label: str
) -> NDArray[np.float64] | None:
    """Return the values of a label ``(n,)``, of the particles' own table or of their optics groups, or None."""
    if label in columns:
        return numbers(path, columns, (label,))[:, 0]
    if optics is None or label not in optics or len(optics) == 0:
        return None
    values = numbers(path, optics, (label,))[:, 0]
    if "rlnOpticsGroup" not in columns or "rlnOpticsGroup" not in optics:
        if len(optics) == 1:
            return np.full(len(columns), values[0])
        raise FormatError(path, "rlnOpticsGroup", "missing", f"the group of each particle, for {len(optics)} groups")
    groups = numbers(path, optics, ("rlnOpticsGroup",))[:, 0]
    for number in np.unique(groups):
        if len(np.unique(values[groups == number])) > 1:
            where, got = f"{label} of optics group {number:g}", "given twice with two values"
            raise FormatError(path, where, got, "one of them")
    group = numbers(path, columns, ("rlnOpticsGroup",))[:, 0]
    rank = np.argsort(groups)
    index = rank[np.searchsorted(groups, group, sorter=rank).clip(0, len(groups) - 1)]
    absent = np.flatnonzero(groups[index] != group)
    if absent.size:
        raise FormatError(path, f"rlnOpticsGroup of row {absent[0] + 1}", f"{group[absent[0]]:g}",
                          f"one of {', '.join(f'{g:g}' for g in groups)}, as in data_optics")  # fmt: skip
    return np.asarray(values[index], dtype=np.float64)


def rotations(path: Path, columns: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Return the orientations of the particles, and of their subtomograms or None; both ``(n, 3, 3)``.

    They act on zyx vectors and are NaN where unknown.
    """
    n = len(columns)
    subtomogram = _rotation(path, columns, SUBTOMOGRAM_ANGLES)
    particle = _rotation(path, columns, ANGLES)
    for labels in M_ANGLES:
        particle = _rotation(path, columns, labels) if particle is None else particle
    if particle is not None and "tomosiftOriented" in columns:
        particle = np.where(numbers(path, columns, ("tomosiftOriented",))[:, :, None] == 0, np.nan, particle)
    if subtomogram is None:
        return (np.full((n, 3, 3), np.nan) if particle is None else particle), None
    return (subtomogram if particle is None else subtomogram @ particle), subtomogram


def _rotation(path: Path, columns: pd.DataFrame, labels: tuple[str, ...]) -> NDArray[np.float64] | None:
    """Return the rotations of these angles ``(n, 3, 3)``, or None where the table lacks them."""
    if not has(columns, labels):
        return None
    angles = numbers(path, columns, labels)
    return from_relion(np.where(angles == UNSET, np.nan, angles))


def uniform_angles_note(path: Path, columns: pd.DataFrame) -> str:
    """Return the note on a table whose particle angles say nothing because all are equal; empty where they differ."""
    labels = next((labels for labels in (ANGLES, *M_ANGLES) if has(columns, labels)), None)
    if labels is None or has(columns, SUBTOMOGRAM_ANGLES) or "tomosiftOriented" in columns:
        return ""
    return drop_uniform_angles(numbers(path, columns, labels))[1]


def tomogram_names(columns: pd.DataFrame, fallback: str) -> NDArray[np.object_]:
    """Return the tomogram names ``(n,)`` as they are in the file; ``fallback`` where no column holds them."""
    for label in NAME_COLUMNS:
        if label in columns:
            return columns[label].astype(str).to_numpy(dtype=object)
    return np.full(len(columns), fallback, dtype=object)


def counted_ids(names: NDArray[np.object_]) -> NDArray[np.object_]:
    """Return ``tomogram/000001`` and so on ``(n,)``, without Warp's ``.tomostar``: equal in every dialect.

    Examples
    --------
    >>> counted_ids(np.array(["TS_1.tomostar", "TS_1.tomostar"], dtype=object)).tolist()
    ['TS_1/000001', 'TS_1/000002']
    """
    plain = [str(name).removesuffix(".tomostar") for name in names]
    return Particles.create(plain, np.zeros((len(names), 3))).particle_id


def grid_of(path: Path, name: str, grids: Mapping[str, Grid]) -> Grid:
    """Return the grid of a tomogram by the rule of `tomosift.io.tomogram_names`; `FormatError` without one."""
    match = match_names([name], {key: grid.aliases for key, grid in grids.items()})
    if name in match.key_of:
        return grids[match.key_of[name]]
    known = ", ".join(match.ambiguous.get(name, list(grids))[:5]) or "none"
    got = "ambiguous" if match.ambiguous else "unknown"
    raise FormatError(path, f"size of tomogram {name}", got, f"one tomogram among those given ({known})",
                      "give that tomogram as well, or remove its particles from the table")  # fmt: skip


def center_xyz_angstrom(
    path: Path,
    names: NDArray[np.object_],
    columns: pd.DataFrame,
    optics: pd.DataFrame | None,
    grids: Mapping[str, Grid] | None,
    center: Center,
) -> NDArray[np.float64]:
    """Return where centered coordinates count from ``(n, 3)``, in Angstrom from the center of voxel 0.

    Sizes come from ``rlnTomoSizeX/Y/Z`` (pixels of the tilt series) beside the particles and else from ``grids``.

    Raises
    ------
    FormatError
        The size of a tomogram is unknown.

    Source: RELION ``TomogramSet::loadTomogram``, center = size / 2.0, also for odd sizes.
    """
    pixel = pixel_size(path, columns, optics, ("rlnTomoTiltSeriesPixelSize",))
    if has(columns, TOMOGRAM_SIZE) and pixel is not None:
        extent = numbers(path, columns, TOMOGRAM_SIZE) * pixel[:, None]
        spacing = pixel
    else:
        distinct, inverse = np.unique(names.astype(str), return_inverse=True)
        listed = [grid_of(path, name, grids or {}) for name in distinct]
        extent = np.stack([grid.extent_zyx_angstrom[::-1] for grid in listed])[inverse]
        spacing = np.array([grid.voxel_spacing_angstrom for grid in listed])[inverse]
    center_xyz = extent / 2
    if center == "relion-python":
        center_xyz = center_xyz - (spacing if pixel is None else pixel)[:, None]
    return np.asarray(center_xyz, dtype=np.float64)

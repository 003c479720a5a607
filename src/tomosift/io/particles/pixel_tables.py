"""What tables in pixels have in common: the pixel size, numbered tomograms and classes, angles that were never set."""

import gzip
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tomosift.errors import FormatError
from tomosift.files import written_then_renamed
from tomosift.particles import Grid, Particles

NUMBERED_CLASS = re.compile(r"(?:class )?(\d+)")
ADVICE = "give the size of one pixel in Angstrom with --picks-spacing"


def content(path: Path) -> bytes:
    """The bytes of a file, unpacked where it is gzipped."""
    raw = path.read_bytes()
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(path, "compressed content", "cut short or damaged", "a complete gzip file") from error


def _spacings(
    tomogram: NDArray[Any], voxel_spacing_angstrom: float | None, grids: Mapping[str, Grid] | None, stated: float | None
) -> NDArray[np.float64] | None:
    if voxel_spacing_angstrom is not None:
        if not voxel_spacing_angstrom > 0:
            raise ValueError(f"voxel_spacing_angstrom is {voxel_spacing_angstrom}, expected a positive number")
        return np.full(len(tomogram), voxel_spacing_angstrom)
    if stated is not None:
        return np.full(len(tomogram), stated)
    if grids is not None and len(tomogram) and all(name in grids for name in set(tomogram)):
        return np.array([grids[name].voxel_spacing_angstrom for name in tomogram])
    return None


def spacings_to_read(
    path: Path,
    tomogram: NDArray[Any],
    voxel_spacing_angstrom: float | None,
    grids: Mapping[str, Grid] | None,
    stated: float | None = None,
) -> NDArray[np.float64]:
    """(n,) Angstrom per pixel of each particle: as asked for, as stated by the file, or of its tomogram's grid."""
    spacings = _spacings(tomogram, voxel_spacing_angstrom, grids, stated)
    if spacings is None:
        raise FormatError(path, "pixel size of the coordinates", "not in the file", "a number of Angstrom", ADVICE)
    return spacings


def spacings_to_write(
    tomogram: NDArray[Any], voxel_spacing_angstrom: float | None, grids: Mapping[str, Grid] | None
) -> NDArray[np.float64]:
    """(n,) Angstrom per pixel that coordinates are divided by; ``ValueError`` where nothing says it."""
    spacings = _spacings(tomogram, voxel_spacing_angstrom, grids, None)
    if spacings is None:
        raise ValueError(f"this format holds coordinates in pixels and no pixel size is known; {ADVICE}")
    return spacings


def positions(
    path: Path, xyz: NDArray[np.float64], first_voxel_xyz: tuple[float, float, float], spacings: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n, 3) zyx Angstrom of coordinates in pixels whose value at the centre of voxel 0 is ``first_voxel_xyz``."""
    if not np.isfinite(xyz).all():
        row = int(np.flatnonzero(~np.isfinite(xyz).all(axis=1))[0])
        raise FormatError(path, f"coordinates of particle {row + 1}", f"{xyz[row].tolist()}", "three finite numbers")
    offset: NDArray[np.float64] = (xyz - np.asarray(first_voxel_xyz))[:, ::-1] * spacings[:, None]
    return offset


def pixels(
    particles: Particles, first_voxel_xyz: tuple[float, float, float], spacings: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n, 3) xyz in pixels; the inverse of ``positions``."""
    xyz: NDArray[np.float64] = particles.position_zyx_angstrom[:, ::-1] / spacings[:, None] + np.array(first_voxel_xyz)
    return xyz


def unknown_where_never_set(rotation: NDArray[np.float64], angles_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN throughout where every angle of the table is zero: that is how these formats spell "no orientation yet"."""
    return np.full_like(rotation, np.nan) if not np.any(angles_deg) else rotation


def class_names(values: NDArray[Any], unset_when_uniform: bool = True) -> NDArray[Any]:
    """(n,) names of classes; the number 3 becomes ``class 3``, and 0, which is "none", the empty name.

    ``unset_when_uniform``: one number in every row is what programs write that have not classified, and names nothing.
    """
    numbers = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce")
    if unset_when_uniform and numbers.notna().all() and numbers.nunique() <= 1:
        return np.full(len(values), "", dtype=object)
    names = [
        str(value) if np.isnan(number) else f"class {number:g}" if number else ""
        for value, number in zip(values, numbers, strict=True)
    ]
    return np.array(names, dtype=object)


def class_numbers(particles: Particles) -> NDArray[np.int64]:
    """(n,) a number for each class, 0 for none: ``rlnClassNumber`` where that column exists, the number in the name
    where every name is one (``class 3`` or ``3``), otherwise the rank among the sorted names, from 1."""
    if "rlnClassNumber" in particles.columns:
        return pd.to_numeric(particles.columns["rlnClassNumber"]).to_numpy().astype(np.int64)
    names = sorted({str(name) for name in particles.class_name} - {""})
    stated = [NUMBERED_CLASS.fullmatch(name) for name in names]
    rank = {"": 0} | {name: int(found[1]) for name, found in zip(names, stated, strict=True) if found}
    if len(rank) <= len(names):
        rank = {"": 0} | {name: k + 1 for k, name in enumerate(names)}
    return np.array([rank[str(name)] for name in particles.class_name], dtype=np.int64)


def tomogram_numbers(tomogram: NDArray[Any]) -> NDArray[np.int64]:
    """(n,) the names as numbers where all of them are, otherwise numbers from 1 in order of first appearance."""
    order = list(dict.fromkeys(str(name) for name in tomogram))
    numeric = all(name.isdecimal() and str(int(name)) == name for name in order)
    number = {name: int(name) if numeric else k + 1 for k, name in enumerate(order)}
    return np.array([number[str(name)] for name in tomogram], dtype=np.int64)


def names_file(path: Path) -> Path:
    """The list of tomograms beside a table: the same name with the suffix ``.doc``, as Dynamo has it."""
    bare = path.with_suffix("") if path.suffix.lower() in {".gz", ".bz2"} else path
    return bare.with_suffix(".doc")


def read_tomogram_names(path: Path, numbers: NDArray[np.float64]) -> NDArray[Any]:
    """(n,) the name of each numbered tomogram from the ``.doc`` beside ``path``; the number itself without one."""
    listing = names_file(path)
    named: dict[int, str] = {}
    if listing.is_file():
        for k, line in enumerate(listing.read_text(errors="replace").splitlines()):
            number, _, name = line.strip().partition(" ")
            if line.strip():
                if not number.isdecimal() or not name.strip():
                    raise FormatError(listing, f"line {k + 1}", repr(line[:60]), "a tomogram number and its file")
                named[int(number)] = name.strip()
    if not np.isfinite(numbers).all():
        raise FormatError(path, "tomogram number", "not a number", "an integer in every row")
    return np.array([named.get(int(number), str(int(number))) for number in numbers], dtype=object)


def write_tomogram_names(path: Path, tomogram: NDArray[Any], numbers: NDArray[np.int64]) -> None:
    """Write the ``.doc`` beside ``path``, or nothing where the numbers are the names."""
    table = pd.Series(tomogram.astype(str), index=numbers).groupby(level=0).first()
    if all(str(number) == name for number, name in table.items()):
        return
    with written_then_renamed(names_file(path)) as temporary:
        temporary.write_text("".join(f"{number} {name}\n" for number, name in table.items()))

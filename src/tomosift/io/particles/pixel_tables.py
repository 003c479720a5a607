"""What formats in pixels share: the pixel size, the first pixel, angles, and numbers in place of names.

A format states its convention once, as a `PixelConvention`, and hands over its rows. Conversion to `Particles` and back
is written here and nowhere else.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tomosift.errors import FormatError
from tomosift.files import written_then_renamed
from tomosift.io.angles import drop_uniform_angles
from tomosift.io.file_content import read_text
from tomosift.io.particles.class_values import number_classes
from tomosift.io.particles.pixel_size import PixelSize
from tomosift.particles import Particles

DYNAMO_NAMES = "indices_column20.doc"
"""Dynamo's own list of tomograms beside a table."""
LARGEST_COORDINATE = 1e7
"""Pixels; positions beyond are no positions."""
Angles = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class PixelConvention:
    """How a format counts pixels and writes orientations.

    Attributes
    ----------
    source
        Name of the format, kept as the dialect of the particles.
    first_voxel_xyz
        Coordinates of the center of voxel 0.
    from_angles, to_angles
        Conversion between angles in degree ``(n, 3)`` and rotations ``(n, 3, 3)``, see `tomosift.io.angles`.
    zeros_are_unknown
        Whether a table whose angles are all zero has no orientations yet, and zeros are written for unknown ones.
    """

    source: str
    first_voxel_xyz: tuple[float, float, float]
    from_angles: Angles | None = None
    to_angles: Angles | None = None
    zeros_are_unknown: bool = False

    def particles(
        self,
        path: Path,
        tomogram: NDArray[Any],
        xyz: NDArray[np.float64],
        size: PixelSize,
        *,
        columns: pd.DataFrame,
        angles_deg: NDArray[np.float64] | None = None,
        rotation: NDArray[np.float64] | None = None,
        class_name: NDArray[Any] | None = None,
        score: NDArray[np.float64] | None = None,
    ) -> Particles:
        """Return the particles of n rows.

        Parameters
        ----------
        path
            The file, for error messages.
        tomogram
            ``(n,)`` names.
        xyz
            ``(n, 3)`` coordinates in pixels with every shift applied.
        size
            Size of one pixel.
        columns
            The rows as they stand in the file.
        angles_deg, rotation
            Orientations as the format's angles ``(n, 3)`` or as matrices ``(n, 3, 3)``; NaN where unknown.
        class_name, score
            ``(n,)``

        Raises
        ------
        FormatError
            A coordinate is not finite, or nothing says the pixel size.
        """
        check_coordinates(path, xyz)
        spacing, notes = size.to_read(path, tomogram, xyz)
        if angles_deg is not None and self.from_angles is not None:
            angles_deg, note = drop_uniform_angles(angles_deg)
            rotation, notes = self.from_angles(angles_deg), (*notes, note)
        return Particles.create(
            tomogram,
            self.positions(path, xyz, spacing),
            rotation=rotation,
            class_name=class_name,
            score=score,
            columns=columns,
            source=self.source,
        ).with_notes(*notes)

    def positions(
        self, path: Path, xyz: NDArray[np.float64], spacing_angstrom: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return zyx positions ``(n, 3)`` in Angstrom from the center of voxel 0, of xyz coordinates in pixels."""
        check_coordinates(path, xyz)
        position: NDArray[np.float64] = (xyz - np.asarray(self.first_voxel_xyz))[:, ::-1] * spacing_angstrom[:, None]
        return position

    def pixels(self, particles: Particles, size: PixelSize) -> NDArray[np.float64]:
        """Return xyz coordinates ``(n, 3)`` in pixels, the inverse of `positions`; ``ValueError`` without a size."""
        spacing = size.to_write(particles.tomogram)
        in_pixels = particles.position_zyx_angstrom[:, ::-1] / spacing[:, None]
        xyz: NDArray[np.float64] = in_pixels + np.array(self.first_voxel_xyz)
        return xyz

    def angles_deg(self, particles: Particles) -> NDArray[np.float64]:
        """Return the format's angles ``(n, 3)``; unknown ones are zero or NaN as the format has it."""
        if self.to_angles is None:
            return np.full((len(particles), 3), np.nan)
        angles = self.to_angles(particles.rotation)
        return np.nan_to_num(angles) if self.zeros_are_unknown else angles

    def rows_as_read(self, particles: Particles, names: list[str]) -> pd.DataFrame | None:
        """Return these columns as they were read, or None for particles of another format or moved since.

        The column ``class`` follows ``rlnClassNumber`` where that was added.
        """
        if particles.source != self.source:
            return None
        table = particles.columns[[name for name in particles.columns if name in set(names)]].copy()
        if "rlnClassNumber" in particles.columns:
            table["class"] = class_numbers(particles)
        return table


def check_coordinates(path: Path, xyz: NDArray[np.float64]) -> None:
    """Raise a `FormatError` that names the first particle whose coordinates ``(n, 3)`` no tomogram has."""
    wrong = np.flatnonzero(~(np.abs(xyz) < LARGEST_COORDINATE).all(axis=1))
    if wrong.size:
        field = f"coordinates of particle {wrong[0] + 1}"
        raise FormatError(path, field, f"{xyz[wrong[0]].tolist()}", "three finite numbers of pixels")


def class_names(values: NDArray[Any], is_unset_when_uniform: bool = True) -> NDArray[Any]:
    """Return names of classes ``(n,)``; the number 3 becomes ``class 3``, and 0, which is "none", the empty name.

    Parameters
    ----------
    values
        ``(n,)`` numbers or names.
    is_unset_when_uniform
        Whether one number in every row names nothing: programs that have not classified write that.

    Examples
    --------
    >>> class_names(np.array([0, 3, 1])).tolist()
    ['', 'class 3', 'class 1']
    """
    numbers = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce")
    if is_unset_when_uniform and numbers.notna().all() and numbers.nunique() <= 1:
        return np.full(len(values), "", dtype=object)
    names = [
        str(value) if np.isnan(number) else f"class {number:g}" if number else ""
        for value, number in zip(values, numbers, strict=True)
    ]
    return np.array(names, dtype=object)


def class_numbers(particles: Particles) -> NDArray[np.int64]:
    """Return a number for each class ``(n,)``, 0 for none.

    The number is ``rlnClassNumber`` where that column exists. Else it is the number in the name where every name has
    one (``class 3`` or ``3``), and otherwise the rank among the sorted names, from 1.
    """
    if "rlnClassNumber" in particles.columns:
        numbers = pd.to_numeric(particles.columns["rlnClassNumber"], errors="coerce").to_numpy(np.float64)
        return np.where(np.abs(numbers) < LARGEST_COORDINATE, numbers, 0).astype(np.int64)
    number = {"": 0} | number_classes(sorted({str(name) for name in particles.class_name} - {""}))
    return np.array([number[str(name)] for name in particles.class_name], dtype=np.int64)


def tomogram_numbers(tomogram: NDArray[Any]) -> NDArray[np.int64]:
    """Return the names as numbers ``(n,)`` where all are, else numbers from 1 in order of first appearance.

    Examples
    --------
    >>> tomogram_numbers(np.array(["TS_7", "TS_3", "TS_7"])).tolist()
    [1, 2, 1]
    """
    order = list(dict.fromkeys(str(name) for name in tomogram))
    is_numeric = all(name.isdecimal() and str(int(name)) == name for name in order)
    number = {name: int(name) if is_numeric else k + 1 for k, name in enumerate(order)}
    return np.array([number[str(name)] for name in tomogram], dtype=np.int64)


def names_file(path: Path) -> Path:
    """Return the list of tomograms beside a table: the same name with the suffix ``.doc``, as Dynamo has it."""
    bare = path.with_suffix("") if path.suffix.lower() in {".gz", ".bz2"} else path
    return bare.with_suffix(".doc")


def read_tomogram_names(path: Path, numbers: NDArray[Any]) -> NDArray[Any]:
    """Return the name of each numbered tomogram ``(n,)`` from the ``.doc`` beside ``path``; else the number itself.

    Raises
    ------
    FormatError
        A line of the list is malformed, or a number is missing.
    """
    if not (np.abs(numbers) < LARGEST_COORDINATE).all():
        raise FormatError(path, "tomogram number", "not a number", "an integer in every row")
    listing = next((file for file in (names_file(path), path.with_name(DYNAMO_NAMES)) if file.is_file()), None)
    names: dict[int, str] = {}
    for k, line in enumerate([] if listing is None else read_text(listing).splitlines()):
        words = line.split(maxsplit=1)
        if words and (len(words) < 2 or not re.fullmatch(r"\d{1,9}", words[0])):
            raise FormatError(listing or path, f"line {k + 1}", repr(line[:60]), "a tomogram number and its file")
        if words:
            names[int(words[0])] = words[1].strip()
    return np.array([names.get(int(number), str(int(number))) for number in numbers], dtype=object)


def write_tomogram_names(path: Path, tomogram: NDArray[Any], numbers: NDArray[np.int64]) -> None:
    """Write the ``.doc`` beside ``path``, or nothing where the numbers are the names."""
    table = pd.Series(tomogram.astype(str), index=numbers).groupby(level=0).first()
    if all(str(number) == name for number, name in table.items()):
        return
    with written_then_renamed(names_file(path)) as temporary:
        temporary.write_text("".join(f"{number} {name}\n" for number, name in table.items()))

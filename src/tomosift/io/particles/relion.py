"""Particle lists in STAR files: RELION 3.0, 3.1, 4 and 5, Warp, M and PyTom.

Which program wrote a list is decided by its columns, see `tomosift.io.particles.relion_columns`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tomosift.errors import FormatError
from tomosift.io.particles import relion_columns
from tomosift.io.particles.pixel_size import ADVICE, PixelSize
from tomosift.io.particles.registry import Format, Opening
from tomosift.io.particles.relion_blocks import Dialect, derive_blocks, find_particle_block
from tomosift.io.particles.relion_columns import Center
from tomosift.io.particles.relion_pixels import PixelTable, describe_contradiction, find_pixel_size
from tomosift.io.star_text import read_star, write_star
from tomosift.io.tomogram_names import match_names
from tomosift.particles import Grid, Particles


def _is_star(opening: Opening) -> bool:
    """Whether a data block begins in the text."""
    return opening.text.startswith("data_") or "\ndata_" in opening.text


FORMAT = Format(
    "Particle lists of RELION 3, 3.1, 4 and 5, Warp, M and PyTom (.star).", suffixes=(".star",), recognizes=_is_star
)

SCORE_COLUMNS = ("rlnAutopickFigureOfMerit", "rlnLCCmax", "ptmLCCmax", "wrpCCScore")
_VERSIONS = {"relion31": "30001", "relion4": "30001", "warp": "30001", "relion5": "50001"}
_SOURCES = {*get_args(Dialect), "pytom", "m"}


def read_particles(
    path: Path,
    *,
    voxel_spacing_angstrom: float | None = None,
    grids: Mapping[str, Grid] | None = None,
    center: Center = "relion",
    class_column: str | None = None,
) -> Particles:
    """Read a particle list, plain or gzipped, with every shift and subtomogram angle applied.

    The tomogram is ``rlnTomoName``, ``rlnMicrographName`` or ``wrpSourceName``, in this order, and the name of the
    file where it has none of them.

    Parameters
    ----------
    path
        The list.
    voxel_spacing_angstrom
        One pixel of the coordinates; used only where the file states no pixel size, see `pixel_size`.
    grids
        Tomograms by name; needed for RELION 5's centered coordinates unless the list holds ``rlnTomoSizeX/Y/Z``.
    center
        What centered coordinates count from: ``relion`` is size/2, ``relion-python`` is (size/2 - 1).
    class_column
        Column to take classes from instead of ``tomosiftClass``, such as ``rlnClassNumber``; the number 3 becomes
        ``class 3``.

    Raises
    ------
    FormatError
        The text is malformed, the file lists other things, or it lacks the pixel size or a tomogram size.
    """
    path = Path(path)
    blocks = read_star(path)
    name = find_particle_block(path, blocks)
    columns = blocks.pop(name)
    if len(columns) == 0:
        raise FormatError(path, f"block data_{name}", "empty", "at least one particle")
    optics = blocks.get("optics")
    source = relion_columns.dialect(columns, optics)
    tomogram = relion_columns.tomogram_names(columns, path.name.removesuffix(".gz").removesuffix(".star"))
    rotation, subtomogram = relion_columns.rotations(path, columns)
    notes = [relion_columns.uniform_angles_note(path, columns), describe_contradiction(path, columns, optics)]
    if notes[0]:
        rotation = np.full_like(rotation, np.nan)
    table = PixelTable(path, columns, optics, tomogram, PixelSize(voxel_spacing_angstrom, grids))
    position_xyz = _coordinates_angstrom(table, source, center, notes)
    shift_zyx = _shift_zyx_angstrom(path, columns, optics, voxel_spacing_angstrom)
    if shift_zyx is not None:
        # The shift is in the frame of the subtomogram.
        shift_zyx = shift_zyx if subtomogram is None else np.einsum("nij,nj->ni", subtomogram, shift_zyx)
        position_xyz = position_xyz - shift_zyx[:, ::-1]
    return Particles.create(
        tomogram=tomogram,
        position_zyx_angstrom=position_xyz[:, ::-1],
        rotation=rotation,
        class_name=_classes(path, columns, class_column),
        score=_scores(path, columns),
        particle_id=_ids(columns, tomogram),
        columns=columns,
        tables=blocks,
        source=source,
        is_named_by_file=not any(label in columns for label in relion_columns.NAME_COLUMNS),
    ).with_notes(*notes)


def write_particles(
    path: Path,
    particles: Particles,
    *,
    voxel_spacing_angstrom: float | None = None,
    grids: Mapping[str, Grid] | None = None,
    dialect: Dialect | None = None,
    center: Center = "relion",
) -> None:
    """Write a particle list that RELION, Warp and the ``starfile`` package read; gzipped for ``.star.gz``.

    Particles that were read in the dialect to be written, and not moved since, keep all columns and all other blocks
    with equal values. Otherwise coordinates and angles are derived anew, shifts are zero, and every other column is
    kept. ``tomosiftClass``, and ``rlnAutopickFigureOfMerit`` for the score, are added where they are missing.

    Parameters
    ----------
    path
        The list to write.
    particles
        What to write.
    voxel_spacing_angstrom
        One pixel of the coordinates to be written, unless the particles came with the pixel size of a tilt series.
    grids
        Tomograms by name; needed for ``relion5`` unless the particles came with ``rlnTomoSizeX/Y/Z``.
    dialect
        None keeps the dialect that the particles came in; for others it is ``relion5`` where ``grids`` holds all
        their tomograms and ``relion4`` where not.
    center
        What centered coordinates count from, see `read_particles`.

    Raises
    ------
    ValueError
        The dialect does not exist, or no pixel size is known.
    FormatError
        ``relion5`` lacks the size of a tomogram.
    """
    path = Path(path)
    if dialect is not None and dialect not in get_args(Dialect):
        raise ValueError(f"dialect is {dialect!r}, expected one of {', '.join(get_args(Dialect))}")
    if particles.source in _SOURCES and len(particles.columns.columns) and dialect in (None, particles.source):
        single = particles.source in ("relion3", "m") and "" not in particles.tables
        tables = {name: table for name, table in particles.tables.items() if name != "particles"}
        blocks = {**tables, "" if single else "particles": particles.columns}
        version = _VERSIONS.get(particles.source)
    else:
        target: Dialect = dialect or ("relion5" if _has_all_grids(particles, grids) else "relion4")
        blocks = derive_blocks(path, particles, target, voxel_spacing_angstrom, grids, center)
        version = _VERSIONS.get(target)
    name = next(reversed(blocks))
    blocks[name] = _add_class_and_score(path, blocks[name], particles)
    write_star(path, blocks, version)


def _has_all_grids(particles: Particles, grids: Mapping[str, Grid] | None) -> bool:
    """Whether there is a grid for every tomogram."""
    known = {key: grid.aliases for key, grid in (grids or {}).items()}
    return len(match_names(map(str, particles.tomogram), known).key_of) == len(set(map(str, particles.tomogram)))


def _add_class_and_score(path: Path, columns: pd.DataFrame, particles: Particles) -> pd.DataFrame:
    """Return the table with classes and scores, where it does not have the same already."""
    added: dict[str, NDArray[np.object_] | NDArray[np.float64]] = {}
    names = _classes(path, columns, None)
    if (particles.class_name != "").any() and (names is None or not np.array_equal(names, particles.class_name)):
        added["tomosiftClass"] = particles.class_name
    if np.isfinite(particles.score).any() and not any(label in columns for label in SCORE_COLUMNS):
        # RELION reads no nan.
        added["rlnAutopickFigureOfMerit"] = np.where(np.isnan(particles.score), relion_columns.UNSET, particles.score)
    return columns.assign(**added)


def _coordinates_angstrom(table: PixelTable, source: str, center: Center, notes: list[str]) -> NDArray[np.float64]:
    """Return xyz from the center of voxel 0 ``(n, 3)``, before shifts; add notes."""
    path, columns = table.path, table.columns
    if source == "m":
        labels = next(labels for labels in relion_columns.M_COORDINATES if relion_columns.has(columns, labels))
        return relion_columns.coordinates(path, columns, labels)
    if source == "relion5":
        center_xyz = relion_columns.center_xyz_angstrom(
            path, table.tomogram, columns, table.optics, table.size.grids, center
        )
        return center_xyz + relion_columns.coordinates(path, columns, relion_columns.CENTERED_COORDINATES)
    pixels = relion_columns.coordinates(path, columns, relion_columns.PIXEL_COORDINATES)
    spacing, more = find_pixel_size(table, source, pixels)
    notes += more
    return pixels * spacing[:, None]


def _shift_zyx_angstrom(
    path: Path, columns: pd.DataFrame, optics: pd.DataFrame | None, spacing: float | None
) -> NDArray[np.float64] | None:
    """Return what is to be subtracted ``(n, 3)``, in the subtomogram's frame; None without shifts."""
    in_angstrom = tuple(label for label in relion_columns.ORIGIN_ANGSTROM if label in columns)
    labels = in_angstrom or tuple(label for label in relion_columns.ORIGIN_PIXELS if label in columns)
    if not labels:
        return None
    shift = np.zeros((len(columns), 3))
    for label in labels:
        shift[:, "ZYX".index(label[len("rlnOrigin")])] = relion_columns.coordinates(path, columns, (label,))[:, 0]
    if not in_angstrom and shift.any():
        candidates = relion_columns.IMAGE_PIXEL_SIZES + relion_columns.COORDINATE_PIXEL_SIZES
        stated = relion_columns.pixel_size(path, columns, optics, candidates)
        if stated is None and spacing is None:
            expected = f"one of {', '.join(candidates)}"
            raise FormatError(path, "pixel size of rlnOriginX/Y/Z", "missing", expected, ADVICE)
        in_angstrom_per_pixel = np.full(len(columns), spacing) if stated is None else stated
        shift *= in_angstrom_per_pixel[:, None]
    return shift


def _ids(columns: pd.DataFrame, tomogram: NDArray[np.object_]) -> NDArray[np.object_]:
    """Return the names of the particles ``(n,)``, of a column or counted."""
    for label in ("tomosiftParticleId", "rlnTomoParticleName"):
        if label in columns and columns[label].is_unique:
            return columns[label].astype(str).to_numpy(dtype=object)
    return relion_columns.counted_ids(tomogram)


def _scores(path: Path, columns: pd.DataFrame) -> NDArray[np.float64] | None:
    """Return the scores ``(n,)``, NaN where unset, or None where no column holds them."""
    for label in SCORE_COLUMNS:
        if label in columns:
            score = relion_columns.numbers(path, columns, (label,))[:, 0]
            return np.where(score == relion_columns.UNSET, np.nan, score)
    return None


def _classes(path: Path, columns: pd.DataFrame, class_column: str | None) -> NDArray[np.object_] | None:
    """Return the class names ``(n,)``, or None where no column holds them."""
    label = class_column or "tomosiftClass"
    if label not in columns:
        if class_column is None:
            return None
        raise FormatError(path, class_column, "missing", "the requested column of classes",
                          f"choose one of {', '.join(columns.columns)}")  # fmt: skip
    values = columns[label]
    if values.dtype.kind in "iuf":
        are_whole = values.dtype.kind == "f" and bool((values.dropna() % 1 == 0).all())
        texts = ["" if pd.isna(value) else f"class {int(value) if are_whole else value}" for value in values]
        return np.array(texts, dtype=object)
    return np.array(["" if pd.isna(value) else str(value) for value in values], dtype=object)

"""Blocks of RELION's STAR files: which one holds particles, and blocks derived from particles."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tomosift.acquisition import Acquisition
from tomosift.errors import FormatError
from tomosift.io.angles import drop_uniform_angles, to_relion
from tomosift.io.particles import relion_columns
from tomosift.io.particles.relion_columns import Center
from tomosift.particles import Grid, Particles

Dialect = Literal["relion3", "relion31", "relion4", "relion5", "warp"]
BLOCK_NAMES = ("particles", "images", "")
"""Blocks that are searched for particles before all others."""

_GEOMETRY = re.compile(
    r"rln(Centered)?Coordinate[XYZ](Angst)?|rlnOrigin[XYZ](Angst)?|rlnAngle(Rot|Tilt|Psi)(Prior)?|rlnTomoSubtomogram(Rot|"
    r"Tilt|Psi)|rlnTomoSize[XYZ]|wrp(Coordinate[XYZ]|Angle(Rot|Tilt|Psi))\d*|wrpSourceName|rlnMagnification|"
    + "|".join(relion_columns.COORDINATE_PIXEL_SIZES)
    + r"|[XYZ]|Shift[XYZ]|Z1|Z2|X_rotation|tomosiftOriented|tomosiftParticleId|particle_id|tomogram|[xyz](_angstrom)?|"
    + r"d[xyz]|tdrot|narot|rot|tilt|psi"
)
"""Columns that a change of dialect replaces, RELION's and those of the table formats; all others are kept."""


def find_particle_block(path: Path, blocks: Mapping[str, pd.DataFrame]) -> str:
    """Return the name of the block with particles.

    Raises
    ------
    FormatError
        There is none; the message says what the file is instead.
    """
    ordered = [name for name in BLOCK_NAMES if name in blocks] + [name for name in blocks if name not in BLOCK_NAMES]
    for name in ordered:
        if relion_columns.dialect(blocks[name], None):
            return name
    raise _explain_no_particles(path, blocks, ordered[0])


def _explain_no_particles(path: Path, blocks: Mapping[str, pd.DataFrame], block: str) -> FormatError:
    """Return an error that says what the file is, and which file to give."""
    labels = {label for table in blocks.values() for label in table.columns}
    first = next(iter(blocks.values()))
    advice = "give the particle list"
    if "rlnTomoParticlesFile" in labels and "rlnTomoParticlesFile" in first and len(first):
        return FormatError(path, "file", "an optimisation set of RELION", "a particle list",
                           f"give {first['rlnTomoParticlesFile'].iloc[0]}")  # fmt: skip
    kinds = (
        ("rlnTomoImportParticleFile", "RELION's list of files to import", "give the files that it names"),
        ("rlnTomoNominalStageTiltAngle", "a tilt series of RELION", advice),
        ("rlnTomoTiltSeriesStarFile", "RELION's table of tomograms", "give it with --tomograms and the particle list"),
        ("rlnTomoSizeX", "RELION's table of tomograms", "give it with --tomograms and the particle list"),
        ("rlnTomoProjX", "a tilt series of RELION", advice),
        ("wrpMovieName", "a tilt series of Warp", advice),
        ("tilt_angle", "a wedge list of STOPGAP", advice),
        ("motl_idx", "a motive list of STOPGAP", "save it as a RELION STAR file or an EM motive list"),
        ("rlnReferenceImage", "RELION's list of classes", advice),
    )
    for label, kind, kind_advice in kinds:
        if label in labels:
            return FormatError(path, "file", kind, "a particle list", kind_advice)
    axes = [
        label for label in relion_columns.PIXEL_COORDINATES + relion_columns.CENTERED_COORDINATES if label in labels
    ]
    if {"rlnCoordinateX", "rlnCoordinateY"} <= set(axes) and "rlnCoordinateZ" not in axes:
        return FormatError(path, "rlnCoordinateZ", "missing", "coordinates in three dimensions",
                           "lists of two-dimensional micrographs are not tomography")  # fmt: skip
    is_centered = any("Centered" in label for label in axes)
    expected = relion_columns.CENTERED_COORDINATES if is_centered else relion_columns.PIXEL_COORDINATES
    missing = next(label for label in expected if label not in labels)
    return FormatError(path, f"{missing} of block data_{block}", "missing", f"columns {', '.join(expected)}", advice)


def derive_blocks(
    path: Path,
    particles: Particles,
    dialect: Dialect,
    voxel_spacing_angstrom: float | None,
    grids: Mapping[str, Grid] | None,
    center: Center,
) -> dict[str, pd.DataFrame]:
    """Return every block of a STAR file in this dialect; shifts are zero since positions hold them.

    One pixel is the tilt series' where the particles came with it (``relion4``, ``relion5``), else
    ``voxel_spacing_angstrom``, else what the particles came with, else the spacing of their tomogram.

    Parameters
    ----------
    path
        The file to write, for error messages.
    particles
        What to write; their columns that say nothing of geometry, and their other blocks, are kept.
    dialect, voxel_spacing_angstrom, grids, center
        As for `tomosift.io.particles.relion.write_particles`.

    Returns
    -------
    dict of str to DataFrame
        The blocks by name; particles come last.

    Raises
    ------
    ValueError
        No pixel size is known.
    FormatError
        The size of a tomogram is unknown.
    """
    is_tomo = dialect in ("relion4", "relion5")
    pixel = _pixel_size(path, particles, is_tomo, voxel_spacing_angstrom, grids)
    columns = _names(particles, dialect, is_tomo)
    xyz = particles.position_zyx_angstrom[:, ::-1]
    if dialect == "relion5":
        optics = particles.tables.get("optics")
        center_xyz = relion_columns.center_xyz_angstrom(
            path, particles.tomogram, particles.columns, optics, grids, center
        )
        columns |= dict(zip(relion_columns.CENTERED_COORDINATES, (xyz - center_xyz).T, strict=True))
    else:
        columns |= dict(zip(relion_columns.PIXEL_COORDINATES, (xyz / pixel[:, None]).T, strict=True))
    columns |= _angles(particles)
    tables = dict(particles.tables)
    tables.pop("particles", None)
    if dialect == "relion3":
        columns["rlnMagnification"] = np.full(len(particles), 10000.0)
        columns["rlnDetectorPixelSize"] = pixel
        tables = {}
    else:
        tables["optics"], columns["rlnOpticsGroup"] = _optics(particles, pixel, is_tomo)
    replaced = {"rlnOpticsGroup", "rlnTomoName" if not is_tomo else "", *columns}
    labels = particles.columns.columns
    others = [label for label in labels if not _GEOMETRY.fullmatch(str(label)) and label not in replaced]
    table = pd.DataFrame(columns).join(particles.columns[others])
    return {**tables, "" if dialect == "relion3" else "particles": table}


def _names(particles: Particles, dialect: Dialect, is_tomo: bool) -> dict[str, object]:
    """Return the columns that name tomograms and particles."""
    names = np.array([str(name).removesuffix(".tomostar") for name in particles.tomogram], dtype=object)
    if is_tomo:
        return {"rlnTomoName": names, "rlnTomoParticleName": particles.particle_id}
    columns: dict[str, object] = {"rlnMicrographName": names + ".tomostar" if dialect == "warp" else names}
    if not np.array_equal(particles.particle_id, relion_columns.counted_ids(names)):
        columns["tomosiftParticleId"] = particles.particle_id
    return columns


def _pixel_size(
    path: Path,
    particles: Particles,
    is_tomo: bool,
    voxel_spacing_angstrom: float | None,
    grids: Mapping[str, Grid] | None,
) -> NDArray[np.float64]:
    """Return Angstrom per pixel of the coordinates to be written ``(n,)``."""
    columns, optics = particles.columns, particles.tables.get("optics")
    if is_tomo:
        tilt_series = relion_columns.pixel_size(path, columns, optics, relion_columns.COORDINATE_PIXEL_SIZES[:1])
        if tilt_series is not None:
            return tilt_series
    if voxel_spacing_angstrom is not None:
        return np.full(len(particles), float(voxel_spacing_angstrom))
    stated = relion_columns.pixel_size(path, columns, optics, relion_columns.COORDINATE_PIXEL_SIZES)
    if stated is not None:
        return stated
    if grids is None:
        raise ValueError(
            f"voxel_spacing_angstrom is None, expected the size of one pixel of the coordinates in {path.name}; "
            "give voxel_spacing_angstrom or grids"
        )
    spacing = {
        n: relion_columns.grid_of(path, n, grids).voxel_spacing_angstrom for n in set(map(str, particles.tomogram))
    }
    return np.array([spacing[str(name)] for name in particles.tomogram], dtype=np.float64)


def _angles(particles: Particles) -> dict[str, NDArray[Any]]:
    """Return the angle columns: none without orientations; zeros and ``tomosiftOriented`` 0 where some are unknown.

    Equal angles of all particles, which mean nothing otherwise, are marked as known by ``tomosiftOriented`` 1.
    """
    angles = to_relion(particles.rotation)
    is_unknown = np.isnan(angles).any(axis=1)
    if is_unknown.all():
        return {}
    angles[is_unknown] = 0.0
    columns: dict[str, NDArray[Any]] = dict(zip(relion_columns.ANGLES, angles.T, strict=True))
    if is_unknown.any() or drop_uniform_angles(angles)[1]:
        columns["tomosiftOriented"] = np.where(is_unknown, 0, 1)
    return columns


def _optics(
    particles: Particles, pixel: NDArray[np.float64], is_tomo: bool
) -> tuple[pd.DataFrame, NDArray[np.int64] | pd.Series]:
    """Return the optics block and each particle's group; the file's own groups where each has one pixel size."""
    label = "rlnTomoTiltSeriesPixelSize" if is_tomo else "rlnMicrographPixelSize"
    optics, columns = particles.tables.get("optics"), particles.columns
    of_group = None
    if optics is not None and "rlnOpticsGroup" in columns and "rlnOpticsGroup" in optics:
        pairs = pd.DataFrame({"group": columns["rlnOpticsGroup"], "pixel": pixel}).drop_duplicates()
        of_group = pairs.set_index("group")["pixel"] if pairs["group"].is_unique else None
    if optics is not None and of_group is not None:
        group: NDArray[np.int64] | pd.Series = columns["rlnOpticsGroup"]
        # Groups that no particle uses keep the pixel size they had.
        sizes = optics["rlnOpticsGroup"].map(of_group).fillna(optics[label] if label in optics else pixel[0])
        table = optics.drop(columns=[] if is_tomo else ["rlnTomoTiltSeriesPixelSize"], errors="ignore")
    else:
        distinct, inverse = np.unique(pixel, return_inverse=True)
        group, sizes = inverse.astype(np.int64) + 1, pd.Series(distinct)
        numbers = np.arange(1, len(distinct) + 1)
        table = pd.DataFrame({"rlnOpticsGroup": numbers, "rlnOpticsGroupName": [f"opticsGroup{k}" for k in numbers]})
    _add_microscope(table, columns)
    table[label] = sizes.to_numpy(np.float64)
    if not is_tomo and "rlnImagePixelSize" not in table:
        table["rlnImagePixelSize"] = table[label]
    return table, group


def _add_microscope(optics: pd.DataFrame, columns: pd.DataFrame) -> None:
    """Add voltage, spherical aberration and amplitude contrast, which RELION demands, where they are missing.

    They are those of the particles, and where these have none the field's usual 300 kV, 2.7 mm and 0.07.
    """
    usual = Acquisition(np.empty(0), np.empty(0), np.empty(0))
    defaults = {
        "rlnVoltage": usual.voltage_kv,
        "rlnSphericalAberration": usual.spherical_aberration_mm,
        "rlnAmplitudeContrast": usual.amplitude_contrast,
    }
    for name, value in defaults.items():
        if name not in optics:
            optics[name] = columns[name].iloc[0] if name in columns and columns[name].nunique() == 1 else value

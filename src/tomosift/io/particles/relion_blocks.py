"""Columns of RELION's dialects from positions and orientations; the counterpart of `tomosift.io.particles.relion_columns`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tomosift.acquisition import Acquisition
from tomosift.io.angles import to_relion
from tomosift.io.particles import relion_columns as relion
from tomosift.io.particles.relion_columns import Center
from tomosift.particles import Grid, Particles

Dialect = Literal["relion3", "relion31", "relion4", "relion5", "warp"]

_GEOMETRY = re.compile(
    r"rln(Centered)?Coordinate[XYZ](Angst)?|rlnOrigin[XYZ](Angst)?|rlnAngle(Rot|Tilt|Psi)(Prior)?|rlnTomoSubtomogram(Rot|"
    r"Tilt|Psi)|rlnTomoSize[XYZ]|wrp(Coordinate[XYZ]|Angle(Rot|Tilt|Psi))\d*|wrpSourceName|rlnMagnification|"
    + "|".join(relion.COORDINATE_PIXEL_SIZES)
    + r"|tomosiftOriented|tomosiftParticleId|particle_id|tomogram|[xyz](_angstrom)?|d[xyz]|tdrot|narot|rot|tilt|psi"
)
"""Columns that a change of dialect replaces, RELION's and those of the table formats; all others are carried."""


def derived_blocks(
    path: Path,
    particles: Particles,
    dialect: Dialect,
    voxel_spacing_angstrom: float | None,
    grids: Mapping[str, Grid] | None,
    center: Center,
) -> dict[str, pd.DataFrame]:
    """Every block of a STAR file in this dialect; shifts are zero since positions hold them.

    One pixel is the tilt series' where the particles came with it (``relion4``, ``relion5``), else
    ``voxel_spacing_angstrom``, else what the particles came with, else the spacing of their tomogram.
    """
    tomo = dialect in ("relion4", "relion5")
    pixel = _pixel(path, particles, tomo, voxel_spacing_angstrom, grids)
    carried = particles.columns[[c for c in particles.columns.columns if not _GEOMETRY.fullmatch(str(c))]]
    names = np.array([str(name).removesuffix(".tomostar") for name in particles.tomogram], dtype=object)
    columns: dict[str, object] = {}
    if tomo:
        columns["rlnTomoName"] = names
        columns["rlnTomoParticleName"] = particles.particle_id
    else:
        columns["rlnMicrographName"] = names + ".tomostar" if dialect == "warp" else names
        if not np.array_equal(particles.particle_id, relion.counted_ids(names)):
            columns["tomosiftParticleId"] = particles.particle_id
    xyz = particles.position_zyx_angstrom[:, ::-1]
    if dialect == "relion5":
        optics = particles.tables.get("optics")
        middle = relion.center_xyz_angstrom(path, particles.tomogram, particles.columns, optics, grids, center)
        columns |= dict(zip(relion.CENTERED_COORDINATES, (xyz - middle).T, strict=True))
    else:
        columns |= dict(zip(relion.PIXEL_COORDINATES, (xyz / pixel[:, None]).T, strict=True))
    columns |= _angles(particles)
    tables = dict(particles.tables)
    tables.pop("particles", None)
    if dialect == "relion3":
        columns["rlnMagnification"] = np.full(len(particles), 10000.0)
        columns["rlnDetectorPixelSize"] = pixel
        tables = {}
    else:
        tables["optics"], columns["rlnOpticsGroup"] = _optics(particles, pixel, tomo)
    dropped = {"rlnOpticsGroup", "rlnTomoName" if not tomo else "", *columns}
    table = pd.DataFrame(columns).join(carried[[label for label in carried.columns if label not in dropped]])
    return {**tables, "" if dialect == "relion3" else "particles": table}


def _pixel(
    path: Path,
    particles: Particles,
    tomo: bool,
    voxel_spacing_angstrom: float | None,
    grids: Mapping[str, Grid] | None,
) -> NDArray[np.float64]:
    """(n,) Angstrom per pixel of the coordinates to be written."""
    columns, optics = particles.columns, particles.tables.get("optics")
    tilt_series = relion.pixel_size(path, columns, optics, relion.COORDINATE_PIXEL_SIZES[:1]) if tomo else None
    if tilt_series is not None:
        return tilt_series
    if voxel_spacing_angstrom is not None:
        return np.full(len(particles), float(voxel_spacing_angstrom))
    known = relion.pixel_size(path, columns, optics, relion.COORDINATE_PIXEL_SIZES)
    if known is not None:
        return known
    if grids is None:
        raise ValueError(
            f"voxel_spacing_angstrom is None, expected the size of one pixel of the coordinates in {path.name}; "
            "give voxel_spacing_angstrom or grids"
        )
    spacing = {n: relion.grid_of(path, n, grids).voxel_spacing_angstrom for n in set(map(str, particles.tomogram))}
    return np.array([spacing[str(name)] for name in particles.tomogram], dtype=np.float64)


def _angles(particles: Particles) -> dict[str, NDArray[Any]]:
    """Angle columns; none where no orientation is known, zeros marked by ``tomosiftOriented`` 0 where some are not."""
    angles = to_relion(particles.rotation)
    unknown = np.isnan(angles).any(axis=1)
    if unknown.all():
        return {}
    angles[unknown] = 0.0
    columns: dict[str, NDArray[Any]] = dict(zip(relion.ANGLES, angles.T, strict=True))
    if unknown.any():
        columns["tomosiftOriented"] = np.where(unknown, 0, 1)
    return columns


def _optics(
    particles: Particles, pixel: NDArray[np.float64], tomo: bool
) -> tuple[pd.DataFrame, NDArray[np.int64] | pd.Series]:
    """The optics block and each particle's group; the file's own groups where each has one pixel size.

    Voltage, spherical aberration and amplitude contrast are those of the file, and where it has none the field's
    usual 300 kV, 2.7 mm and 0.07: RELION demands them.
    """
    label = "rlnTomoTiltSeriesPixelSize" if tomo else "rlnMicrographPixelSize"
    optics, columns = particles.tables.get("optics"), particles.columns
    of_group = None
    if optics is not None and "rlnOpticsGroup" in columns and "rlnOpticsGroup" in optics:
        pairs = pd.DataFrame({"group": columns["rlnOpticsGroup"], "pixel": pixel}).drop_duplicates()
        of_group = pairs.set_index("group")["pixel"] if pairs["group"].is_unique else None
    if optics is not None and of_group is not None:
        group: NDArray[np.int64] | pd.Series = columns["rlnOpticsGroup"]
        # Groups that no particle uses keep the pixel size they had.
        sizes = optics["rlnOpticsGroup"].map(of_group).fillna(optics[label] if label in optics else pixel[0])
        table = optics.drop(columns=[] if tomo else ["rlnTomoTiltSeriesPixelSize"], errors="ignore")
    else:
        distinct, inverse = np.unique(pixel, return_inverse=True)
        group, sizes = inverse.astype(np.int64) + 1, pd.Series(distinct)
        numbers = np.arange(1, len(distinct) + 1)
        table = pd.DataFrame({"rlnOpticsGroup": numbers, "rlnOpticsGroupName": [f"opticsGroup{k}" for k in numbers]})
    usual = Acquisition(np.empty(0), np.empty(0), np.empty(0))
    defaults = {
        "rlnVoltage": usual.voltage_kv,
        "rlnSphericalAberration": usual.spherical_aberration_mm,
        "rlnAmplitudeContrast": usual.amplitude_contrast,
    }
    for name, value in defaults.items():
        if name not in table:
            table[name] = columns[name].iloc[0] if name in columns and columns[name].nunique() == 1 else value
    table[label] = sizes.to_numpy(np.float64)
    if not tomo and "rlnImagePixelSize" not in table:
        table["rlnImagePixelSize"] = table[label]
    return table, group

"""The tables beside simulated tomograms: truth, tilt series and tomograms, with RELION 5's column names."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tomosift.acquisition import Acquisition
from tomosift.errors import FormatError
from tomosift.files import written_then_renamed
from tomosift.particles import Grid, Particles
from tomosift.simulation.specimen import Specimen
from tomosift.simulation.tilt_series import TiltSeriesSettings

RELION_VERSION = "50001"
"""Version that RELION 5 writes above each block."""

_AXES = ("z", "y", "x")
_TRUE = [f"{axis}_angstrom" for axis in _AXES]
_PICKED = [f"picked_{axis}_angstrom" for axis in _AXES]
_ROTATION = [f"rotation_{row}{column}" for row in _AXES for column in _AXES]


def truth_table(
    specimen: Specimen, class_names: Sequence[str], pick_jitter_angstrom: float, rng: np.random.Generator
) -> pd.DataFrame:
    """Return one row per particle of some classes: true and picked position, rotation, class and instance.

    Rows are shuffled: particles are placed in order of size, so unshuffled row numbers would reveal the class.
    """
    particles = specimen.particles
    rows = rng.permutation(np.flatnonzero(np.isin(particles.class_name.astype(str), list(class_names))))
    true = particles.position_zyx_angstrom[rows]
    picked = true + pick_jitter_angstrom * rng.standard_normal(true.shape)
    highest = (np.asarray(specimen.density.shape) - 1) * specimen.voxel_spacing_angstrom
    table = pd.DataFrame(np.hstack([true, np.clip(picked, 0, highest)]), columns=_TRUE + _PICKED)
    table[_ROTATION] = particles.rotation[rows].reshape(-1, 9)
    table.insert(0, "tomogram", particles.tomogram[rows])
    table.insert(1, "class", particles.class_name[rows])
    table.insert(2, "instance", rows + 1)
    return table


def write_truth(path: Path, table: pd.DataFrame) -> None:
    """Write the table as CSV with all digits."""
    with written_then_renamed(path) as temporary:
        table.to_csv(temporary, index=False)


def read_truth(paths: Sequence[Path]) -> tuple[Particles, Particles]:
    """Read the picks (without classes) and the truth of some tomograms, row for row, with the same particle ids.

    Raises
    ------
    FormatError
        A file lacks a column.
    """
    tables = []
    for path in paths:
        table = pd.read_csv(path, dtype={"tomogram": str, "class": str})
        missing = [c for c in ["tomogram", "class", "instance", *_TRUE, *_PICKED, *_ROTATION] if c not in table.columns]
        if missing:
            raise FormatError(path, missing[0], "missing", "a column", "delete the folder and simulate again")
        tables.append(table)
    truth_rows = pd.concat(tables, ignore_index=True)
    rotation: NDArray[np.float64] = truth_rows[_ROTATION].to_numpy(np.float64).reshape(-1, 3, 3)
    names = truth_rows["tomogram"].to_numpy(dtype=object)
    picks = Particles.create(names, truth_rows[_PICKED].to_numpy(np.float64), rotation)
    truth = Particles.create(
        names, truth_rows[_TRUE].to_numpy(np.float64), rotation, truth_rows["class"].to_numpy(dtype=object)
    )
    return picks, truth


def tilt_series_table(acquisition: Acquisition) -> pd.DataFrame:
    """Return one row per image, ascending tilt; defoci in Angstrom. There is no image column, as no images are kept."""
    zero = np.zeros_like(acquisition.tilt_angles_deg)
    defocus_angstrom = 1e4 * acquisition.defocus_um
    return pd.DataFrame(
        {
            "rlnTomoNominalStageTiltAngle": acquisition.tilt_angles_deg,
            "rlnTomoNominalTiltAxisAngle": zero,
            "rlnMicrographPreExposure": acquisition.dose_e_per_A2,
            "rlnTomoNominalDefocus": -acquisition.defocus_um,
            "rlnDefocusU": defocus_angstrom,
            "rlnDefocusV": defocus_angstrom,
            "rlnCtfAstigmatism": zero,
            "rlnDefocusAngle": zero,
            "rlnTomoXTilt": zero,
            "rlnTomoYTilt": acquisition.tilt_angles_deg,
            "rlnTomoZRot": zero,
            "rlnTomoXShiftAngst": zero,
            "rlnTomoYShiftAngst": zero,
            "rlnCtfScalefactor": np.cos(np.deg2rad(acquisition.tilt_angles_deg)),
        }
    )


def tomogram_table(names: Sequence[str], grid: Grid, settings: TiltSeriesSettings, halves: bool) -> pd.DataFrame:
    """Return one row per tomogram; paths are relative to the folder of the table, the binning is 1."""
    depth, height, width = grid.shape_zyx
    columns: dict[str, object] = {
        "rlnTomoName": list(names),
        "rlnVoltage": settings.voltage_kv,
        "rlnSphericalAberration": settings.spherical_aberration_mm,
        "rlnAmplitudeContrast": settings.amplitude_contrast,
        "rlnMicrographOriginalPixelSize": grid.voxel_spacing_angstrom,
        "rlnTomoHand": 1.0,
        "rlnOpticsGroupName": "opticsGroup1",
        "rlnTomoTiltSeriesPixelSize": grid.voxel_spacing_angstrom,
        "rlnTomoTiltSeriesStarFile": [f"tilt_series/{name}.star" for name in names],
        "rlnTomoTomogramBinning": 1.0,
        "rlnTomoSizeX": width,
        "rlnTomoSizeY": height,
        "rlnTomoSizeZ": depth,
        "rlnTomoReconstructedTomogram": [f"tomograms/{name}.mrc" for name in names],
    }
    if halves:
        for number in (1, 2):
            paths = [f"tomograms/{name}_half{number}.mrc" for name in names]
            columns[f"rlnTomoReconstructedTomogramHalf{number}"] = paths
    return pd.DataFrame(columns)

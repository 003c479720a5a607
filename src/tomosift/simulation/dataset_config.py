"""Configuration of a simulated data set of tomograms."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from tomosift.errors import FormatError
from tomosift.particles import Grid
from tomosift.simulation.structures.membranes_and_gold import MembranesAndGold
from tomosift.simulation.tilt_series import TiltSeriesSettings


@dataclass(frozen=True)
class TomogramDatasetConfig:
    """Specimens, microscope and files of a simulated data set.

    Examples
    --------
    >>> from tomosift.simulation.dataset_config import TomogramDatasetConfig
    >>> TomogramDatasetConfig(classes=("ribosome-70s", "apoferritin"), tomograms=2).tomogram_names
    ('tomogram_001', 'tomogram_002')
    """

    classes: tuple[str, ...]
    """Atlas names, or structure or map files (the stem of a file becomes the class name)."""
    particles_per_class: int = 12
    """Particles of each class in every tomogram; fewer if there is no room."""
    tomograms: int = 6
    """Number of tomograms."""
    shape_zyx: tuple[int, int, int] = (40, 200, 200)
    """Size of a tomogram in voxels along z, y and x."""
    voxel_spacing_angstrom: float = 10.0
    """Voxel spacing of the tomograms in Angstrom."""
    distractors: tuple[str, ...] = ()
    """Further structures that crowd the specimen and are not in the list of picks."""
    distractors_per_class: int = 12
    """Particles of each of these structures in every tomogram."""
    tilt_range_deg: tuple[float, float] = (-60.0, 60.0)
    """Lowest and highest tilt angle in degrees."""
    tilt_step_deg: float = 3.0
    """Step between tilt angles in degrees."""
    dose_per_tilt_e_per_A2: float = 3.0
    """Dose of each image in electrons per square Angstrom."""
    defocus_range_um: tuple[float, float] = (2.5, 5.0)
    """Underfocus, drawn once per tomogram."""
    ctf_correction: Literal["phase_flip", "wiener", "none"] = "phase_flip"
    """How the CTF of the images is corrected."""
    snr: float | None = 0.1
    """SNR in boxes around particles of the full tomogram (see `record_tilt_series`); None for no noise."""
    snr_box_size: int = 32
    """Edge in voxels of the boxes in which the SNR is defined."""
    vesicles: int = 1
    """Number of vesicles in every tomogram."""
    sheets: int = 0
    """Number of flat membranes in every tomogram."""
    gold_beads: int = 2
    """Number of gold beads in every tomogram."""
    gap_angstrom: float = 10.0
    """Minimum distance between neighbors."""
    pick_jitter_angstrom: float = 10.0
    """Standard deviation of the picking error along each axis."""
    pick_angles: bool = True
    """Write the true orientations with the picks, as template matching would; otherwise no orientations."""
    template_extent_angstrom: float = 640.0
    """Edge of the box that every structure must fit into."""
    halves: bool = True
    """Also write the two half tomograms (odd and even frames: same tilts, independent noise)."""
    labels: bool = True
    """Also write the class and instance of every voxel."""
    dark_on_disk: bool = False
    """Write protein dark, as it comes from the microscope."""
    seed: int = 0
    """Seed of all random numbers."""

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("classes is empty, expected at least one atlas name or file")
        names = [class_name_of(source) for source in (*self.classes, *self.distractors)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is named more than once in classes and distractors")
        if self.tomograms < 1 or self.particles_per_class < 0:
            raise ValueError(
                f"tomograms is {self.tomograms} and particles_per_class is {self.particles_per_class}, "
                "expected at least 1 and 0"
            )
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected 0 or more")
        if not self.voxel_spacing_angstrom > 0:
            raise ValueError(f"voxel_spacing_angstrom is {self.voxel_spacing_angstrom}, expected more than 0")
        self.series(self.defocus_range_um[0])

    def series(self, defocus_um: float) -> TiltSeriesSettings:
        """Return the settings of a tilt series with this defocus."""
        return TiltSeriesSettings(
            tilt_range_deg=self.tilt_range_deg,
            tilt_step_deg=self.tilt_step_deg,
            dose_per_tilt_e_per_A2=self.dose_per_tilt_e_per_A2,
            defocus_um=defocus_um,
            ctf_correction=self.ctf_correction,
            snr=self.snr,
            snr_box_size=self.snr_box_size,
        )

    @property
    def membranes_and_gold(self) -> MembranesAndGold:
        """Membranes and gold beads of one tomogram."""
        return MembranesAndGold(vesicles=self.vesicles, sheets=self.sheets, gold_beads=self.gold_beads)

    @property
    def grid(self) -> Grid:
        """The voxel grid of every tomogram."""
        return Grid(self.shape_zyx, self.voxel_spacing_angstrom)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the picked classes, in order of their labels."""
        return tuple(class_name_of(source) for source in self.classes)

    @property
    def tomogram_names(self) -> tuple[str, ...]:
        """``tomogram_001`` and so on."""
        return tuple(f"tomogram_{k + 1:03d}" for k in range(self.tomograms))


def class_name_of(source: str) -> str:
    """Return the name of an atlas entry, or the stem of a file without any of its suffixes."""
    return Path(source).name.split(".")[0]


def read_config(folder: Path | str) -> TomogramDatasetConfig:
    """Read the configuration of an existing data set.

    Raises
    ------
    FormatError
        The folder holds no ``simulation.json``, or not one of this kind.
    """
    path = Path(folder) / "simulation.json"
    if not path.exists():
        raise FormatError(path, "file", "absent", "the settings of a simulated data set", "check the folder")
    settings = json.loads(path.read_text())
    unknown = sorted(set(settings) ^ {f.name for f in fields(TomogramDatasetConfig)})
    if unknown:
        raise FormatError(path, unknown[0], "unknown or missing", "the settings of a simulated data set")
    as_tuples: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
    }
    return TomogramDatasetConfig(**as_tuples)

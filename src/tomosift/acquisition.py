"""The microscope session behind a tomogram."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomosift.conventions import DEFAULT_TILT_RANGE_DEG

MAX_TILT_DEG = 90.0
MIN_RANGE_DEG = 1.0
"""A narrower range is no tilt series."""


def find_tilt_fault(angles_deg: NDArray[np.float64]) -> str:
    """Return what is wrong with the tilt angles of a series, or with the ends of a tilt range; empty where nothing is.

    Angles must be finite, at most 90 degrees, and cover a range.

    Examples
    --------
    >>> import numpy as np
    >>> from tomosift.acquisition import find_tilt_fault
    >>> find_tilt_fault(np.array([-60.0, 0.0, 60.0])), find_tilt_fault(np.array([-60.0, 120.0]))
    ('', '120 degrees')
    """
    if not angles_deg.size:
        return "empty"
    wrong = angles_deg[~(np.abs(angles_deg) <= MAX_TILT_DEG)]
    if wrong.size:
        return f"{wrong[0]:g} degrees"
    low, high = float(angles_deg.min()), float(angles_deg.max())
    return f"{low:g} to {high:g} degrees" if high - low < MIN_RANGE_DEG else ""


def check_tilt_range(tilt_range_deg: tuple[float, float]) -> None:
    """Refuse ends of a tilt range that no series has, or in the wrong order.

    Raises
    ------
    ValueError
        See `find_tilt_fault`.
    """
    low, high = tilt_range_deg
    fault = find_tilt_fault(np.array([low, high], dtype=np.float64))
    if fault or low >= high:
        raise ValueError(
            f"--tilt-range is {low:g} to {high:g}, expected the lowest and the highest tilt angle, from -90 to 90 "
            "degrees, such as -60 60"
        )


@dataclass(frozen=True)
class Acquisition:
    """How a tilt series was recorded; arrays are empty where no file states them.

    The tilt axis is y and the beam is z. Defocus is positive for underfocus.

    Examples
    --------
    >>> import numpy as np
    >>> from tomosift.acquisition import Acquisition
    >>> acquisition = Acquisition(np.arange(-60.0, 61.0, 3.0), np.zeros(0), np.zeros(0))
    >>> acquisition.tilt_range_deg
    (-60.0, 60.0)
    """

    tilt_angles_deg: NDArray[np.float64]
    """(t,) in the order of the images."""
    dose_e_per_A2: NDArray[np.float64]
    """(t,) accumulated *before* each image, or empty."""
    defocus_um: NDArray[np.float64]
    """(t,) mean of the two principal defoci, or empty."""
    voltage_kv: float = 300.0
    spherical_aberration_mm: float = 2.7
    amplitude_contrast: float = 0.07
    ctf_corrected: bool = False

    @property
    def tilt_range_deg(self) -> tuple[float, float]:
        """Lowest and highest tilt angle; the field's usual +-60 degrees where the angles are unknown."""
        if self.tilt_angles_deg.size == 0:
            return DEFAULT_TILT_RANGE_DEG
        return float(self.tilt_angles_deg.min()), float(self.tilt_angles_deg.max())

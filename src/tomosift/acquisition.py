"""The microscope session behind a tomogram."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomosift.conventions import DEFAULT_TILT_RANGE_DEG


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

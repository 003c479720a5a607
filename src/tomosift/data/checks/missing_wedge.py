"""Estimate of the missing wedge of a tomogram from its power spectrum.

A tilt series measures the planes ``kz = kx tan t`` for its tilts t (tilt axis y, beam z), and noise fills what was
measured as signal does. So the mean power spectrum of cubes from anywhere in the tomogram is high within the tilt
range and nearly zero beyond. Where a network filled the wedge, or the whole volume was filtered, this is not so and
the estimate is empty.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tomosift.io.volumes.volume import SupportsSlicing

LARGEST_CUBE = 64
SMALLEST_CUBE = 20
BAND = (0.08, 0.4)
"""Frequencies in use, in cycles per voxel: below, the window leaks; above, interpolation changes the spectrum."""
MISSING_POWER = 0.5
"""Relative power below which a direction counts as missing."""
NARROWEST_RANGE_DEG = 50.0
"""A narrower estimate is no tilt series: flat membranes and label volumes have such spectra."""


@dataclass(frozen=True)
class WedgeEstimate:
    """The missing wedge as estimated from the power spectrum."""

    beam_axis: Literal["z", "y", "x"] | None
    """Axis of the file along which the beam went; None where no missing wedge can be recognized."""
    missing_power: float
    """Power around the axis with least over the power around the other two: 0 = none, 1 = as much as elsewhere."""
    tilt_axis_deg: float | None
    """Angle of the tilt axis from y towards x, -90 to 90; None unless the beam is z."""
    tilt_range_deg: tuple[float, float] | None
    """Lowest and highest measured tilt, to a few degrees; None unless the beam is z."""
    cubes: int
    """Number of cubes behind the spectrum."""


def estimate_mean_power(data: SupportsSlicing, most_cubes: int = 48) -> tuple[NDArray[np.float64], int]:
    """Average the power spectra of cubes from all over a volume.

    Cubes are tapered by a Hann window along each axis. Those that are constant or hold values that are no numbers are
    left out; where none is left, or the volume is thinner than ``SMALLEST_CUBE``, their number is 0.

    Returns
    -------
    power
        ``(d, d, d)`` mean power, zero frequency at ``d // 2``.
    cubes
        Number of cubes.
    """
    edge = min(LARGEST_CUBE, *data.shape) // 2 * 2
    total = np.zeros((edge,) * 3)
    if edge < SMALLEST_CUBE:
        return total, 0
    along = (_cube_starts(size, edge) for size in data.shape)
    starts = np.stack(np.meshgrid(*along, indexing="ij"), axis=-1).reshape(-1, 3)
    starts = starts[np.unique(np.linspace(0, len(starts) - 1, most_cubes).astype(int))]
    window = np.hanning(edge + 2)[1:-1]
    taper = (window[:, None, None] * window[:, None] * window).astype(np.float32)
    cubes = 0
    for z, y, x in starts:
        cube = np.asarray(data[z : z + edge, y : y + edge, x : x + edge]).astype(np.float32)
        deviation = float(cube.std(dtype=np.float64))
        if not np.isfinite(deviation) or deviation <= 1e-6 * abs(float(cube.mean(dtype=np.float64))):
            continue
        cube = (cube - cube.mean(dtype=np.float64)) / deviation * taper
        total += np.abs(np.fft.fftn(cube)) ** 2
        cubes += 1
    return np.fft.fftshift(total) / max(cubes, 1), cubes


def _cube_starts(size: int, edge: int) -> NDArray[np.int_]:
    """Starts of cubes along an axis, from end to end, overlapping as little as they can."""
    count = max(1, round(size / edge))
    return np.unique(np.linspace(0, size - edge, count).astype(int))


def estimate_wedge(data: SupportsSlicing, most_cubes: int = 48) -> WedgeEstimate:
    """Estimate beam axis, tilt axis and tilt range of a tomogram from its mean power spectrum.

    The beam is the axis around which power is missing (cone of 20 degrees). The tilt axis is the direction in the
    plane across the beam above which, at 45 degrees of elevation, most power is missing. The tilt range ends on either
    side where power falls to half of what it is a few degrees further in. This is accurate to about 5 degrees. The
    estimate is empty for volumes that were not made from a tilt series, or whose wedge was filled.

    Examples
    --------
    >>> import numpy as np
    >>> from tomosift.data.checks.missing_wedge import estimate_wedge
    >>> noise = np.random.default_rng(0).normal(size=(64, 64, 64)).astype(np.float32)
    >>> estimate_wedge(noise).tilt_range_deg is None
    True
    """
    power, cubes = estimate_mean_power(data, most_cubes)
    if not cubes:
        return WedgeEstimate(None, 1.0, None, None, 0)
    relative, k = _relative_to_shell(power)
    unit = k / np.linalg.norm(k, axis=0)
    around = [float(relative[np.abs(unit[axis]) >= np.cos(np.deg2rad(20))].mean()) for axis in range(3)]
    beam = int(np.argmin(around))
    others = [axis for axis in range(3) if axis != beam]
    missing = around[beam] / max(float(np.mean([around[axis] for axis in others])), 1e-12)
    no_wedge = WedgeEstimate(None, missing, None, None, cubes)
    if missing > MISSING_POWER:
        return no_wedge
    order = [beam, *others]
    across = _direction_across(relative, unit[order])
    if across is None:
        return no_wedge
    tilt_range = _tilt_range(relative, k[order], across)
    if tilt_range is None:
        return no_wedge
    if beam != 0:
        return WedgeEstimate("y" if beam == 1 else "x", missing, None, None, cubes)
    # The tilt axis is rotated from y by the angle by which the direction across it is rotated from x.
    tilt_axis = (90 - np.rad2deg(across)) % 180 - 90
    return WedgeEstimate("z", missing, float(tilt_axis), tilt_range, cubes)


def _relative_to_shell(power: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Power in the band relative to the usual at the same frequency, ``(m,)``, and its wave vectors ``(3, m)`` zyx."""
    edge = len(power)
    k = (np.indices(power.shape) - edge // 2).reshape(3, -1).astype(np.float64)
    radius = np.linalg.norm(k, axis=0)
    band = (radius >= max(3.0, BAND[0] * edge)) & (radius <= BAND[1] * edge)
    shell, values = np.rint(radius[band]).astype(int), power.reshape(-1)[band]
    usual = np.ones(shell.max() + 1)
    for number in np.unique(shell):
        usual[number] = max(float(np.quantile(values[shell == number], 0.75)), 1e-300)
    return values / usual[shell], k[:, band]


def _direction_across(relative: NDArray[np.float64], unit: NDArray[np.float64]) -> float | None:
    """Angle from x towards y of the direction across the tilt axis, in radians; None where all directions are alike."""
    slanted = (np.abs(unit[0]) > np.sin(np.deg2rad(35))) & (np.abs(unit[0]) < np.sin(np.deg2rad(55)))
    angle = np.arctan2(unit[1][slanted], unit[2][slanted])
    harmonic = np.mean(relative[slanted] * np.exp(2j * angle)) / relative[slanted].mean()
    return None if abs(harmonic) < 0.1 else float(np.angle(harmonic) / 2)


def _tilt_range(relative: NDArray[np.float64], k: NDArray[np.float64], across: float) -> tuple[float, float] | None:
    """Where power across the tilt axis ends, in degrees; None where it does not end or the range is too narrow."""
    sideways = k[2] * np.cos(across) + k[1] * np.sin(across)
    # Only where the frequency across the tilt axis is high enough for its direction to mean something.
    far = np.hypot(sideways, k[0]) >= 0.6 * np.linalg.norm(k, axis=0)
    sign = np.where(sideways[far] < 0, -1.0, 1.0)
    tilt = np.rad2deg(np.arctan2(sign * k[0][far], sign * sideways[far]))
    high = _end(tilt, relative[far])
    low = _end(-tilt, relative[far])
    if low is None or high is None or low + high < NARROWEST_RANGE_DEG:
        return None
    return -low, high


def _end(tilt: NDArray[np.float64], relative: NDArray[np.float64]) -> float | None:
    """First positive tilt at which power is at most half of what it is 4 to 14 degrees further in."""

    def mean(low: float, high: float) -> float:
        there = relative[(tilt >= low) & (tilt < high)]
        return float(there.mean()) if there.size else np.nan

    for border in np.arange(10.0, 86.0, 1.0):
        inside = mean(border - 14, border - 4)
        # The second condition requires that it stays low, so that a dip in a noisy spectrum is no end.
        if mean(border - 1.5, border + 1.5) <= 0.5 * inside and mean(border + 2, border + 10) <= 0.4 * inside:
            return float(border)
    return None

"""Values with their 95 % intervals."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Interval:
    """A score with its 95 % interval; NaN where it is not defined (a class without test particles)."""

    value: float
    low: float
    high: float


def wilson_interval(
    share: Float[np.ndarray, "..."], count: Int[np.ndarray, "..."]
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Return both ends of the 95 % interval of a share observed in ``count`` trials. Source: Wilson 1927."""
    z = 1.959964
    center = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return np.clip(center - half, 0, 1), np.clip(center + half, 0, 1)

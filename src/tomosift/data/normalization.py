"""The scale on which subtomograms are stored and read."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def normalize_volumes(volume: NDArray[Any]) -> NDArray[np.float32]:
    """Scale volumes ``(..., d, d, d)`` to mean 0 and variance 1 each; a constant volume becomes zeros.

    Examples
    --------
    >>> import numpy as np
    >>> from tomosift.data.normalization import normalize_volumes
    >>> volume = normalize_volumes(np.random.default_rng(0).normal(5.0, 2.0, (3, 8, 8, 8)))
    >>> bool(np.allclose(volume.std(axis=(1, 2, 3)), 1.0))
    True
    """
    mean = volume.mean(axis=(-3, -2, -1), keepdims=True, dtype=np.float64)
    result: NDArray[np.float32] = np.subtract(volume, mean, dtype=np.float32, casting="same_kind")
    flat = result.reshape(*result.shape[:-3], result.shape[-3] ** 3)
    deviation = np.sqrt(np.einsum("...i,...i->...", flat, flat, dtype=np.float64) / max(flat.shape[-1], 1))[
        ..., None, None, None
    ]
    # Rounding leaves a deviation of about 1e-7 of the mean in a constant volume.
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=~(deviation <= 1e-6 * np.abs(mean)))
    result *= scale.astype(np.float32)
    return result

"""Non-maximum suppression: from a map of log odds to peaks that do not overlap."""

import numpy as np
from jaxtyping import Float, Integer
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from scipy.spatial import cKDTree

MIN_DISTANCE = 0.75
"""Smallest distance of two particles, in units of the sum of their radii; below 1, because few particles are round."""


def find_peaks(
    log_odds: Float[np.ndarray, "z y x"],
    label: Integer[np.ndarray, "z y x"],
    radius: Float[np.ndarray, " k"],
    min_log_odds: float,
) -> tuple[Float[np.ndarray, "n 3"], NDArray[np.int64], Float[np.ndarray, " n"]]:
    """Find the peaks of a map of log odds, the highest first.

    A grid point is a peak where none of its 26 neighbors is higher. Of two peaks that lie closer than `MIN_DISTANCE`
    times the sum of their radii, only the higher one is kept. Each is then moved to the maximum of a parabola through
    the grid point and its two neighbors along each axis, by half a grid step at most.

    Parameters
    ----------
    log_odds
        Of the most probable class at each grid point.
    label
        Index of that class.
    radius
        Particle radius of each class, in grid steps.
    min_log_odds
        Lower peaks are left out.

    Returns
    -------
    tuple
        Position (n, 3) in grid steps (zyx), class index (n,) and log odds (n,) of each peak.

    Examples
    --------
    >>> import numpy as np
    >>> log_odds = np.full((5, 5, 5), -9.0)
    >>> log_odds[2, 2, 3] = 4.0
    >>> position, label, height = find_peaks(log_odds, np.zeros((5, 5, 5), int), np.array([2.0]), 0.0)
    >>> position.tolist(), height.tolist()
    ([[2.0, 2.0, 3.0]], [4.0])
    """
    values = log_odds.astype(np.float64)
    index = np.argwhere((values >= min_log_odds) & (maximum_filter(values, size=3, mode="nearest") == values))
    height = values[tuple(index.T)]
    order = np.argsort(-height, kind="stable")
    index, height = index[order], height[order]
    peak_label = label[tuple(index.T)].astype(np.int64)
    rows = _suppress_neighbors(index, radius[peak_label], radius.max(initial=0))
    return _refine_peaks(values, index[rows]), peak_label[rows], height[rows]


def _suppress_neighbors(index: NDArray[np.int64], radius: NDArray[np.float64], max_radius: float) -> NDArray[np.int64]:
    """Return the rows of peaks, sorted from the highest on, that no higher kept peak suppresses."""
    if not len(index):
        return np.zeros(0, dtype=np.int64)
    tree, is_suppressed = cKDTree(index), np.zeros(len(index), dtype=bool)
    rows = []
    for row in range(len(index)):
        if is_suppressed[row]:
            continue
        rows.append(row)
        near = np.array(tree.query_ball_point(index[row], MIN_DISTANCE * (radius[row] + max_radius)))
        distance = np.linalg.norm(index[near] - index[row], axis=1)
        is_suppressed[near[distance < MIN_DISTANCE * (radius[row] + radius[near])]] = True
    return np.array(rows, dtype=np.int64)


def _refine_peaks(values: NDArray[np.float64], index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Move each peak to the maximum of a parabola along each axis; peaks on the border stay along that axis."""
    position = index.astype(np.float64)
    for axis, edge in enumerate(values.shape):
        step = np.eye(3, dtype=np.int64)[axis]
        is_inner = (index[:, axis] > 0) & (index[:, axis] < edge - 1)
        inner = index[is_inner]
        below, here, above = (values[tuple((inner + sign * step).T)] for sign in (-1, 0, 1))
        curvature = below - 2 * here + above
        shift = np.divide(0.5 * (below - above), curvature, out=np.zeros_like(here), where=curvature < 0)
        position[is_inner, axis] += np.clip(shift, -0.5, 0.5)
    return position

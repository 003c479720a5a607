"""From a map of log odds to particles: highest places, each with no other one near."""

import numpy as np
from jaxtyping import Float, Integer
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from scipy.spatial import cKDTree

APART = 0.75
"""Share of the sum of two radii that lies between two particles at least; less than 1, for few are round."""


def find_peaks(
    log_odds: Float[np.ndarray, "z y x"],
    label: Integer[np.ndarray, "z y x"],
    radius: Float[np.ndarray, " k"],
    least: float,
) -> tuple[Float[np.ndarray, "n 3"], NDArray[np.int64], Float[np.ndarray, " n"]]:
    """Place (zyx, in lattice steps, refined between them), class and log odds of each peak, the highest first.

    A place is a peak where none of its 26 neighbors is higher; of two that lie closer than `APART` of their radii
    together only the higher one is kept. Each is then moved to the top of a parabola through it and its two neighbors
    along each axis, by half a step at most.

    Parameters
    ----------
    radius
        Of each class, in lattice steps.
    least
        Lower peaks are left out.
    """
    values = log_odds.astype(np.float64)
    index = np.argwhere((values >= least) & (maximum_filter(values, size=3, mode="nearest") == values))
    value = values[tuple(index.T)]
    order = np.argsort(-value, kind="stable")
    index, value = index[order], value[order]
    kind = label[tuple(index.T)].astype(np.int64)
    kept, is_near = [], np.zeros(len(index), dtype=bool)
    tree = cKDTree(index) if len(index) else None
    for row in range(len(index)):
        if is_near[row] or tree is None:
            continue
        kept.append(row)
        near = np.array(tree.query_ball_point(index[row], APART * (radius[kind[row]] + radius.max())))
        distance = np.linalg.norm(index[near] - index[row], axis=1)
        is_near[near[distance < APART * (radius[kind[row]] + radius[kind[near]])]] = True
    chosen = np.array(kept, dtype=np.int64)
    return _refined(values, index[chosen]), kind[chosen], value[chosen]


def _refined(values: NDArray[np.float64], index: NDArray[np.int64]) -> NDArray[np.float64]:
    place = index.astype(np.float64)
    for axis, edge in enumerate(values.shape):
        step = np.eye(3, dtype=np.int64)[axis]
        inner = (index[:, axis] > 0) & (index[:, axis] < edge - 1)
        at = index[inner]
        below, here, above = (values[tuple((at + sign * step).T)] for sign in (-1, 0, 1))
        curvature = below - 2 * here + above
        moved = np.divide(0.5 * (below - above), curvature, out=np.zeros_like(here), where=curvature < 0)
        place[inner, axis] += np.clip(moved, -0.5, 0.5)
    return place

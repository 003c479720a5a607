"""The missing wedge as estimated from the power spectrum."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from tomosift.data.checks.missing_wedge import estimate_wedge

RemoveWedge = Callable[..., NDArray[np.float32]]


@pytest.mark.parametrize(("low", "high"), [(-60.0, 60.0), (-40.0, 65.0), (-70.0, 70.0)])
def test_the_tilt_range_is_estimated_from_noise_alone(low: float, high: float, remove_wedge: RemoveWedge) -> None:
    volume = remove_wedge(np.random.default_rng(2).standard_normal((48, 96, 96)), low, high)
    wedge = estimate_wedge(volume)
    assert wedge.beam_axis == "z"
    assert wedge.tilt_range_deg == pytest.approx((low, high), abs=4)
    assert wedge.tilt_axis_deg == pytest.approx(0, abs=3)


def test_no_wedge_is_estimated_where_there_is_none() -> None:
    rng = np.random.default_rng(3)
    assert estimate_wedge(rng.standard_normal((40, 64, 64)).astype(np.float32)).beam_axis is None
    assert estimate_wedge(np.ones((40, 64, 64), dtype=np.float32)).cubes == 0
    assert estimate_wedge(rng.standard_normal((8, 64, 64)).astype(np.float32)).cubes == 0

"""Correlations at every n-th voxel are those of the whole volume there."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from tomosift.models.descriptors.strided_correlation import (
    alias_spectrum,
    fold_spectrum,
    kernel_spectrum,
    strided_volume,
)


@pytest.mark.parametrize(("stride", "shape"), [(1, (7, 8, 9)), (2, (12, 10, 14)), (3, (15, 12, 18)), (4, (16, 20, 12))])
@pytest.mark.parametrize("odd", [False, True])
def test_each_nth_voxel_of_a_correlation_is_that_of_scipy(stride: int, shape: tuple[int, int, int], odd: bool) -> None:
    rng = np.random.default_rng(0)
    volume, kernel = rng.standard_normal(shape), rng.standard_normal((5, 3, 5))
    # A kernel that is even about its center has a real spectrum, one that is odd an imaginary one.
    kernel = kernel - kernel[::-1, ::-1, ::-1] if odd else kernel + kernel[::-1, ::-1, ::-1]
    spectrum, kernel_weights = (
        alias_spectrum(torch.from_numpy(volume).float(), stride),
        kernel_spectrum(kernel, shape, stride),
    )
    assert np.abs(kernel_weights.real if odd else kernel_weights.imag).max() < 1e-6
    weights = torch.from_numpy(np.ascontiguousarray(kernel_weights.imag if odd else kernel_weights.real))
    coarse = tuple(edge // stride for edge in shape)
    kept = tuple(slice(1, edge) for edge in coarse)
    part = strided_volume(fold_spectrum(spectrum * -1j if odd else spectrum, weights), coarse, kept)
    expected = correlate(volume, kernel, mode="wrap")[::stride, ::stride, ::stride][kept]
    np.testing.assert_allclose(part.numpy(), expected.ravel(), atol=1e-4)

"""Correlations at every so many voxels are those of the whole volume there."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from tomosift.models.strided_correlation import alias_spectrum, fold_spectrum, kernel_spectrum, strided_volume


@pytest.mark.parametrize(("every", "shape"), [(1, (7, 8, 9)), (2, (12, 10, 14)), (3, (15, 12, 18)), (4, (16, 20, 12))])
@pytest.mark.parametrize("odd", [False, True])
def test_every_so_many_voxels_of_a_correlation_are_what_scipy_gives(
    every: int, shape: tuple[int, int, int], odd: bool
) -> None:
    rng = np.random.default_rng(0)
    volume, kernel = rng.standard_normal(shape), rng.standard_normal((5, 3, 5))
    # A kernel that is even about its middle has a real spectrum, one that is odd an imaginary one.
    kernel = kernel - kernel[::-1, ::-1, ::-1] if odd else kernel + kernel[::-1, ::-1, ::-1]
    spectrum, of_kernel = alias_spectrum(torch.from_numpy(volume).float(), every), kernel_spectrum(kernel, shape, every)
    assert np.abs(of_kernel.real if odd else of_kernel.imag).max() < 1e-6
    weights = torch.from_numpy(np.ascontiguousarray(of_kernel.imag if odd else of_kernel.real))
    coarse = tuple(edge // every for edge in shape)
    kept = tuple(slice(1, edge) for edge in coarse)
    found = strided_volume(fold_spectrum(spectrum * -1j if odd else spectrum, weights), coarse, kept)
    expected = correlate(volume, kernel, mode="wrap")[::every, ::every, ::every][kept]
    np.testing.assert_allclose(found.numpy(), expected.ravel(), atol=1e-4)

"""The soft sphere and the blur are centered on the rotation center."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from tomosift.models.masking import low_pass, soft_sphere
from tomosift.physics.rotation import quaternions_to_matrices, rotate

SIZES = (8, 15, 16, 33)


def radii(size: int) -> torch.Tensor:
    axis = torch.arange(size, dtype=torch.float32) - size // 2
    return (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()


@pytest.mark.parametrize("size", SIZES)
def test_sphere_is_one_inside_and_zero_outside_with_a_falling_edge(size: int) -> None:
    mask, radius = soft_sphere(size), radii(size)
    outer = (size - 1) // 2 + 0.5
    assert bool((mask[radius <= outer - 2] == 1).all())
    assert float(mask[radius >= outer].abs().max()) < 1e-6
    order = radius.flatten().argsort()
    assert bool((mask.flatten()[order].diff() <= 1e-6).all())


@pytest.mark.parametrize("size", SIZES)
def test_quarter_rotations_do_not_change_the_sphere(size: int) -> None:
    mask = soft_sphere(size)[None]
    half = 0.5**0.5
    for axis in ((half, 0, 0), (0, half, 0), (0, 0, half)):
        turn = quaternions_to_matrices(torch.tensor([[half, *axis]]))
        assert torch.allclose(rotate(mask, turn), mask, atol=1e-4)


def test_edge_has_the_stated_width_and_the_shape_of_a_raised_cosine() -> None:
    mask = soft_sphere(33, edge_voxels=4.0)
    along = mask[16, 16, 16:]
    assert along[12] == 1.0
    assert float(along[14]) == pytest.approx(0.5 - 0.5 * torch.cos(torch.tensor(torch.pi * 2.5 / 4)).item(), abs=1e-5)
    assert float(along[16]) == pytest.approx(0.5 - 0.5 * torch.cos(torch.tensor(torch.pi * 0.5 / 4)).item(), abs=1e-5)


def test_sphere_has_the_requested_precision() -> None:
    assert soft_sphere(8, dtype=torch.float64).dtype == torch.float64
    assert soft_sphere(8).dtype == torch.float32


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.7])
def test_blur_is_that_of_scipy_with_zeros_around_and_normalized(size: int, sigma: float) -> None:
    volume = torch.randn(2, 1, size, size, size, generator=torch.Generator().manual_seed(0))
    before = volume.clone()
    blurred_volume = low_pass(volume, sigma)
    assert torch.equal(volume, before)
    for result, box in zip(blurred_volume[:, 0].numpy(), volume[:, 0].double().numpy(), strict=True):
        blurred = gaussian_filter(box, sigma, mode="constant", radius=int(np.ceil(3 * sigma)))
        np.testing.assert_allclose(result, (blurred - blurred.mean()) / blurred.std(), atol=1e-5)

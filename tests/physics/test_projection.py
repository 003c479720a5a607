"""Laws of projection and back-projection."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch_fourier_slice import project_3d_to_2d

from tomosift.physics.projection import back_project, project
from tomosift.physics.wedge import apply_mask, wedge_mask

GAUSSIANS = ((1.0, 0.0, 0.0, 0.0), (0.7, 2.0, -3.0, 4.0), (0.4, -3.0, 2.0, 1.5))
"""Weight and center (zyx from the center voxel)."""


def gaussians(shape_zyx: tuple[int, int, int], width: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Three Gaussians near the center, of unequal weight."""
    z, y, x = torch.meshgrid(*(torch.arange(n, dtype=dtype) - n // 2 for n in shape_zyx), indexing="ij")
    volume = torch.zeros(shape_zyx, dtype=dtype)
    for weight, cz, cy, cx in GAUSSIANS:
        volume += weight * torch.exp(-((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2) / (2 * width**2))
    return volume


def test_untilted_image_is_the_sum_over_z() -> None:
    volume = torch.rand(5, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(project(volume, torch.zeros(1))[0], volume.sum(0))


def test_tilt_of_90_degrees_projects_along_x() -> None:
    volume = torch.rand(7, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(project(volume, torch.tensor([90.0]))[0], volume.sum(2).T)


def test_positive_tilt_moves_high_voxels_to_high_x() -> None:
    volume = torch.zeros(33, 5, 65, dtype=torch.float64)
    volume[16 + 10, 2, 32 + 4] = 1
    image = project(volume, torch.tensor([30.0]))[0]
    mean = (image.sum(0) * torch.arange(65)).sum() - 32
    assert mean.item() == pytest.approx(4 * math.cos(math.pi / 6) + 10 * math.sin(math.pi / 6), abs=1e-9)


@pytest.mark.parametrize("size", [32, 33])
@pytest.mark.parametrize("angle", [-60.0, -25.0, 10.0, 45.0, 70.0])
def test_projections_of_gaussians_equal_the_closed_form(size: int, angle: float) -> None:
    width = 2.0
    image = project(gaussians((size, size, size), width), torch.tensor([angle]))[0]
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    y, x = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) - size // 2,) * 2, indexing="ij")
    expected = torch.zeros_like(image)
    for weight, cz, cy, cx in GAUSSIANS:
        expected += weight * torch.exp(-((y - cy) ** 2 + (x - (cx * c + cz * s)) ** 2) / (2 * width**2))
    expected *= math.sqrt(2 * math.pi) * width
    assert (image - expected).norm() < 0.006 * expected.norm()


@pytest.mark.parametrize("angle", [-60.0, -25.0, 10.0, 45.0, 70.0])
def test_projections_of_cubes_agree_with_fourier_slices(angle: float) -> None:
    volume = gaussians((32, 32, 32), 2.0)
    turn = Rotation.from_euler("y", angle, degrees=True).as_matrix()
    # a central slice is sampled at R k: the image plane in the frame of the specimen is the inverse turn
    matrix = torch.from_numpy(turn.T.copy())[None]
    expected = project_3d_to_2d(volume.float(), matrix.float())[0].double()
    actual = project(volume, torch.tensor([angle]))[0]
    assert (actual - expected).norm() < 0.015 * expected.norm()


@settings(deadline=None, max_examples=20)
@given(st.floats(-80, 80))
def test_an_image_sums_to_the_volume_and_measures_one_slice_of_fourier_space(angle: float) -> None:
    volume = gaussians((24, 24, 24), 2.0)
    image = project(volume, torch.tensor([angle], dtype=torch.float64))[0]
    torch.testing.assert_close(image.sum(), volume.sum(), atol=0, rtol=1e-4)
    spectrum = torch.fft.fftn(torch.fft.ifftshift(volume)), torch.fft.fft2(torch.fft.ifftshift(image))
    torch.testing.assert_close(spectrum[0][0, :, 0], spectrum[1][:, 0], atol=1e-3, rtol=1e-3)  # the tilt axis


@settings(deadline=None, max_examples=20)
@given(
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 9)),
    st.tuples(st.integers(1, 8), st.integers(1, 12)),
    st.lists(st.floats(-90, 90), min_size=1, max_size=4),
)
def test_unweighted_back_projection_is_the_exact_adjoint(
    shape_zyx: tuple[int, int, int], shape_yx: tuple[int, int], angles: list[float]
) -> None:
    g = torch.Generator().manual_seed(0)
    tilts = torch.tensor(angles, dtype=torch.float64)
    volume = torch.randn(shape_zyx, generator=g, dtype=torch.float64)
    images = torch.randn(len(angles), *shape_yx, generator=g, dtype=torch.float64)
    forward = (project(volume, tilts, shape_yx) * images).sum()
    backward = (volume * back_project(images, tilts, shape_zyx, weighting="none")).sum()
    torch.testing.assert_close(forward, backward, atol=1e-10, rtol=1e-10)


def test_projection_is_linear_and_leaves_its_arguments() -> None:
    g = torch.Generator().manual_seed(0)
    one, two = torch.randn(2, 6, 7, 8, generator=g, dtype=torch.float64)
    tilts = torch.tensor([-40.0, 25.0])
    before = one.clone(), tilts.clone()
    torch.testing.assert_close(project(2 * one - two, tilts), 2 * project(one, tilts) - project(two, tilts))
    assert torch.equal(one, before[0])
    assert torch.equal(tilts, before[1])


def test_a_series_equals_its_tilts_one_by_one() -> None:
    volume = gaussians((8, 9, 20), 2.0)
    tilts = torch.tensor([-40.0, 0.0, 25.0])
    torch.testing.assert_close(project(volume, tilts), torch.cat([project(volume, t[None]) for t in tilts]))
    images = project(volume, tilts)
    single = sum(back_project(images[i : i + 1], tilts[i : i + 1], (8, 9, 20), "none") for i in range(3))
    torch.testing.assert_close(back_project(images, tilts, (8, 9, 20), "none"), single)


def test_gradient_flows_both_ways_twice() -> None:
    volume = torch.rand(3, 2, 4, dtype=torch.float64, requires_grad=True)
    tilts = torch.tensor([-35.0, 20.0])
    assert torch.autograd.gradcheck(lambda v: project(v, tilts, (3, 5)), (volume,))
    assert torch.autograd.gradgradcheck(lambda v: project(v, tilts) ** 2, (volume,))
    images = torch.rand(2, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda i: back_project(i, tilts, (3, 2, 4)), (images,))


def test_a_wider_image_keeps_the_center() -> None:
    volume = gaussians((6, 10, 12), 1.5)
    tilts = torch.tensor([20.0])
    wide = project(volume, tilts, (15, 31))[0]
    narrow = project(volume, tilts)[0]
    torch.testing.assert_close(wide[7 - 5 : 7 + 5, 15 - 6 : 15 + 6], narrow)


@pytest.mark.parametrize("weighting", ["ramp", "exact"])
@pytest.mark.parametrize("tilt_range", [(-60.0, 60.0), (-40.0, 66.0)])
def test_reconstruction_is_the_phantom_less_its_missing_wedge(weighting: str, tilt_range: tuple[float, float]) -> None:
    size = 48
    phantom = gaussians((size, size, size), 2.0)
    tilts = torch.arange(tilt_range[0], tilt_range[1] + 0.1, 2.0, dtype=torch.float64)
    result = back_project(project(phantom, tilts), tilts, (size, size, size), weighting)  # type: ignore[arg-type]
    mask = wedge_mask(size, torch.tensor([tilt_range], dtype=torch.float64))
    expected = apply_mask(phantom[None], mask)
    measured = apply_mask(result[None], mask)
    inner = slice(12, 36)
    difference = (measured - expected)[0, inner, inner, inner]
    difference = difference - difference.mean()  # the mean of the box depends on what lies outside it
    assert difference.norm() < 0.2 * expected[0, inner, inner, inner].norm()
    missing = result[None] - measured
    assert missing.norm() < 0.25 * result.norm()


def test_full_ramp_reconstruction_restores_the_density_scale() -> None:
    size = 40
    phantom = gaussians((size, size, size), 2.5)
    tilts = torch.arange(-90.0, 90.0, 2.0, dtype=torch.float64)
    result = back_project(project(phantom, tilts), tilts, (size, size, size))
    assert (result - phantom).norm() < 0.03 * phantom.norm()


def test_uneven_steps_are_weighted_by_the_angle_they_represent() -> None:
    phantom = gaussians((40, 8, 40), 2.5)
    even = torch.arange(-90.0, 90.0, 2.0, dtype=torch.float64)
    uneven = torch.cat([even[:45], even[45::2]])
    results = [back_project(project(phantom, t), t, (40, 8, 40)) for t in (even, uneven)]
    assert (results[1] - results[0]).norm() < 0.05 * results[0].norm()


def test_single_precision_and_order_of_tilts_do_not_matter() -> None:
    phantom = gaussians((16, 8, 24), 2.0)
    tilts = torch.tensor([-50.0, -20.0, 0.0, 15.0, 45.0], dtype=torch.float64)
    order = torch.tensor([3, 0, 4, 1, 2])
    plain = back_project(project(phantom, tilts), tilts, (16, 8, 24))
    shuffled = back_project(project(phantom.float(), tilts[order].float()), tilts[order].float(), (16, 8, 24))
    torch.testing.assert_close(shuffled.double(), plain, atol=1e-5, rtol=1e-4)


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one each"):
        back_project(torch.zeros(2, 4, 4), torch.zeros(3), (4, 4, 4))

"""Laws of poses and of the one resampling."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from tomosift.physics.rotation import quaternions_to_matrices, random_rotations, rotate, rotate_upsampled, upsample


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(n: int, size: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Smooth asymmetrical objects that vanish towards the border."""
    axis = torch.arange(size, dtype=dtype) - size // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    centers = (torch.rand(n, 4, 3, generator=generator(seed), dtype=dtype) - 0.5) * size * 0.4
    width = size / 12
    volume = torch.zeros(n, size, size, size, dtype=dtype)
    for i in range(n):
        for k, (cz, cy, cx) in enumerate(centers[i]):
            volume[i] += (k + 1) * torch.exp(-((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2) / (2 * width**2))
    return volume


def matrix_zyx(axis: str, angle_deg: float) -> torch.Tensor:
    return torch.from_numpy(Rotation.from_euler(axis, angle_deg, degrees=True).as_matrix()[::-1, ::-1].copy())


@pytest.mark.parametrize("size", [8, 9])
def test_quarter_turn_permutes_voxels(size: int) -> None:
    volume = torch.rand(1, size, size, size, generator=generator())
    turned = rotate(volume, matrix_zyx("z", 90.0)[None].float())
    c = size // 2
    r = (size - 1) // 2
    for dy in range(-r, r + 1):
        for dx in range(-r, r + 1):  # right-handed about z: x -> y, y -> -x
            torch.testing.assert_close(turned[0, :, c + dx, c - dy], volume[0, :, c + dy, c + dx], atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identity_leaves_every_voxel(dtype: torch.dtype) -> None:
    volume = torch.rand(2, 7, 7, 7, generator=generator(), dtype=dtype)
    torch.testing.assert_close(rotate(volume, torch.eye(3, dtype=dtype).expand(2, 3, 3)), volume, atol=2e-6, rtol=0)


def test_whole_voxel_shift_moves_the_object() -> None:
    volume = torch.rand(1, 8, 8, 8, generator=generator(), dtype=torch.float64)
    moved = rotate(volume, torch.eye(3)[None].double(), shift_zyx_voxels=torch.tensor([[1.0, -2.0, 3.0]]))
    torch.testing.assert_close(moved[0, 1:, :-2, 3:], volume[0, :-1, 2:, :-3])
    assert moved[0, 0].abs().max() < 1e-12


def test_agrees_with_scipy_linear_interpolation_under_turn_scale_and_shift() -> None:
    volume, turn = blobs(1, 17), random_rotations(1, generator(1), dtype=torch.float64)
    shift, scale = torch.tensor([[0.7, -1.2, 0.4]], dtype=torch.float64), torch.tensor([1.3], dtype=torch.float64)
    inverse = turn[0].numpy().T / 1.3
    center = np.full(3, 8.0)
    offset = center - inverse @ (center + shift[0].numpy())
    expected = affine_transform(volume[0].numpy(), inverse, offset, order=1, mode="grid-constant")
    actual = rotate(volume, turn, shift, scale)[0].numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-10)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000), st.sampled_from([16, 17]))
def test_turning_back_restores_the_object(seed: int, size: int) -> None:
    volume, turn = blobs(1, size, seed), random_rotations(1, generator(seed), dtype=torch.float64)
    back = rotate(rotate(volume, turn), turn.transpose(-1, -2))
    inner = slice(size // 4, -(size // 4))
    assert (back - volume)[:, inner, inner, inner].norm() < 0.25 * volume.norm()
    fine = rotate_upsampled(upsample(volume, 4), 4, turn)
    better = rotate_upsampled(upsample(fine, 4), 4, turn.transpose(-1, -2))
    assert (better - volume)[:, inner, inner, inner].norm() < 0.03 * volume.norm()


def test_a_batch_equals_one_by_one_and_leaves_its_arguments() -> None:
    volume, turn = blobs(3, 12), random_rotations(3, generator(), dtype=torch.float64)
    shift = torch.randn(3, 3, generator=generator(), dtype=torch.float64)
    before = volume.clone(), turn.clone(), shift.clone()
    together = rotate(volume, turn, shift)
    single = torch.cat([rotate(volume[i : i + 1], turn[i : i + 1], shift[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, single)
    for now, then in zip((volume, turn, shift), before, strict=True):
        assert torch.equal(now, then)


def test_fill_comes_in_from_outside() -> None:
    volume = torch.full((2, 8, 8, 8), 3.0)
    turn = random_rotations(2, generator())
    torch.testing.assert_close(rotate(volume, turn, fill=torch.tensor([3.0, 3.0])), volume)
    assert rotate(volume, turn).min() < 2.9


def test_gradient_reaches_volume_pose_shift_and_scale() -> None:
    volume = torch.rand(1, 4, 4, 4, generator=generator(), dtype=torch.float64, requires_grad=True)
    turn = random_rotations(1, generator(3), dtype=torch.float64).requires_grad_()
    shift = torch.tensor([[0.11, 0.23, -0.31]], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor([1.07], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rotate, (volume, turn, shift, scale))


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("factor", [2, 3])
def test_upsampling_keeps_the_samples_and_the_center(size: int, factor: int) -> None:
    volume = torch.rand(1, size, size, size, generator=generator(), dtype=torch.float64)
    fine = upsample(volume, factor)
    start = (factor * size) // 2 - factor * (size // 2)
    torch.testing.assert_close(fine.roll((-start,) * 3, (1, 2, 3))[:, ::factor, ::factor, ::factor], volume)
    eye = torch.eye(3, dtype=torch.float64)[None]
    inner = slice(1, -1)
    restored = rotate_upsampled(fine, factor, eye)
    torch.testing.assert_close(restored[:, inner, inner, inner], volume[:, inner, inner, inner])


def test_quaternions_agree_with_scipy() -> None:
    q = torch.randn(20, 4, generator=generator(), dtype=torch.float64)
    expected = Rotation.from_quat(q.numpy(), scalar_first=True).as_matrix()[:, ::-1, ::-1].copy()
    torch.testing.assert_close(quaternions_to_matrices(q), torch.from_numpy(expected))


def test_random_rotations_have_the_moments_of_the_haar_measure() -> None:
    n = 20000
    turn = random_rotations(n, generator(5), dtype=torch.float64)
    torch.testing.assert_close(turn @ turn.transpose(-1, -2), torch.eye(3, dtype=torch.float64).expand(n, 3, 3))
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(n, dtype=torch.float64))
    assert turn.mean(0).abs().max() < 5 / math.sqrt(3 * n)
    second = torch.einsum("nij,nkl->ijkl", turn, turn) / n
    eye = torch.eye(3, dtype=torch.float64)
    assert (second - torch.einsum("ik,jl->ijkl", eye, eye) / 3).abs().max() < 5 * 0.4 / math.sqrt(n)
    trace = turn.diagonal(dim1=-2, dim2=-1).sum(-1)
    assert abs((trace**2).mean() - 1) < 5 * math.sqrt(2 / n)  # irreducible: E[tr^2] = 1, E[tr^4] = 3


@pytest.mark.parametrize("bound", [0.0, 10.0, 90.0])
def test_bounded_rotations_stay_within_their_angle(bound: float) -> None:
    turn = random_rotations(5000, generator(), max_angle_deg=bound, dtype=torch.float64)
    angle = torch.rad2deg(torch.acos(((turn.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1)))
    assert angle.max() <= bound + 1e-5
    assert bound == 0 or angle.max() > 0.99 * bound
    if bound == 90.0:  # the Haar median solves a - sin a = (pi/2 - 1) / 2
        assert abs(angle.median() - 70.5) < 1.0


def test_the_same_seed_gives_the_same_rotations() -> None:
    assert torch.equal(random_rotations(4, generator(2)), random_rotations(4, generator(2)))


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 0 to 180"):
        random_rotations(1, generator(), max_angle_deg=200.0)
    with pytest.raises(ValueError, match="at least 1"):
        upsample(torch.zeros(1, 4, 4, 4), 0)
    with pytest.raises(ValueError, match="no multiple"):
        rotate_upsampled(torch.zeros(1, 5, 5, 5), 2, torch.eye(3)[None])


def test_an_even_displacement_is_a_shift_the_other_way() -> None:
    volume, turn = blobs(2, 12), random_rotations(2, generator(1), dtype=torch.float64)
    offset = torch.tensor([0.6, -1.1, 0.3], dtype=torch.float64)
    bent = rotate(volume, turn, displacement_zyx_voxels=offset.expand(2, 12, 12, 12, 3))
    torch.testing.assert_close(bent, rotate(volume, turn, -offset.expand(2, 3)))

"""Descriptors do not change when a particle rotates, and do not depend on the box size."""

import numpy as np
import pytest
import torch

from tomosift.models.descriptors.radial import BLURS, RADIAL_DESCRIPTOR_SIZE, SHELLS, compute_radial_descriptors
from tomosift.physics.rotation import random_rotations, rotate

POWER = np.arange(RADIAL_DESCRIPTOR_SIZE - SHELLS * (len(BLURS) + 1), RADIAL_DESCRIPTOR_SIZE - SHELLS * len(BLURS))
IN_SPACE = np.delete(np.arange(RADIAL_DESCRIPTOR_SIZE), POWER)


def normalized(volume: torch.Tensor) -> torch.Tensor:
    flat = volume.flatten(1)
    return ((flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True, correction=0)).reshape(volume.shape)


def noise(count: int, size: int, seed: int = 0) -> torch.Tensor:
    return normalized(torch.randn(count, size, size, size, generator=torch.Generator().manual_seed(seed)))


def blobs(count: int, size: int, seed: int = 0) -> torch.Tensor:
    """A handful of smooth blobs in the inner half of each box."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.arange(size) - size // 2
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).float()
    boxes = torch.zeros(count, size, size, size)
    for box in boxes:
        for center in (torch.rand(5, 3, generator=generator) - 0.5) * 0.4 * size:
            box += torch.exp(-0.5 * ((grid - center) ** 2).sum(-1) / (0.07 * size) ** 2)
    return boxes


@pytest.mark.parametrize("size", [17, 31])
@pytest.mark.parametrize("axes", [(1, 2), (1, 3), (2, 3)])
def test_quarter_turns_change_nothing(size: int, axes: tuple[int, int]) -> None:
    box = noise(2, size)
    rotated = torch.rot90(box, 1, axes)
    torch.testing.assert_close(compute_radial_descriptors(rotated), compute_radial_descriptors(box), atol=3e-4, rtol=0)


@pytest.mark.parametrize("size", [16, 32])
def test_quarter_turns_about_the_center_voxel_of_even_boxes_change_nothing(size: int) -> None:
    box = noise(2, size)
    # About voxel N/2 a quarter turn of an even box is a turn of the array and a shift by one voxel.
    rotated = torch.rot90(box, 1, (2, 3)).roll(1, 2)
    torch.testing.assert_close(
        compute_radial_descriptors(rotated)[:, IN_SPACE],
        compute_radial_descriptors(box)[:, IN_SPACE],
        atol=1e-4,
        rtol=0,
    )


@pytest.mark.parametrize("seed", range(3))
def test_any_rotation_of_smooth_blobs_changes_little(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    box = blobs(4, 32, seed)
    rotated = rotate(box, random_rotations(4, generator))
    before, after = (compute_radial_descriptors(normalized(each)) for each in (box, rotated))
    between = (before[:, None] - before[None]).norm(dim=-1)
    typical = between[~torch.eye(4, dtype=torch.bool)].mean()
    assert float((after - before).norm(dim=-1).max()) < 0.35 * float(typical)


@pytest.mark.parametrize("size", range(16, 65, 7))
def test_any_size_gives_the_same_number_of_finite_descriptors(size: int) -> None:
    descriptors = compute_radial_descriptors(noise(2, size))
    assert descriptors.shape == (2, RADIAL_DESCRIPTOR_SIZE)
    assert bool(descriptors.isfinite().all())


@pytest.mark.parametrize("size", [16, 24, 33, 48])
def test_white_noise_has_power_one_in_boxes_of_any_size(size: int) -> None:
    power = compute_radial_descriptors(noise(24, size))[:, POWER].mean(0)
    # The zeroth shell is the mean of the box, which is zero; the next ones scatter, as they have few coefficients.
    assert float(power[2:].abs().max()) < 0.12


def test_same_blobs_have_similar_descriptors_at_another_box_size() -> None:
    small, large = (compute_radial_descriptors(normalized(blobs(3, size, seed=4))) for size in (32, 48))
    close = (small[:, IN_SPACE] - large[:, IN_SPACE]).abs() < 0.15
    # The innermost shells are two and three voxels from the center: too coarse for the highest degrees.
    assert float(close.float().mean()) > 0.99


def test_constant_boxes_give_finite_values_and_gradients() -> None:
    box = torch.zeros(1, 16, 16, 16, requires_grad=True)
    descriptors = compute_radial_descriptors(box)
    descriptors.sum().backward()
    assert bool(descriptors.isfinite().all())
    assert box.grad is not None
    assert bool(box.grad.isfinite().all())


def test_gradients_agree_with_finite_differences() -> None:
    box = noise(1, 16).requires_grad_()
    weight = torch.randn(RADIAL_DESCRIPTOR_SIZE, generator=torch.Generator().manual_seed(1))
    (compute_radial_descriptors(box) @ weight).sum().backward()
    assert box.grad is not None
    step = noise(1, 16, seed=2)
    ahead, behind = ((compute_radial_descriptors(box.detach() + sign * 1e-2 * step) @ weight).sum() for sign in (1, -1))
    assert float((box.grad * step).sum()) == pytest.approx(float(ahead - behind) / 2e-2, rel=0.05, abs=0.02)


def test_gradients_exist_after_a_first_call_in_inference_mode() -> None:
    size = 22  # of no other test, so that its geometry is first computed here
    with torch.inference_mode():
        compute_radial_descriptors(noise(1, size))
    box = noise(1, size).requires_grad_()
    compute_radial_descriptors(box).square().sum().backward()
    assert box.grad is not None
    assert float(box.grad.abs().max()) > 0


def test_batch_gives_what_single_boxes_give_and_arguments_stay() -> None:
    boxes = noise(3, 20)
    before = boxes.clone()
    alone = torch.cat([compute_radial_descriptors(box[None]) for box in boxes])
    torch.testing.assert_close(compute_radial_descriptors(boxes), alone, atol=1e-5, rtol=1e-4)
    assert torch.equal(boxes, before)

"""Descriptors of every grid point of a block are those of the box around it."""

import pytest
import torch

from tomosift.models.descriptors.grid import (
    GRID_DESCRIPTOR_SIZE,
    compute_block_descriptors,
    compute_grid_descriptors,
    first_center_voxel,
)
from tomosift.models.descriptors.grid_layout import descriptor_layout
from tomosift.physics.augmentation import normalize


def block(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def boxes_of(volume: torch.Tensor, size: int, stride: int) -> torch.Tensor:
    """The boxes that lie within a volume, normalized, (i, j, k, d, d, d)."""
    start = first_center_voxel(size, stride) - size // 2
    cut = volume[start:, start:, start:].unfold(0, size, stride).unfold(1, size, stride).unfold(2, size, stride)
    return normalize(cut.reshape(-1, size, size, size).double()).float().reshape(cut.shape)


@pytest.mark.parametrize(
    ("size", "stride", "shape"),
    [
        (16, 1, (18, 20, 19)),
        (16, 2, (20, 18, 22)),
        (16, 3, (24, 21, 18)),
        (24, 2, (28, 26, 30)),
        (24, 4, (32, 28, 28)),
        (32, 2, (36, 38, 34)),
        (32, 4, (40, 36, 44)),
        (32, 8, (48, 40, 40)),
        (33, 2, (36, 36, 38)),
        (33, 6, (42, 48, 36)),
    ],
)
def test_descriptors_of_a_block_are_those_of_its_boxes(size: int, stride: int, shape: tuple[int, int, int]) -> None:
    volume = block(*shape)
    cut = boxes_of(volume, size, stride)
    with torch.inference_mode():
        descriptors = compute_block_descriptors(volume, size, stride)
        expected = compute_grid_descriptors(cut.flatten(0, 2))
    assert descriptors.shape == (*cut.shape[:3], GRID_DESCRIPTOR_SIZE)
    # The innermost shell of a box of 16 is a single voxel, whose skewness is a rounding error over a floor.
    torch.testing.assert_close(descriptors.flatten(0, 2), expected, atol=5e-3 if size == 16 else 1e-4, rtol=0)


def test_mean_and_contrast_of_a_block_do_not_matter() -> None:
    volume = block(40, 40, 40)
    with torch.inference_mode():
        plain, other = compute_block_descriptors(volume, 32, 4), compute_block_descriptors(7.0 * volume - 30.0, 32, 4)
    torch.testing.assert_close(plain, other, atol=1e-4, rtol=0)


def test_each_box_of_a_block_is_normalized_by_its_own_mean_and_contrast() -> None:
    ramp = torch.linspace(1, 3, 48)[:, None, None]
    volume = block(48, 40, 40) * ramp + 5 * ramp
    with torch.inference_mode():
        descriptors = compute_block_descriptors(volume, 32, 4)
        expected = compute_grid_descriptors(boxes_of(volume, 32, 4).flatten(0, 2))
    torch.testing.assert_close(descriptors.flatten(0, 2), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("constant", [False, True])
def test_gradients_are_finite_and_the_argument_is_left_untouched(constant: bool) -> None:
    volume = torch.zeros(36, 36, 36) if constant else block(36, 36, 36)
    boxes = torch.zeros(2, 32, 32, 32) if constant else normalize(block(2, 32, 32, 32))
    before = volume.clone()
    volume.requires_grad_()
    boxes.requires_grad_()
    (
        compute_block_descriptors(volume, 32, 2).square().sum() + compute_grid_descriptors(boxes).square().sum()
    ).backward()
    assert torch.equal(volume.detach(), before)
    for argument in (volume, boxes):
        assert argument.grad is not None
        assert bool(argument.grad.isfinite().all())


@pytest.mark.parametrize(("stride", "edge"), [(1, 36), (3, 36), (4, 38)])
def test_strides_that_do_not_fit_are_refused(stride: int, edge: int) -> None:
    with pytest.raises(ValueError, match=rf"^stride is {stride} and the block \({edge}, .*expected multiples of 2 and"):
        compute_block_descriptors(block(edge, edge, edge), 32, stride)


def test_filter_and_shell_together_stay_within_the_box() -> None:
    for size in range(16, 65):
        layout = descriptor_layout(size)
        reach = layout.step * (layout.harmonics.shape[-1] // 2) + len(layout.gaussians[1]) // 2
        assert reach <= (size - 1) // 2


@pytest.mark.parametrize(("size", "stride"), [(32, 2), (32, 4), (16, 1)])
def test_all_tensors_are_on_the_device_of_the_input(size: int, stride: int) -> None:
    """The meta device refuses tensors of other devices, as a GPU does."""
    block = torch.empty(64, 64, 64, device="meta")
    assert compute_block_descriptors(block, size, stride).device.type == "meta"
    assert compute_grid_descriptors(torch.empty(2, size, size, size, device="meta")).device.type == "meta"

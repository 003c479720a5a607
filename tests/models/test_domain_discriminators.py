import math

import pytest
import torch

from tomosift.models.domain_discriminators import (
    ClasswiseDiscriminators,
    ImageDiscriminator,
    covariance_distance,
    reverse_gradient,
)
from tomosift.models.learned_augmentation import NoiseAndDeformation, deform


def test_behind_the_reversal_values_stay_and_the_slope_turns() -> None:
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    (3 * reverse_gradient(x, 0.5)).sum().backward()
    assert torch.equal(reverse_gradient(x), x)
    assert x.grad is not None
    assert x.grad.tolist() == [-1.5, -1.5]


def test_adversaries_that_know_nothing_lose_log_two_however_many_boxes_each_domain_has() -> None:
    adversaries = ClasswiseDiscriminators(4, 3, 8).eval()
    for parameter in adversaries.parameters():
        torch.nn.init.zeros_(parameter)
    weight = torch.softmax(torch.randn(10, 3), dim=1)
    is_target = torch.arange(10) < 2
    assert adversaries(torch.randn(10, 4), weight, is_target).item() == pytest.approx(math.log(2), rel=1e-5)


def test_an_adversary_hears_only_of_boxes_of_its_class() -> None:
    torch.manual_seed(0)
    adversaries = ClasswiseDiscriminators(4, 2, 8).eval()
    embedding = torch.randn(6, 4)
    weight = torch.zeros(6, 2)
    weight[:, 0] = 1
    adversaries(embedding, weight, torch.arange(6) < 3).backward()
    heard = [max(float(p.grad.abs().max()) for p in member.parameters()) for member in adversaries.members]
    assert heard[0] > 0
    assert heard[1] == 0


def test_covariance_distance_is_zero_for_equal_and_that_of_the_paper_for_scaled_clouds() -> None:
    x = torch.randn(50, 3)
    assert float(covariance_distance(x, x + 7)) == pytest.approx(0, abs=1e-6)
    expected = (torch.cov(x.T) * 3).square().sum() / 36
    assert float(covariance_distance(x, 2 * x)) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("size", [16, 32, 40])
def test_the_image_discriminator_takes_boxes_of_any_size_one_by_one(size: int) -> None:
    torch.manual_seed(1)
    discriminator, boxes = ImageDiscriminator(4), torch.randn(3, size, size, size)
    found = discriminator(boxes)
    assert found.shape == (3,)
    torch.testing.assert_close(discriminator(boxes[1:2]), found[1:2], atol=1e-5, rtol=1e-4)


def test_a_field_of_one_voxel_moves_a_box_by_one_voxel() -> None:
    box = torch.randn(1, 12, 12, 12)
    field = torch.zeros(1, 3, 12, 12, 12)
    torch.testing.assert_close(deform(box, field), box, atol=1e-5, rtol=0)
    field[:, 2] = 1  # along x
    torch.testing.assert_close(deform(box, field)[..., :-1], box[..., 1:], atol=1e-4, rtol=0)


def test_an_untrained_warp_leaves_boxes_as_they_are_and_a_trained_one_keeps_its_limits() -> None:
    torch.manual_seed(2)
    warp, boxes = NoiseAndDeformation(4, most_noise=0.5, most_bend=1.0), torch.randn(2, 16, 16, 16)
    boxes = (boxes - boxes.mean(dim=(1, 2, 3), keepdim=True)) / boxes.std(dim=(1, 2, 3), keepdim=True, correction=0)
    generator = torch.Generator().manual_seed(0)
    torch.testing.assert_close(warp(boxes, generator), boxes, atol=1e-3, rtol=0)
    for decoder in (warp.noise, warp.bend):
        torch.nn.init.normal_(decoder.last.weight, std=100)
    warped = warp(boxes, generator)
    assert not torch.allclose(warped, boxes, atol=0.1)
    assert torch.isfinite(warped).all()
    torch.testing.assert_close(warped.mean(dim=(1, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)


def test_too_small_boxes_are_not_warped() -> None:
    with pytest.raises(ValueError, match="box size is 6 voxels, expected at least 8"):
        NoiseAndDeformation(4, 0.1, 1.0)(torch.randn(1, 6, 6, 6), torch.Generator())

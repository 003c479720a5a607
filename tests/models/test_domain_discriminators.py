"""Domain discriminators and the losses that go with them."""

import math

import pytest
import torch

from tomosift.models.domain_discriminators import (
    ClasswiseDiscriminators,
    ImageDiscriminator,
    covariance_distance,
    reverse_gradient,
)


def test_gradient_reversal_keeps_values_and_reverses_the_gradient() -> None:
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    (3 * reverse_gradient(x, 0.5)).sum().backward()
    assert torch.equal(reverse_gradient(x), x)
    assert x.grad is not None
    assert x.grad.tolist() == [-1.5, -1.5]


def test_untrained_discriminators_have_a_loss_of_log_two_for_any_sizes_of_the_domains() -> None:
    discriminators = ClasswiseDiscriminators(4, 3, 8).eval()
    for parameter in discriminators.parameters():
        torch.nn.init.zeros_(parameter)
    weight = torch.softmax(torch.randn(10, 3), dim=1)
    is_target = torch.arange(10) < 2
    assert discriminators(torch.randn(10, 4), weight, is_target).item() == pytest.approx(math.log(2), rel=1e-5)


def test_a_discriminator_gets_gradients_only_from_its_class() -> None:
    torch.manual_seed(0)
    discriminators = ClasswiseDiscriminators(4, 2, 8).eval()
    embedding = torch.randn(6, 4)
    weight = torch.zeros(6, 2)
    weight[:, 0] = 1
    discriminators(embedding, weight, torch.arange(6) < 3).backward()
    gradients = [max(float(p.grad.abs().max()) for p in member.parameters()) for member in discriminators.members]
    assert gradients[0] > 0
    assert gradients[1] == 0


def test_covariance_distance_is_zero_for_equal_and_that_of_the_paper_for_scaled_clouds() -> None:
    x = torch.randn(50, 3)
    assert float(covariance_distance(x, x + 7)) == pytest.approx(0, abs=1e-6)
    expected = (torch.cov(x.T) * 3).square().sum() / 36
    assert float(covariance_distance(x, 2 * x)) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("size", [16, 32, 40])
def test_the_image_discriminator_accepts_any_box_size_and_treats_boxes_one_by_one(size: int) -> None:
    torch.manual_seed(1)
    discriminator, boxes = ImageDiscriminator(4), torch.randn(3, size, size, size)
    logits = discriminator(boxes)
    assert logits.shape == (3,)
    torch.testing.assert_close(discriminator(boxes[1:2]), logits[1:2], atol=1e-5, rtol=1e-4)

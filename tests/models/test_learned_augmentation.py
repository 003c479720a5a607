"""Learned augmentation: a deformation field and noise predicted for each subtomogram."""

import pytest
import torch

from tomosift.models.learned_augmentation import NoiseAndDeformation, deform


def test_a_field_of_one_voxel_shifts_a_box_by_one_voxel() -> None:
    box = torch.randn(1, 12, 12, 12)
    field = torch.zeros(1, 3, 12, 12, 12)
    torch.testing.assert_close(deform(box, field), box, atol=1e-5, rtol=0)
    field[:, 2] = 1  # along x
    torch.testing.assert_close(deform(box, field)[..., :-1], box[..., 1:], atol=1e-4, rtol=0)


def test_an_untrained_augmentation_is_the_identity_and_a_trained_one_stays_finite() -> None:
    torch.manual_seed(2)
    augmentation, boxes = NoiseAndDeformation(4, max_noise=0.5, max_deformation_voxels=1.0), torch.randn(2, 16, 16, 16)
    boxes = (boxes - boxes.mean(dim=(1, 2, 3), keepdim=True)) / boxes.std(dim=(1, 2, 3), keepdim=True, correction=0)
    generator = torch.Generator().manual_seed(0)
    torch.testing.assert_close(augmentation(boxes, generator), boxes, atol=1e-3, rtol=0)
    for decoder in (augmentation.noise, augmentation.bend):
        torch.nn.init.normal_(decoder.last.weight, std=100)
    augmented = augmentation(boxes, generator)
    assert not torch.allclose(augmented, boxes, atol=0.1)
    assert torch.isfinite(augmented).all()
    torch.testing.assert_close(augmented.mean(dim=(1, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)


def test_too_small_boxes_are_refused() -> None:
    with pytest.raises(ValueError, match="box size is 6 voxels, expected at least 8"):
        NoiseAndDeformation(4, 0.1, 1.0)(torch.randn(1, 6, 6, 6), torch.Generator())

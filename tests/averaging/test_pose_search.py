"""Pose search recovers rotations and shifts from the measured coefficients alone."""

import math

import pytest
import torch
from torch import Tensor

from tomosift.averaging.pose_search import Poses, average_aligned, place_in_boxes, search_poses
from tomosift.averaging.whitened_spectra import GRID, whiten_spectra
from tomosift.physics.rotation import random_rotations, rotate
from tomosift.physics.wedge import apply_mask, wedge_mask

TILTS = torch.tensor([[-60.0, 60.0]])


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(centers: list[list[float]], size: int = GRID) -> Tensor:
    """Three different balls, so that no two rotations give the same density."""
    axis = torch.arange(size) - size // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    scale = size / GRID
    density = torch.zeros(size, size, size)
    for weight, (a, b, c) in enumerate(centers, 1):
        squared = (z - a * scale) ** 2 + (y - b * scale) ** 2 + (x - c * scale) ** 2
        density += weight * torch.exp(-squared / (2 * (1.3 * scale) ** 2))
    return density


PARTICLE = blobs([[0, 0, 3], [0, 3, -1], [-2, -2, -2]])
OTHER = blobs([[0, 0, 1], [0, 1, 0], [1, 0, 0]])
ROTATIONS = random_rotations(1500, generator(0))


def image(density: Tensor, rotation: Tensor, shift: Tensor, snr: float, seed: int = 0) -> Tensor:
    """Image a density in poses: white noise and a missing wedge."""
    rotated = rotate(density.expand(len(rotation), -1, -1, -1), rotation, shift)
    strength = (rotated.var(dim=(1, 2, 3)) / snr).sqrt()[:, None, None, None]
    noise = torch.randn(rotated.shape, generator=generator(seed))
    return apply_mask(rotated + strength * noise, wedge_mask(density.shape[-1], TILTS))


def angle_deg(first: Tensor, second: Tensor) -> Tensor:
    trace = torch.einsum("bij,bij->b", first, second)
    return torch.rad2deg(torch.arccos(((trace - 1) / 2).clamp(-1, 1)))


def tilts(count: int) -> Tensor:
    return TILTS.expand(count, 2)


def test_poses_of_rotated_and_shifted_particles_are_found() -> None:
    true, shift = random_rotations(20, generator(3)), torch.tensor([[1.0, -1.0, 0.0]]).expand(20, 3)
    boxes = image(PARTICLE, true, shift, snr=2.0)
    poses = search_poses(PARTICLE, whiten_spectra(boxes, tilts(20)), ROTATIONS)
    # 1,500 random rotations leave some poses 25 degrees from the nearest one.
    assert angle_deg(poses.rotation[:, 0], true).median() < 20
    assert (poses.shift_zyx_grid_voxels[:, 0] - shift).norm(dim=1).median() <= 1
    assert (poses.posterior[:, 0] >= poses.posterior[:, -1]).all()
    torch.testing.assert_close(poses.posterior.sum(1), torch.ones(20))


def test_a_rotation_of_the_search_is_found_exactly_at_low_noise() -> None:
    chosen = torch.tensor([5, 700, 1499])
    boxes = image(PARTICLE, ROTATIONS[chosen], torch.zeros(3, 3), snr=10.0)
    poses = search_poses(PARTICLE, whiten_spectra(boxes, tilts(3)), ROTATIONS)
    torch.testing.assert_close(poses.rotation[:, 0], ROTATIONS[chosen])
    assert (poses.shift_zyx_grid_voxels[:, 0] == 0).all()


def test_the_log_likelihood_separates_particles_from_others_and_from_noise() -> None:
    true = random_rotations(12, generator(4))
    mine, others = (image(density, true, torch.zeros(12, 3), snr=0.3) for density in (PARTICLE, OTHER))
    noise = torch.randn(12, GRID, GRID, GRID, generator=generator(9))
    spectra = whiten_spectra(torch.cat([mine, others, noise]), tilts(36))
    first = search_poses(PARTICLE, spectra, ROTATIONS).log_likelihood
    second = search_poses(OTHER, spectra, ROTATIONS).log_likelihood
    assert (first[:12] > second[:12]).all()
    assert (first[12:24] < second[12:24]).all()
    assert first[24:].max() < first[:12].min()


def test_coefficients_that_were_not_measured_have_no_effect() -> None:
    true = random_rotations(8, generator(5))
    boxes = image(PARTICLE, true, torch.zeros(8, 3), snr=1.0)
    missing = 1 - wedge_mask(GRID, TILTS)
    junk = apply_mask(5 * torch.randn(8, GRID, GRID, GRID, generator=generator(6)), missing)
    # The soft ball mixes neighboring coefficients, so that a little of the junk reaches measured ones.
    poses = search_poses(PARTICLE, whiten_spectra(boxes + junk * boxes.std(), tilts(8)), ROTATIONS)
    assert angle_deg(poses.rotation[:, 0], true).median() < 20


def test_the_average_of_exact_poses_is_the_particle() -> None:
    fine, count = blobs([[0, 0, 3], [0, 3, -1], [-2, -2, -2]], 32), 60
    true, shift = random_rotations(count, generator(7)), torch.tensor([[1.0, -1.0, 0.0]]).expand(count, 3)
    boxes = image(fine, true, 2 * shift, snr=1.0)
    poses = Poses(true[:, None], shift[:, None], torch.ones(count, 1), torch.zeros(count))
    mean = average_aligned(boxes, tilts(count), poses)
    assert torch.corrcoef(torch.stack([mean.flatten(), fine.flatten()]))[0, 1] > 0.97


def test_poses_of_zero_posterior_do_not_change_the_average() -> None:
    fine = blobs([[0, 0, 3], [0, 3, -1], [-2, -2, -2]], 32)
    true, wrong = random_rotations(4, generator(7)), random_rotations(4, generator(8))
    boxes = image(fine, true, torch.zeros(4, 3), snr=1.0)
    alone = Poses(true[:, None], torch.zeros(4, 1, 3), torch.ones(4, 1), torch.zeros(4))
    both = Poses(
        torch.stack([true, wrong], 1), torch.zeros(4, 2, 3), torch.tensor([[1.0, 0.0]]).expand(4, 2), torch.zeros(4)
    )
    torch.testing.assert_close(average_aligned(boxes, tilts(4), both), average_aligned(boxes, tilts(4), alone))


def test_a_density_is_placed_in_its_pose() -> None:
    fine = blobs([[0, 0, 3], [0, 3, -1], [-2, -2, -2]], 32)
    true, shift = random_rotations(3, generator(2)), torch.tensor([[1.0, 0.0, -1.0]]).expand(3, 3)
    poses = Poses(true[:, None], shift[:, None], torch.ones(3, 1), torch.zeros(3))
    torch.testing.assert_close(place_in_boxes(fine, poses), rotate(fine.expand(3, -1, -1, -1), true, 2 * shift))


def test_one_subtomogram_and_none_are_accepted() -> None:
    boxes = image(PARTICLE, ROTATIONS[:1], torch.zeros(1, 3), snr=1.0)
    assert len(search_poses(PARTICLE, whiten_spectra(boxes, tilts(1)), ROTATIONS).log_likelihood) == 1
    empty = whiten_spectra(boxes, tilts(1)).select(torch.zeros(0, dtype=torch.int64))
    assert len(search_poses(PARTICLE, empty, ROTATIONS).log_likelihood) == 0


@pytest.mark.parametrize("cutoff", [4.0, 8.0])
def test_the_log_likelihood_of_noise_is_small(cutoff: float) -> None:
    noise = torch.randn(40, GRID, GRID, GRID, generator=generator(11))
    log_likelihood = search_poses(PARTICLE, whiten_spectra(noise, tilts(40)), ROTATIONS, cutoff).log_likelihood
    # A ratio of likelihoods, averaged over poses: the mean of its exponential under noise is about one.
    assert log_likelihood.mean() < math.log(2000)

"""Laws of finding poses: what was turned is found turned, by what was measured alone."""

import math

import pytest
import torch
from torch import Tensor

from tomosift.averaging.pose_search import (
    GRID,
    Poses,
    average_aligned,
    place_in_boxes,
    search_poses,
    whiten_spectra,
)
from tomosift.physics.rotation import random_rotations, rotate
from tomosift.physics.wedge import apply_mask, wedge_mask

TILTS = torch.tensor([[-60.0, 60.0]])


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(places: list[list[float]], size: int = GRID) -> Tensor:
    """Three unlike balls, so that no two rotations look alike."""
    axis = torch.arange(size) - size // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    scale = size / GRID
    made = torch.zeros(size, size, size)
    for weight, (a, b, c) in enumerate(places, 1):
        squared = (z - a * scale) ** 2 + (y - b * scale) ** 2 + (x - c * scale) ** 2
        made += weight * torch.exp(-squared / (2 * (1.3 * scale) ** 2))
    return made


PARTICLE = blobs([[0, 0, 3], [0, 3, -1], [-2, -2, -2]])
OTHER = blobs([[0, 0, 1], [0, 1, 0], [1, 0, 0]])
ROTATIONS = random_rotations(1500, generator(0))


def shown(density: Tensor, rotation: Tensor, shift: Tensor, snr: float, seed: int = 0) -> Tensor:
    """Boxes of a density within the tilts, with white noise."""
    turned = rotate(density.expand(len(rotation), -1, -1, -1), rotation, shift)
    strength = (turned.var(dim=(1, 2, 3)) / snr).sqrt()[:, None, None, None]
    noise = torch.randn(turned.shape, generator=generator(seed))
    return apply_mask(turned + strength * noise, wedge_mask(density.shape[-1], TILTS))


def angle_deg(first: Tensor, second: Tensor) -> Tensor:
    trace = torch.einsum("bij,bij->b", first, second)
    return torch.rad2deg(torch.arccos(((trace - 1) / 2).clamp(-1, 1)))


def tilts(count: int) -> Tensor:
    return TILTS.expand(count, 2)


def test_turned_and_shifted_particles_are_found_where_they_are() -> None:
    true, shift = random_rotations(20, generator(3)), torch.tensor([[1.0, -1.0, 0.0]]).expand(20, 3)
    boxes = shown(PARTICLE, true, shift, snr=2.0)
    found = search_poses(PARTICLE, whiten_spectra(boxes, tilts(20)), ROTATIONS)
    # 1,500 random rotations leave some poses 25 degrees from the nearest one.
    assert angle_deg(found.rotation[:, 0], true).median() < 20
    assert (found.shift_zyx[:, 0] - shift).norm(dim=1).median() <= 1
    assert (found.share[:, 0] >= found.share[:, -1]).all()
    torch.testing.assert_close(found.share.sum(1), torch.ones(20))


def test_a_rotation_that_is_looked_for_is_found_exactly_at_low_noise() -> None:
    chosen = torch.tensor([5, 700, 1499])
    boxes = shown(PARTICLE, ROTATIONS[chosen], torch.zeros(3, 3), snr=10.0)
    found = search_poses(PARTICLE, whiten_spectra(boxes, tilts(3)), ROTATIONS)
    torch.testing.assert_close(found.rotation[:, 0], ROTATIONS[chosen])
    assert (found.shift_zyx[:, 0] == 0).all()


def test_evidence_tells_particles_from_others_and_from_noise() -> None:
    true = random_rotations(12, generator(4))
    mine, others = (shown(density, true, torch.zeros(12, 3), snr=0.3) for density in (PARTICLE, OTHER))
    noise = torch.randn(12, GRID, GRID, GRID, generator=generator(9))
    spectra = whiten_spectra(torch.cat([mine, others, noise]), tilts(36))
    first = search_poses(PARTICLE, spectra, ROTATIONS).evidence
    second = search_poses(OTHER, spectra, ROTATIONS).evidence
    assert (first[:12] > second[:12]).all()
    assert (first[12:24] < second[12:24]).all()
    assert first[24:].max() < first[:12].min()


def test_what_was_not_measured_counts_for_nothing() -> None:
    true = random_rotations(8, generator(5))
    boxes = shown(PARTICLE, true, torch.zeros(8, 3), snr=1.0)
    missing = 1 - wedge_mask(GRID, TILTS)
    junk = apply_mask(5 * torch.randn(8, GRID, GRID, GRID, generator=generator(6)), missing)
    # The soft ball about the box mixes neighboring coefficients, so that a little of the junk comes back in.
    found = search_poses(PARTICLE, whiten_spectra(boxes + junk * boxes.std(), tilts(8)), ROTATIONS)
    assert angle_deg(found.rotation[:, 0], true).median() < 20


def test_the_average_of_exact_poses_is_the_particle() -> None:
    fine, count = blobs([[0, 0, 3], [0, 3, -1], [-2, -2, -2]], 32), 60
    true, shift = random_rotations(count, generator(7)), torch.tensor([[1.0, -1.0, 0.0]]).expand(count, 3)
    boxes = shown(fine, true, 2 * shift, snr=1.0)
    poses = Poses(true[:, None], shift[:, None], torch.ones(count, 1), torch.zeros(count))
    mean = average_aligned(boxes, tilts(count), poses)
    assert torch.corrcoef(torch.stack([mean.flatten(), fine.flatten()]))[0, 1] > 0.97


def test_poses_without_a_share_change_no_average() -> None:
    fine = blobs([[0, 0, 3], [0, 3, -1], [-2, -2, -2]], 32)
    true, wrong = random_rotations(4, generator(7)), random_rotations(4, generator(8))
    boxes = shown(fine, true, torch.zeros(4, 3), snr=1.0)
    alone = Poses(true[:, None], torch.zeros(4, 1, 3), torch.ones(4, 1), torch.zeros(4))
    both = Poses(
        torch.stack([true, wrong], 1), torch.zeros(4, 2, 3), torch.tensor([[1.0, 0.0]]).expand(4, 2), torch.zeros(4)
    )
    torch.testing.assert_close(average_aligned(boxes, tilts(4), both), average_aligned(boxes, tilts(4), alone))


def test_a_density_is_laid_out_as_it_was_turned() -> None:
    fine = blobs([[0, 0, 3], [0, 3, -1], [-2, -2, -2]], 32)
    true, shift = random_rotations(3, generator(2)), torch.tensor([[1.0, 0.0, -1.0]]).expand(3, 3)
    poses = Poses(true[:, None], shift[:, None], torch.ones(3, 1), torch.zeros(3))
    torch.testing.assert_close(place_in_boxes(fine, poses), rotate(fine.expand(3, -1, -1, -1), true, 2 * shift))


def test_one_box_and_no_box() -> None:
    boxes = shown(PARTICLE, ROTATIONS[:1], torch.zeros(1, 3), snr=1.0)
    assert len(search_poses(PARTICLE, whiten_spectra(boxes, tilts(1)), ROTATIONS).evidence) == 1
    empty = whiten_spectra(boxes, tilts(1)).select(torch.zeros(0, dtype=torch.int64))
    assert len(search_poses(PARTICLE, empty, ROTATIONS).evidence) == 0


@pytest.mark.parametrize("cutoff", [4.0, 8.0])
def test_evidence_of_noise_is_small(cutoff: float) -> None:
    noise = torch.randn(40, GRID, GRID, GRID, generator=generator(11))
    evidence = search_poses(PARTICLE, whiten_spectra(noise, tilts(40)), ROTATIONS, cutoff).evidence
    # A ratio of likelihoods, averaged over poses: the mean of its exponential under noise is about one.
    assert evidence.mean() < math.log(2000)

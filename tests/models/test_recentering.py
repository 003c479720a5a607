"""Recentering: particles are found where they lie, and come to the center of their boxes."""

import pytest
import torch

from tomosift.models.recentering import (
    MAX_SHIFT,
    Recentering,
    center_candidates,
    estimate_picking_error,
    recenter,
)


def estimate_offsets(volume: torch.Tensor, picking_error: float = MAX_SHIFT) -> torch.Tensor:
    return Recentering(picking_error).estimate_offsets(volume)


def ball(size: int, center: tuple[int, ...], radius: float, hollow: bool = False) -> torch.Tensor:
    axis = torch.arange(size) - size // 2
    z, y, x = torch.meshgrid(*(axis - offset for offset in center), indexing="ij")
    distance = (z**2 + y**2 + x**2).float().sqrt()
    shell = (distance - radius).abs() < 1.2
    return (shell if hollow else distance < radius).float()


@pytest.mark.parametrize("size", [24, 31, 32, 40])
@pytest.mark.parametrize("hollow", [False, True])
@pytest.mark.parametrize("noise", [0.0, 1.5])
def test_centers_of_balls_and_shells_are_found(size: int, hollow: bool, noise: float) -> None:
    offsets = [(0, 0, 0), (3, -2, 5), (-5, 4, 0)]
    clean = torch.stack([ball(size, offset, size / 6, hollow) for offset in offsets])
    clean = clean / clean.std(dim=(1, 2, 3), keepdim=True)
    noisy = clean + noise * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    assert int((estimate_offsets(noisy) - torch.tensor(offsets)).abs().max()) <= 1


def test_the_center_of_a_ball_in_noise_is_found_to_a_voxel_or_two() -> None:
    generator = torch.Generator().manual_seed(0)
    offset = (6, -7, 3)
    clean = ball(32, offset, 5.0).expand(20, 32, 32, 32)
    noisy = clean + torch.randn(clean.shape, generator=generator)
    error = (estimate_offsets(noisy) - torch.tensor(offset)).float().norm(dim=1)
    assert float(error.median()) <= 1.5


def test_the_search_ends_at_a_quarter_of_the_box() -> None:
    far = ball(32, (12, 0, 0), 3.0)[None]
    assert int(estimate_offsets(far)[0].abs().max()) <= 8


def test_a_small_picking_error_favors_the_center_over_stronger_neighbors() -> None:
    pair = (ball(32, (0, 0, 0), 3.0) + 2 * ball(32, (8, 0, 0), 3.0))[None]
    assert int((estimate_offsets(pair)[0] - torch.tensor([8, 0, 0])).abs().max()) <= 1
    assert estimate_offsets(pair, 1 / 32).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("far", [1, 4])
@pytest.mark.parametrize("size", [24, 32])
def test_the_picking_error_of_a_set_is_estimated(far: int, size: int) -> None:
    generator = torch.Generator().manual_seed(far)
    offsets = [tuple(offset) for offset in torch.randint(-far, far + 1, (200, 3), generator=generator).tolist()]
    clean = torch.stack([ball(size, offset, size / 6) for offset in offsets])
    noisy = clean + 0.7 * torch.randn(clean.shape, generator=generator)
    error = float(torch.tensor(offsets).float().square().mean().sqrt())
    assert estimate_picking_error(noisy) * size == pytest.approx(error, rel=0.1, abs=0.35)


def test_offsets_of_a_batch_are_those_of_its_members() -> None:
    boxes = torch.randn(70, 16, 16, 16, generator=torch.Generator().manual_seed(3))
    assert torch.equal(estimate_offsets(boxes), torch.cat([estimate_offsets(box[None]) for box in boxes]))


def test_recentered_subtomograms_hold_the_particle_in_the_center_and_zeros_at_the_border() -> None:
    box = torch.ones(1, 16, 16, 16)
    box[0, 11, 5, 8] = 7.0
    moved = recenter(box, torch.tensor([[3, -3, 0]]))
    assert float(moved[0, 8, 8, 8]) == 7.0
    assert float(moved[0, 13:].abs().max()) == 0.0
    assert float(moved[0, :, :3].abs().max()) == 0.0
    assert torch.equal(recenter(box, torch.zeros(1, 3, dtype=torch.int64)), box)


def test_candidates_are_sorted_by_a_posterior_that_sums_to_one() -> None:
    boxes = torch.randn(5, 32, 32, 32, generator=torch.Generator().manual_seed(8))
    offsets, posterior = center_candidates(boxes, 1 / 8, 4)
    assert offsets.shape == (5, 4, 3)
    assert torch.equal(offsets[:, 0], estimate_offsets(boxes, 1 / 8))
    assert all(len({tuple(offset) for offset in candidates}) == 4 for candidates in offsets.tolist())
    assert bool((posterior.diff(dim=1) <= 0).all())
    torch.testing.assert_close(posterior.sum(1), torch.ones(5))

"""Particles are found where they were put."""

import pytest
import torch

from tomosift.models.recentering import (
    CenterCache,
    center_candidates,
    estimate_centers,
    estimate_picking_error,
    recenter,
)


def ball(size: int, center: tuple[int, ...], radius: float, hollow: bool = False) -> torch.Tensor:
    axis = torch.arange(size) - size // 2
    z, y, x = torch.meshgrid(*(axis - offset for offset in center), indexing="ij")
    distance = (z**2 + y**2 + x**2).float().sqrt()
    shell = (distance - radius).abs() < 1.2
    return (shell if hollow else distance < radius).float()


@pytest.mark.parametrize("size", [24, 31, 32, 40])
@pytest.mark.parametrize("hollow", [False, True])
@pytest.mark.parametrize("noise", [0.0, 1.5])
def test_balls_and_shells_are_found_where_they_are(size: int, hollow: bool, noise: float) -> None:
    places = [(0, 0, 0), (3, -2, 5), (-5, 4, 0)]
    boxes = torch.stack([ball(size, place, size / 6, hollow) for place in places])
    boxes = boxes / boxes.std(dim=(1, 2, 3), keepdim=True)
    noisy = boxes + noise * torch.randn(boxes.shape, generator=torch.Generator().manual_seed(1))
    assert int((estimate_centers(noisy) - torch.tensor(places)).abs().max()) <= 1


def test_a_ball_in_noise_is_found_to_a_voxel_or_two() -> None:
    generator = torch.Generator().manual_seed(0)
    place = (6, -7, 3)
    clean = ball(32, place, 5.0).expand(20, 32, 32, 32)
    noisy = clean + torch.randn(clean.shape, generator=generator)
    error = (estimate_centers(noisy) - torch.tensor(place)).float().norm(dim=1)
    assert float(error.median()) <= 1.5


def test_the_search_ends_at_a_quarter_of_the_box() -> None:
    far = ball(32, (12, 0, 0), 3.0)[None]
    assert int(estimate_centers(far)[0].abs().max()) <= 8


def test_expected_places_win_over_stronger_neighbors() -> None:
    pair = (ball(32, (0, 0, 0), 3.0) + 2 * ball(32, (8, 0, 0), 3.0))[None]
    assert int((estimate_centers(pair)[0] - torch.tensor([8, 0, 0])).abs().max()) <= 1
    assert estimate_centers(pair, spread=1 / 32).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("far", [1, 4])
@pytest.mark.parametrize("size", [24, 32])
def test_the_spread_of_picks_is_found(far: int, size: int) -> None:
    generator = torch.Generator().manual_seed(far)
    places = [tuple(place) for place in torch.randint(-far, far + 1, (200, 3), generator=generator).tolist()]
    clean = torch.stack([ball(size, place, size / 6) for place in places])
    noisy = clean + 0.7 * torch.randn(clean.shape, generator=generator)
    drawn = float(torch.tensor(places).float().square().mean().sqrt())
    assert estimate_picking_error(noisy) * size == pytest.approx(drawn, rel=0.1, abs=0.35)


def test_many_boxes_are_searched_as_one() -> None:
    boxes = torch.randn(70, 16, 16, 16, generator=torch.Generator().manual_seed(3))
    assert torch.equal(estimate_centers(boxes), torch.cat([estimate_centers(box[None]) for box in boxes]))


def test_recentered_boxes_hold_the_particle_in_the_middle_and_zeros_at_the_border() -> None:
    box = torch.ones(1, 16, 16, 16)
    box[0, 11, 5, 8] = 7.0
    moved = recenter(box, torch.tensor([[3, -3, 0]]))
    assert float(moved[0, 8, 8, 8]) == 7.0
    assert float(moved[0, 13:].abs().max()) == 0.0
    assert float(moved[0, :, :3].abs().max()) == 0.0
    assert torch.equal(recenter(box, torch.zeros(1, 3, dtype=torch.int64)), box)


def test_probable_centers_come_in_order_with_shares_that_sum_to_one_and_begin_with_the_most_probable() -> None:
    boxes = torch.randn(5, 32, 32, 32, generator=torch.Generator().manual_seed(8))
    offsets, share = center_candidates(boxes, 1 / 8, 4)
    assert offsets.shape == (5, 4, 3)
    assert torch.equal(offsets[:, 0], estimate_centers(boxes, 1 / 8))
    assert all(len({tuple(place) for place in box}) == 4 for box in offsets.tolist())
    assert bool((share.diff(dim=1) <= 0).all())
    torch.testing.assert_close(share.sum(1), torch.ones(5))


def test_each_box_of_a_set_is_looked_at_once() -> None:
    looked: list[int] = []

    def find(volume: torch.Tensor) -> torch.Tensor:
        looked.append(len(volume))
        return volume[:, :3, 0, 0].long()

    volume = torch.arange(6.0)[:, None, None, None].expand(6, 4, 4, 4)
    centers = CenterCache()
    first = centers.of(volume[:3], torch.tensor([7, 8, 9]), find)
    again = centers.of(volume[[2, 5, 0]], torch.tensor([9, 11, 7]), find)
    known = centers.of(volume[[1, 1]], torch.tensor([8, 8]), find)
    assert looked == [3, 1]
    assert first[:, 0].tolist() == [0, 1, 2]
    assert again[:, 0].tolist() == [2, 5, 0]
    assert known[:, 0].tolist() == [1, 1]
    assert known.dtype == torch.int64

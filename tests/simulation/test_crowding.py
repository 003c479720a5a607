"""Target and neighbors in one box: no overlap, right place, right pose."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tomosift.physics.rotation import random_rotations, rotate
from tomosift.simulation.crowding import PreparedTemplates, place_neighbors, prepare_templates, resize_about_center


def lopsided(size: int = 24) -> torch.Tensor:
    """Three blobs of different weight: no symmetry, band-limited."""
    axis = torch.arange(size) - size // 2.0
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    centers = (((-4, 0, 1), 1.0), ((3, 3, 0), 0.7), ((2, -3, -3), 0.5))
    return sum(
        (w * torch.exp(-((z - c[0]) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2) / (2 * 1.8**2)) for c, w in centers),
        torch.zeros(size, size, size),
    )


def prepared(largest_scale: float = 1.0) -> PreparedTemplates:
    return prepare_templates(torch.stack((lopsided(), lopsided().flip(0))), 10.0, largest_scale)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_placed_spheres_never_overlap(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    target, radius = 4 + 8 * torch.rand(6, generator=generator), 4 + 8 * torch.rand(6, count, generator=generator)
    offset, placed = place_neighbors(target, radius, generator)
    assert placed[:, 0].all()
    for row in range(6):
        spheres = [(torch.zeros(3), target[row])]
        spheres += [(offset[row, k], radius[row, k]) for k in range(count) if placed[row, k]]
        for first in range(len(spheres)):
            for second in range(first):
                distance = float((spheres[first][0] - spheres[second][0]).norm())
                assert distance >= float(spheres[first][1] + spheres[second][1]) - 1e-3


def test_four_neighbors_nearly_always_find_room() -> None:
    offset, placed = place_neighbors(torch.full((64,), 8.0), torch.full((64, 4), 8.0), torch.Generator().manual_seed(0))
    assert placed.float().mean() > 0.98
    assert (offset.norm(dim=-1)[placed] <= 16 + 2).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([27, 32]))
def test_rendering_equals_rotating_the_whole_box(seed: int, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rotation = random_rotations(2, generator)
    shift = 8 * torch.rand(2, 3, generator=generator) - 4
    label = torch.tensor([0, 1])
    ours = prepared().render(label, rotation, shift, size)
    whole = rotate(resize_about_center(torch.stack((lopsided(), lopsided().flip(0))), size), rotation, shift)
    assert float((ours - whole).norm() / whole.norm()) < 0.1
    assert float(ours.sum()) == pytest.approx(float(whole.sum()), rel=2e-2)


def test_whole_voxel_shift_moves_voxels_exactly() -> None:
    eye = torch.eye(3)[None]
    resting = prepared().render(torch.tensor([0]), eye, torch.zeros(1, 3), 32)
    moved = prepared().render(torch.tensor([0]), eye, torch.tensor([[3.0, -2.0, 5.0]]), 32)
    torch.testing.assert_close(moved, resting.roll((3, -2, 5), dims=(1, 2, 3)), atol=1e-6, rtol=0)


def test_magnified_molecule_keeps_its_shape_within_its_room() -> None:
    generator = torch.Generator().manual_seed(3)
    rotation = random_rotations(1, generator)
    scale = torch.tensor([1.3])
    ours = prepared(1.3).render(torch.tensor([0]), rotation, torch.zeros(1, 3), 40, scale=scale)
    whole = rotate(resize_about_center(lopsided()[None], 40), rotation, scale=scale)
    assert float((ours - whole).norm() / whole.norm()) < 0.1


def test_what_is_not_shown_or_far_away_leaves_the_box_empty() -> None:
    two, label = torch.eye(3).expand(2, 3, 3), torch.tensor([0, 1])
    shown = torch.tensor([False, True])
    far = torch.tensor([[0.0, 0.0, 0.0], [90.0, 0.0, 0.0]])
    assert prepared().render(label, two, far, 32, is_visible=shown).abs().max() == 0


@pytest.mark.parametrize(("size", "edge"), [(24, 31), (24, 16), (23, 32), (23, 11)])
def test_center_stays_center_when_boxes_are_cut_or_padded(size: int, edge: int) -> None:
    volume = torch.zeros(1, size, size, size)
    volume[0, size // 2, size // 2, size // 2] = 1
    assert resize_about_center(volume, edge)[0, edge // 2, edge // 2, edge // 2] == 1


def test_template_without_density_is_refused() -> None:
    with pytest.raises(ValueError, match="positive density"):
        prepare_templates(torch.zeros(1, 8, 8, 8), 10.0)

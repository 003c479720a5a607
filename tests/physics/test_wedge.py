"""Laws of the missing wedge."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tomosift.physics.rotation import random_rotations
from tomosift.physics.wedge import apply_mask, wedge_mask


def ranges(*pairs: tuple[float, float]) -> torch.Tensor:
    return torch.tensor(pairs, dtype=torch.float64)


def full_layout(mask: torch.Tensor) -> torch.Tensor:
    """The mask on the fftn layout, the missing half filled from mask(-k)."""
    size = mask.shape[-2]
    whole = torch.empty(*mask.shape[:-1], size, dtype=mask.dtype)
    half = size // 2 + 1
    whole[..., :half] = mask
    index = -torch.arange(size)
    for kx in range(half, size):
        whole[..., kx] = mask[..., size - kx].index_select(-2, index % size).index_select(-1, index % size)
    return whole


tilts = st.tuples(st.floats(-90, 90), st.floats(-90, 90)).map(lambda pair: (min(pair), max(pair)))


@settings(deadline=None, max_examples=40)
@given(tilts, st.integers(0, 99), st.sampled_from([8, 9]), st.booleans(), st.sampled_from([0.0, 2.0]))
def test_mask_is_hermitian_and_keeps_the_mean(
    tilt: tuple[float, float], seed: int, size: int, dual: bool, edge: float
) -> None:
    turn = random_rotations(1, torch.Generator().manual_seed(seed), dtype=torch.float64)
    mask = wedge_mask(size, ranges(tilt), turn, dual_axis=dual, edge_voxels=edge)
    assert mask.shape == (1, size, size, size // 2 + 1)
    whole = full_layout(mask)
    index = -torch.arange(size) % size
    opposite = whole.index_select(1, index).index_select(2, index).index_select(3, index)
    assert torch.equal(whole, opposite)
    assert mask[0, 0, 0, 0] == 1
    assert mask.min() >= 0
    assert mask.max() <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_range_is_all_ones_however_it_is_turned(dtype: torch.dtype) -> None:
    turn = random_rotations(5, torch.Generator().manual_seed(0), dtype=dtype)
    tilt = torch.tensor([[-90.0, 90.0]], dtype=dtype).expand(5, 2)
    for edge in (0.0, 1.0):
        assert bool((wedge_mask(32, tilt, turn, edge_voxels=edge) == 1).all())


@pytest.mark.parametrize("tilt", [(-60.0, 60.0), (-40.0, 55.0), (-30.0, 80.0), (10.0, 50.0)])
def test_wedge_keeps_the_stated_share_of_each_disc(tilt: tuple[float, float]) -> None:
    size = 129
    whole = torch.fft.fftshift(full_layout(wedge_mask(size, ranges(tilt))), dim=(1, 2, 3))[0]
    k = torch.arange(size) - size // 2
    disc = (k[:, None] ** 2 + k**2) <= (size // 2) ** 2
    for ky in (0, 40, size // 2, size - 1):
        share = whole[:, ky][disc].mean()
        assert abs(share - (tilt[1] - tilt[0]) / 180) < 0.01


def test_the_wedge_lies_around_the_beam_and_follows_the_sign_of_the_tilt() -> None:
    mask = wedge_mask(16, ranges((-10.0, 50.0)))[0]
    assert mask[4, 0, 0] == 0  # along z
    assert mask[0, 4, 0] == 1  # along the tilt axis y
    assert mask[0, 0, 4] == 1  # along x
    assert mask[4, 0, 4] == 1  # kz = +kx is tilt +45
    assert mask[-4, 0, 4] == 0


def test_each_tilt_of_the_range_is_measured() -> None:
    mask = wedge_mask(33, ranges((0.0, 0.0)))[0]
    assert bool((mask[0] == 1).all())
    assert bool((mask[1:, :, 1:] == 0).all())


def test_second_axis_fills_the_wedge_to_a_pyramid() -> None:
    single, dual = (wedge_mask(64, ranges((-60.0, 60.0)), dual_axis=flag)[0] for flag in (False, True))
    assert bool((dual >= single).all())
    assert dual[8, 8, 0] == 1
    assert single[8, 8, 0] == 0
    swapped = full_layout(dual[None])[0]
    assert torch.equal(swapped, swapped.transpose(1, 2))


def test_mask_turns_with_the_content() -> None:
    quarter_about_x = torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    turned = full_layout(wedge_mask(17, ranges((-50.0, 30.0)), quarter_about_x[None]))[0]
    plain = full_layout(wedge_mask(17, ranges((-50.0, 30.0))))[0]
    # mask'(k) = mask(R^T k): k = (kz, ky, kx) reads the plain mask at (-ky, kz, kx)
    index = torch.arange(17)
    kz, ky, kx = torch.meshgrid(index, index, index, indexing="ij")
    assert torch.equal(turned, plain[-ky % 17, kz, kx])


def test_soft_edge_only_adds_outside() -> None:
    hard, soft = (wedge_mask(32, ranges((-60.0, 60.0)), edge_voxels=edge)[0] for edge in (0.0, 3.0))
    assert bool((soft[hard == 1] == 1).all())
    assert 0 < soft[hard == 0].mean() < 0.6
    assert soft[12, 0, 0] == 0


def test_applying_a_hard_mask_twice_changes_nothing_more_and_splits_the_power() -> None:
    g = torch.Generator().manual_seed(0)
    for size in (8, 9):
        volume = torch.randn(3, size, size, size, generator=g, dtype=torch.float64)
        mask = wedge_mask(size, ranges((-60, 60), (-45, 50), (-70, 20)), random_rotations(3, g, dtype=torch.float64))
        kept = apply_mask(volume, mask)
        torch.testing.assert_close(apply_mask(kept, mask), kept)
        lost = apply_mask(volume, 1 - mask)
        torch.testing.assert_close(kept + lost, volume)
        power = (kept**2).sum() + (lost**2).sum()
        torch.testing.assert_close(power, (volume**2).sum())
        spectrum = torch.fft.fftn(kept, dim=(1, 2, 3)).abs() ** 2
        torch.testing.assert_close(spectrum.sum() / size**3, (kept**2).sum())


def test_a_batch_equals_one_by_one_and_leaves_its_arguments() -> None:
    tilt, turn = ranges((-60, 60), (-45, 50)), random_rotations(2, torch.Generator().manual_seed(1))
    before = tilt.clone(), turn.clone()
    together = wedge_mask(12, tilt, turn)
    assert torch.equal(together, torch.cat([wedge_mask(12, tilt[i : i + 1], turn[i : i + 1]) for i in range(2)]))
    assert torch.equal(tilt, before[0])
    assert torch.equal(turn, before[1])


def test_gradient_flows_through_the_mask() -> None:
    volume = torch.rand(1, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    mask = wedge_mask(4, ranges((-60.0, 60.0)))
    assert torch.autograd.gradcheck(lambda v: apply_mask(v, mask), (volume,))


@pytest.mark.parametrize("tilt", [(60.0, -60.0), (-100.0, 60.0)])
def test_impossible_tilt_ranges_are_refused(tilt: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="low <= high"):
        wedge_mask(8, ranges(tilt))

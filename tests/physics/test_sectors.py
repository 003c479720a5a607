"""Volumes taken apart by sectors of tilts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tomosift.physics.sectors import split_sectors


def boxes(n: int = 3, size: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, size, size, size, generator=torch.Generator().manual_seed(seed))


def overlap(volume: torch.Tensor, sector_deg: float, phase: float) -> torch.Tensor:
    """How much of each coefficient both sector volumes hold, as a share of the largest coefficient."""
    parts = split_sectors(volume, sector_deg, torch.full((len(volume),), phase))
    first, second = (torch.fft.rfftn(part, dim=(1, 2, 3)).abs() for part in parts)
    return torch.minimum(first, second) / torch.fft.rfftn(volume, dim=(1, 2, 3)).abs().max()


sectors, phases = st.floats(3.0, 45.0), st.floats(0.0, 0.999)


@settings(deadline=None, max_examples=25)
@given(size=st.sampled_from([8, 9, 16]), sector=sectors, phase=phases, seed=st.integers(0, 99))
def test_sectors_sum_to_the_box(size: int, sector: float, phase: float, seed: int) -> None:
    volume = boxes(2, size, seed)
    first, second = split_sectors(volume, sector, torch.full((2,), phase))
    assert torch.allclose(first + second, volume, atol=1e-5)


@settings(deadline=None, max_examples=25)
@given(size=st.sampled_from([9, 15, 17]), sector=sectors, phase=phases, seed=st.integers(0, 99))
def test_sectors_share_no_coefficient(size: int, sector: float, phase: float, seed: int) -> None:
    assert float(overlap(boxes(2, size, seed), sector, phase).max()) < 1e-4


def test_sectors_share_no_coefficient_of_even_boxes_either() -> None:
    assert float(overlap(boxes(2, 16), 9.0, 0.0).max()) < 1e-4


def test_sectors_of_even_boxes_share_nothing_below_nyquist() -> None:
    assert float(overlap(boxes(2, 16), 9.0, 0.0)[..., :-1].max()) < 1e-4


def test_noise_of_the_two_sector_volumes_is_uncorrelated_and_shared_about_evenly() -> None:
    volume = boxes(8, 24)
    first, second = split_sectors(volume, 9.0, torch.linspace(0, 0.9, 8))
    correlation = (first * second).mean() / (first.std() * second.std())
    assert abs(float(correlation)) < 0.02
    assert float(first.var() / volume.var()) == pytest.approx(0.5, abs=0.1)


def test_phase_moves_the_sectors() -> None:
    volume = boxes(1)
    parts = [split_sectors(volume, 20.0, torch.tensor([phase]))[0] for phase in (0.0, 0.25, 0.5)]
    assert float((parts[0] - parts[1]).abs().max()) > 0.1
    assert torch.allclose(parts[0] + parts[2], volume, atol=1e-5)  # half a period: the sectors are exchanged


def test_sectors_leave_their_argument_untouched() -> None:
    volume = boxes()
    copy = volume.clone()
    split_sectors(volume, 9.0, torch.zeros(3))
    assert torch.equal(volume, copy)

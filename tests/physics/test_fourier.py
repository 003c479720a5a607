"""Laws of the radial filters."""

import pytest
import torch

from tomosift.physics.fourier import (
    fourier_shell_indices,
    frequency_radius,
    low_pass,
    power_gain,
    squared_indices,
    variance,
)
from tomosift.physics.wedge import apply_mask


@pytest.mark.parametrize("size", [6, 7])
def test_frequencies_are_those_of_numpy(size: int) -> None:
    f = torch.fft.fftfreq(size, dtype=torch.float64)
    h = torch.fft.rfftfreq(size, dtype=torch.float64)
    expected = (f[:, None, None] ** 2 + f[:, None] ** 2 + h**2).sqrt()
    torch.testing.assert_close(frequency_radius(size, dtype=torch.float64), expected)
    assert torch.equal(fourier_shell_indices(size), (expected * size).round().long())
    assert squared_indices(size).max() == 3 * (size // 2) ** 2


@pytest.mark.parametrize("size", [8, 9])
def test_variance_of_a_spectrum_is_the_variance_of_its_volume(size: int) -> None:
    volume = torch.randn(3, size, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 5
    spectrum = torch.fft.rfftn(volume, dim=(1, 2, 3))
    torch.testing.assert_close(variance(spectrum), volume.var(dim=(1, 2, 3), correction=0))


@pytest.mark.parametrize("size", [8, 9])
def test_power_gain_is_the_mean_power_of_the_whole_spectrum(size: int) -> None:
    transfer = low_pass(size, torch.tensor([0.3, 0.8, 2.0], dtype=torch.float64))
    impulse = torch.zeros(3, size, size, size, dtype=torch.float64)
    impulse[:, 0, 0, 0] = 1
    whole = torch.fft.fftn(apply_mask(impulse, transfer), dim=(1, 2, 3)).abs() ** 2
    torch.testing.assert_close(power_gain(transfer), (whole.sum(dim=(1, 2, 3)) - 1) / size**3)


def test_low_pass_is_flat_then_falls_over_its_edge() -> None:
    mask = low_pass(32, torch.tensor([0.5]), edge_nyquist=0.125)[0]
    assert bool((mask[0, 0, :9] == 1).all())
    assert mask[0, 0, 9] == pytest.approx(0.5)
    assert bool((mask[0, 0, 10:] == 0).all())
    assert bool((low_pass(32, torch.tensor([2.0])) == 1).all())
    assert torch.equal(low_pass(32, torch.tensor([0.5]), 0.0)[0], (fourier_radius_below(32, 8)).float())


def fourier_radius_below(size: int, radius: int) -> torch.Tensor:
    return squared_indices(size) <= radius**2


def test_a_negative_edge_is_refused() -> None:
    with pytest.raises(ValueError, match="edge_nyquist"):
        low_pass(8, torch.tensor([0.5]), -1.0)

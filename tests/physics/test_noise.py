"""Noise is as strong as stated."""

import math

import pytest
import torch

from tomosift.physics.ctf import ctf_3d
from tomosift.physics.fourier import low_pass
from tomosift.physics.noise import detector_mtf, noise_at_snr, poisson_counts, white_noise
from tomosift.physics.rotation import random_rotations
from tomosift.physics.wedge import apply_mask, wedge_mask


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [16, 15])
def test_snr_is_as_stated_after_ctf_and_wedge(size: int, dtype: torch.dtype) -> None:
    n = 64
    g = generator(1)
    tilt = torch.tensor([[-60.0, 60.0]], dtype=dtype).expand(n, 2)
    mask = wedge_mask(size, tilt, random_rotations(n, g, dtype=dtype))
    transfer = mask * ctf_3d(size, 10.0, torch.linspace(2, 8, n, dtype=dtype), envelope_nyquist=0.4)
    signal = apply_mask(torch.rand(n, size, size, size, generator=g, dtype=dtype), transfer)
    snr = torch.logspace(-2, 1, n, dtype=dtype)
    noise = noise_at_snr(signal, snr, g, transfer)
    assert noise.dtype == dtype
    ratio = signal.var(dim=(1, 2, 3)) / noise.var(dim=(1, 2, 3)) / snr
    # few coefficients pass the envelope, so one box scatters by some 10 %
    assert abs(ratio.log().mean()) < 0.05
    assert ratio.log().std() < 0.25


def test_plain_white_noise_has_the_stated_snr() -> None:
    signal = torch.rand(8, 24, 24, 24, generator=generator(2))
    noise = noise_at_snr(signal, torch.full((8,), 0.1), generator(3))
    ratio = signal.var(dim=(1, 2, 3)) / noise.var(dim=(1, 2, 3))
    assert bool(((ratio / 0.1).log().abs() < 5 * math.sqrt(2 / 24**3)).all())


def test_noise_lies_where_the_transfer_lets_it_pass() -> None:
    signal = torch.rand(2, 16, 16, 16, generator=generator())
    band = low_pass(16, torch.tensor([0.4, 0.6]), 0.0)
    spectrum = torch.fft.rfftn(noise_at_snr(signal, torch.ones(2), generator(), band), dim=(1, 2, 3)).abs()
    assert spectrum[band == 0].max() < 1e-3 * spectrum.max()


def test_infinite_snr_adds_nothing_and_a_flat_signal_no_noise() -> None:
    signal = torch.rand(2, 8, 8, 8, generator=generator())
    signal[1] = 3.0
    noise = noise_at_snr(signal, torch.tensor([math.inf, 1.0]), generator())
    assert bool((noise == 0).all())


def test_a_shared_transfer_serves_the_whole_batch() -> None:
    signal = torch.rand(3, 8, 8, 8, generator=generator())
    band = low_pass(8, torch.tensor([0.5]))
    shared = noise_at_snr(signal, torch.ones(3), generator(4), band)
    assert torch.equal(shared, noise_at_snr(signal, torch.ones(3), generator(4), band.expand(3, -1, -1, -1)))


def test_white_noise_is_standard_normal_and_follows_its_generator() -> None:
    noise = white_noise((50, 1000), generator())
    assert abs(noise.mean()) < 5 / math.sqrt(noise.numel())
    assert abs(noise.var() - 1) < 5 * math.sqrt(2 / noise.numel())
    assert torch.equal(noise, white_noise((50, 1000), generator()))


def test_detector_mtf_is_one_at_zero_and_as_stated_at_nyquist() -> None:
    mtf = detector_mtf(16, torch.tensor([0.5, 1.0]))
    assert mtf[0, 0, 0, 0] == 1
    assert mtf[0, 0, 0, 8] == pytest.approx(0.5)
    assert bool((mtf[1] == 1).all())


def test_counts_have_the_mean_and_variance_of_poisson() -> None:
    intensity = torch.ones(2, 200, 200)
    counts = poisson_counts(intensity, torch.tensor([3.0, 0.5]), 2.0, generator())
    for image, expected in zip(counts, (12.0, 2.0), strict=True):
        assert abs(image.mean() - expected) < 5 * math.sqrt(expected / 40000)
        assert abs(image.var() / expected - 1) < 0.05
    assert bool((poisson_counts(-intensity, torch.tensor([3.0, 1.0]), 2.0, generator()) == 0).all())


def test_gradient_of_the_noise_follows_the_signal() -> None:
    signal = torch.rand(1, 3, 3, 3, generator=generator(), dtype=torch.float64, requires_grad=True)
    snr = torch.tensor([0.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: noise_at_snr(s, snr, generator(1)), (signal,))


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="positive ratios"):
        noise_at_snr(torch.zeros(1, 4, 4, 4), torch.zeros(1), generator())
    with pytest.raises(ValueError, match="positive pixel size"):
        poisson_counts(torch.ones(1, 2, 2), torch.ones(1), 0.0, generator())

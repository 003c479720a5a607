"""The CTF against its closed form and against torch-ctf's own two-dimensional one."""

import math

import numpy as np
import pytest
import torch
import torch_ctf
from scipy import constants

from tomosift.physics.ctf import ctf_2d, ctf_3d
from tomosift.physics.fourier import frequency_radius


def wavelength_angstrom(kv: float) -> float:
    volt = kv * 1e3 * constants.e
    rest = constants.m_e * constants.c**2
    return 1e10 * constants.h * constants.c / math.sqrt(volt * (volt + 2 * rest))


def closed_form(
    f: np.ndarray, defocus_um: np.ndarray, kv: float, cs_mm: float, contrast: float, shift_deg: float = 0.0
) -> np.ndarray:
    """Cycles per Angstrom; defocus positive for underfocus."""
    w = wavelength_angstrom(kv)
    chi = np.pi * w * defocus_um * 1e4 * f**2 - np.pi / 2 * cs_mm * 1e7 * w**3 * f**4
    return np.sin(chi + np.arcsin(contrast) + np.radians(shift_deg))


@pytest.mark.parametrize(("kv", "cs", "contrast", "shift"), [(300, 2.7, 0.07, 0), (200, 2, 0.1, 90), (300, 0, 0, 30)])
def test_image_ctf_equals_the_closed_form(kv: float, cs: float, contrast: float, shift: float) -> None:
    size_y, size_x, pixel = 30, 41, 2.5
    fy, fx = np.fft.fftfreq(size_y)[:, None] / pixel, np.fft.rfftfreq(size_x) / pixel
    direction = np.arctan2(fy, fx)
    defocus = 3.0 + 0.4 * np.cos(2 * (direction - np.radians(25.0)))
    expected = closed_form(np.hypot(fy, fx), defocus, kv, cs, contrast, shift)
    actual = ctf_2d(
        (size_y, size_x), pixel, torch.tensor([3.0], dtype=torch.float64), 0.4, 25.0, kv, cs, contrast, shift
    )
    np.testing.assert_allclose(actual[0], expected, atol=2e-5)


def test_image_ctf_agrees_with_torch_ctf() -> None:
    defocus, half, angle = torch.tensor([1.5, 4.0]), torch.tensor([0.1, 0.3]), torch.tensor([10.0, 70.0])
    expected = torch_ctf.calculate_ctf_2d(defocus, half, angle, 300.0, 2.7, 0.07, 0.0, 3.0, (64, 48), True, False)
    actual = ctf_2d((64, 48), 3.0, defocus, half, angle)
    torch.testing.assert_close(actual, expected, atol=5e-3, rtol=0)


def test_swapping_the_principal_defoci_is_a_quarter_turn() -> None:
    defocus = torch.tensor([2.0], dtype=torch.float64)
    torch.testing.assert_close(ctf_2d((16, 16), 4.0, defocus, -0.3, 20.0), ctf_2d((16, 16), 4.0, defocus, 0.3, 110.0))


@pytest.mark.parametrize("size", [16, 17])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_volume_ctf_equals_the_closed_form_in_every_direction(size: int, dtype: torch.dtype) -> None:
    f = frequency_radius(size, dtype=torch.float64).numpy() / 10.0
    actual = ctf_3d(size, 10.0, torch.tensor([5.0], dtype=dtype), 300.0, 2.0, 0.07)
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual[0], closed_form(f, np.array(5.0), 300, 2.0, 0.07), atol=1e-5)


def test_dense_objects_stay_positive_at_low_frequency() -> None:
    ctf = ctf_3d(32, 10.0, torch.tensor([1.0, 5.0]), amplitude_contrast=0.1)
    torch.testing.assert_close(ctf[:, 0, 0, 0], torch.tensor([0.1, 0.1]))
    assert bool((ctf[:, 0, 0, 1] > 0.1).all())  # underfocus adds phase contrast of the same sign


def test_envelopes_are_as_stated() -> None:
    defocus = torch.tensor([2.0], dtype=torch.float64)
    f = frequency_radius(16, dtype=torch.float64)
    plain = ctf_3d(16, 8.0, defocus)[0]
    torch.testing.assert_close(
        ctf_3d(16, 8.0, defocus, b_factor_angstrom2=500.0)[0], plain * torch.exp(-125 * (f / 8) ** 2)
    )
    torch.testing.assert_close(
        ctf_3d(16, 8.0, defocus, envelope_nyquist=0.4)[0], plain * torch.exp(-((f / 0.5 / 0.4) ** 2))
    )
    some = ctf_3d(16, 8.0, defocus.expand(2), envelope_nyquist=torch.tensor([0.0, 0.4]))
    torch.testing.assert_close(some[0], plain)


def test_a_batch_equals_one_by_one() -> None:
    defocus, spacing, kv = torch.tensor([2.0, 5.0]), torch.tensor([8.0, 13.3]), torch.tensor([200.0, 300.0])
    together = ctf_3d(12, spacing, defocus, kv)
    for i in range(2):
        torch.testing.assert_close(together[i : i + 1], ctf_3d(12, float(spacing[i]), defocus[i : i + 1], float(kv[i])))


def test_gradient_reaches_defocus_and_astigmatism() -> None:
    defocus = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    half = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d, a: ctf_2d((6, 5), 4.0, d, a), (defocus, half))
    assert torch.autograd.gradcheck(lambda d: ctf_3d(5, 4.0, d), (defocus,))

import dataclasses

import numpy as np
import pytest
import torch

from tomosift.simulation.specimen import build_specimen
from tomosift.simulation.structures.membranes_and_gold import MembranesAndGold
from tomosift.simulation.tilt_series import (
    TiltSeriesSettings,
    box_variance,
    critical_exposure,
    plan_acquisition,
    record_tilt_series,
    snr_centers,
)

SPACING = 10.0
QUICK = TiltSeriesSettings(tilt_step_deg=6.0, dose_per_tilt_e_per_A2=6.0, snr_box_size=20)
EXACT = dataclasses.replace(QUICK, tilt_step_deg=2.0, snr=None, ctf=False, radiation_damage=False, dose_weighting=False)


def blob(width, size=20):
    axis = torch.arange(size).float() - size // 2
    square = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + 0.5 * axis[None, None, :] ** 2
    return 2 * torch.exp(-0.5 * square / width**2)


TEMPLATES = {"large": blob(2.2), "small": blob(1.4)}


@pytest.fixture(scope="module")
def crowd():
    counts = {"large": 8, "small": 12}
    return build_specimen(TEMPLATES, counts, (24, 80, 80), SPACING, rng=np.random.default_rng(5))


@pytest.fixture(scope="module")
def recorded(crowd):
    return record_tilt_series(crowd, QUICK, rng=np.random.default_rng(1))


def test_tilt_scheme_is_dose_symmetric():
    plan = plan_acquisition(TiltSeriesSettings(tilt_range_deg=(-9.0, 9.0)), np.random.default_rng(0))
    np.testing.assert_allclose(plan.tilt_angles_deg, [-9, -6, -3, 0, 3, 6, 9])
    np.testing.assert_allclose(plan.dose_e_per_A2, [18, 12, 6, 0, 3, 9, 15])


def test_every_image_has_its_own_defocus_about_the_mean():
    settings = TiltSeriesSettings(defocus_um=3.0, defocus_jitter_um=0.2, tilt_step_deg=0.1)
    defocus = plan_acquisition(settings, np.random.default_rng(0)).defocus_um
    assert defocus.mean() == pytest.approx(3.0, abs=0.02)
    assert defocus.std() == pytest.approx(0.2, rel=0.1)


def test_critical_exposure_is_that_of_grant_and_grigorieff():
    exposure = critical_exposure(torch.tensor([0.0, 0.05, 0.1]))
    assert torch.isinf(exposure[0])
    np.testing.assert_allclose(exposure[1:], [38.73, 14.13], rtol=1e-3)


@pytest.mark.parametrize("noise", ["gaussian", "poisson"])
@pytest.mark.parametrize("snr", [0.05, 1.0])
def test_snr_in_the_boxes_of_the_reconstruction_is_that_of_the_settings(crowd, noise, snr):
    tomogram = record_tilt_series(crowd, dataclasses.replace(QUICK, noise=noise, snr=snr), rng=np.random.default_rng(2))
    centers = crowd.particles.position_zyx_angstrom / SPACING
    noise_of_full = tomogram.full - tomogram.signal
    measured = box_variance(tomogram.signal, centers, 20) / box_variance(noise_of_full, centers, 20)
    assert measured == pytest.approx(snr, rel=0.1)
    assert tomogram.snr == pytest.approx(measured, rel=1e-3)


def test_box_variance_is_the_mean_of_the_variances_inside_the_boxes(crowd):
    centers = np.asarray([[12.0, 30.0, 30.0], [12.0, 50.0, 41.0]])
    expected = np.mean([crowd.density[2:22, 20:40, 20:40].var(), crowd.density[2:22, 40:60, 31:51].var()])
    assert box_variance(crowd.density, centers, 20) == pytest.approx(expected, rel=1e-5)


def test_halves_share_the_signal_have_independent_noise_and_average_to_the_full_tomogram(recorded):
    half1, half2 = recorded.halves
    np.testing.assert_allclose(0.5 * (half1 + half2), recorded.full, atol=1e-4 * recorded.full.std())
    noise1, noise2 = half1 - recorded.signal, half2 - recorded.signal
    assert abs(np.corrcoef(noise1.ravel(), noise2.ravel())[0, 1]) < 0.03
    full_noise = recorded.full - recorded.signal
    assert noise1.var() == pytest.approx(2 * full_noise.var(), rel=0.05)


def test_no_snr_means_no_noise(crowd):
    tomogram = record_tilt_series(crowd, dataclasses.replace(QUICK, snr=None), rng=np.random.default_rng(0))
    np.testing.assert_array_equal(tomogram.full, tomogram.signal)
    assert tomogram.snr == np.inf


def test_the_seed_decides_the_recording(crowd, recorded):
    again = record_tilt_series(crowd, QUICK, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(again.full, recorded.full)
    other = record_tilt_series(crowd, QUICK, rng=np.random.default_rng(3))
    assert np.abs(other.full - recorded.full).max() > 0


@pytest.mark.parametrize("correction", ["phase_flip", "wiener", "none"])
def test_protein_stays_brighter_than_the_ice(crowd, correction):
    settings = dataclasses.replace(QUICK, snr=None, ctf_correction=correction)
    signal = record_tilt_series(crowd, settings, rng=np.random.default_rng(0)).signal
    assert signal[crowd.instance_labels > 0].mean() > signal[crowd.class_labels == 0].mean()


def test_reconstruction_without_ctf_resembles_the_specimen_in_place(crowd):
    signal = record_tilt_series(crowd, EXACT, rng=np.random.default_rng(0)).signal
    aligned = np.corrcoef(signal.ravel(), crowd.density.ravel())[0, 1]
    assert aligned > 0.8
    for axis in range(3):
        for step in (-1, 1):
            moved = np.roll(signal, step, axis)
            assert np.corrcoef(moved.ravel(), crowd.density.ravel())[0, 1] < aligned


@pytest.mark.parametrize("tilt_range", [(-60.0, 60.0), (-40.0, 40.0), (-60.0, 30.0)])
def test_power_lies_inside_the_stated_tilt_range(tilt_range):
    cube = build_specimen(TEMPLATES, {"small": 25}, (64, 64, 64), SPACING, rng=np.random.default_rng(8))
    settings = dataclasses.replace(EXACT, tilt_range_deg=tilt_range, snr=1.0, noise_before_ctf=0.0)
    power = np.abs(np.fft.fftn(record_tilt_series(cube, settings, rng=np.random.default_rng(0)).noise[0])) ** 2
    kz, _, kx = np.meshgrid(*[np.fft.fftfreq(64)] * 3, indexing="ij")
    # A tilt of t fills the plane kz = kx tan t.
    angle = np.rad2deg(np.arctan(kz / np.where(kx == 0, np.inf, kx)))
    radius = np.hypot(kz, kx)
    ring = (radius > 0.1) & (radius < 0.4) & (kx != 0)
    low, high = tilt_range
    inside = ring & (angle > low + 5) & (angle < high - 5)
    outside = ring & ((angle < low - 8) | (angle > high + 8))
    assert power[outside].mean() < 0.05 * power[inside].mean()


def test_gold_does_not_enter_the_snr():
    gold = MembranesAndGold(gold_beads=1)
    specimen = build_specimen(
        TEMPLATES, {"small": 20}, (24, 80, 80), SPACING, rng=np.random.default_rng(1), membranes_and_gold=gold
    )
    assert 0 < len(snr_centers(specimen, 16)) < 20


def test_the_microscope_leaves_its_specimen_untouched(crowd):
    before = crowd.density.copy()
    record_tilt_series(crowd, QUICK, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(crowd.density, before)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tilt_range_deg": (60.0, -60.0)}, "tilt_range_deg is"),
        ({"snr": 0.0}, "snr is 0.0"),
        ({"tilt_step_deg": 0.0}, "tilt_step_deg is 0.0"),
        ({"noise_before_ctf": 1.5}, "noise_before_ctf is 1.5"),
    ],
)
def test_impossible_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        TiltSeriesSettings(**wrong)

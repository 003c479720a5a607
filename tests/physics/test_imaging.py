"""Laws of imaging: conditions are drawn as stated and applied in the stated order."""

import json
import math
from dataclasses import asdict, replace

import pytest
import torch

from tomosift.physics.ctf import ctf_3d
from tomosift.physics.imaging import ImagingParameters, ImagingRanges, image, image_parts, lab_protocol
from tomosift.physics.rotation import rotate, upsample
from tomosift.physics.wedge import apply_mask, wedge_mask

PLAIN = ImagingRanges(has_ctf=False, has_noise=False, has_wedge=False)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(n: int, size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    axis = torch.arange(size, dtype=dtype) - size // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    volume = torch.exp(-((z - 1) ** 2 + y**2 + x**2) / 6) + 0.6 * torch.exp(-(z**2 + (y + 3) ** 2 + (x - 2) ** 2) / 4)
    return volume.expand(n, size, size, size).clone()


def wide() -> ImagingRanges:
    return ImagingRanges(
        max_tilt_deg=(40.0, 70.0),
        tilt_center_deg=(-10.0, 10.0),
        snr=(0.01, 1.0),
        defocus_um=(2.0, 8.0),
        shift_voxels=(-2.0, 2.0),
        voxel_spacing_angstrom=(8.0, 14.0),
        cutoff_nyquist=(0.6, 2.0),
        envelope_nyquist=(0.4, 1.0),
        noise_before_ctf=(0.0, 1.0),
        scale=(0.9, 1.1),
    )


def test_ranges_fit_into_json() -> None:
    ranges = lab_protocol()
    stored = json.loads(json.dumps(asdict(ranges)))
    restored = {name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}
    assert ImagingRanges(**restored) == ranges


def test_sampled_conditions_stay_in_their_ranges() -> None:
    ranges = wide()
    p = ranges.sample(500, generator())
    for name in ("snr", "defocus_um", "voxel_spacing_angstrom", "cutoff_nyquist", "noise_before_ctf", "scale"):
        low, high = getattr(ranges, name)
        value = getattr(p, name)
        assert value.min() >= low - 1e-6
        assert value.max() <= high + 1e-6
        assert value.max() - value.min() > 0.9 * (high - low)
    assert abs(p.snr.log10().mean() + 1) < 0.1  # uniform in the logarithm
    assert p.shift_zyx_voxels.abs().max() <= 2
    half = (p.tilt_range_deg[:, 1] - p.tilt_range_deg[:, 0]) / 2
    assert half.min() >= 40 - 1e-4
    assert half.max() <= 70 + 1e-4


def test_fixing_one_range_leaves_the_other_draws() -> None:
    one, two = wide().sample(5, generator()), replace(wide(), snr=(0.1, 0.1)).sample(5, generator())
    assert torch.equal(one.defocus_um, two.defocus_um)
    assert torch.equal(one.rotation, two.rotation)
    assert bool((two.snr == 0.1).all())


def test_without_any_effect_imaging_is_the_pose() -> None:
    density = blobs(3, 16)
    p = replace(PLAIN, shift_voxels=(-2.0, 2.0), shifts_whole_voxels=True).sample(3, generator())
    assert torch.equal(p.shift_zyx_voxels, p.shift_zyx_voxels.round())
    expected = rotate(density, p.rotation, p.shift_zyx_voxels)
    torch.testing.assert_close(image(density, p, generator()), expected, atol=1e-5, rtol=0)


def test_infinite_snr_is_pose_then_ctf_then_wedge() -> None:
    density = blobs(3, 16, torch.float64)
    p = replace(wide(), has_noise=False, cutoff_nyquist=(2.0, 2.0)).sample(3, generator()).to(dtype=torch.float64)
    posed = rotate(density, p.rotation, p.shift_zyx_voxels, p.scale)
    ctf = ctf_3d(16, p.voxel_spacing_angstrom, p.defocus_um, envelope_nyquist=p.envelope_nyquist)
    expected = apply_mask(apply_mask(posed, ctf), wedge_mask(16, p.tilt_range_deg))
    torch.testing.assert_close(image(density, p, generator()), expected)


@pytest.mark.parametrize("size", [16, 17])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_snr_is_as_stated(size: int, dtype: torch.dtype, share: float) -> None:
    n = 48
    ranges = replace(wide(), noise_before_ctf=(share, share))
    p = ranges.sample(n, generator(1))
    parts = image_parts(blobs(n, size, dtype), p, generator(2))
    assert parts.volume.dtype == dtype
    ratio = parts.signal.var(dim=(1, 2, 3)) / parts.noise[:, 0].var(dim=(1, 2, 3)) / p.snr
    assert abs(ratio.log().mean()) < 0.06


def test_two_views_share_the_signal_and_split_the_noise() -> None:
    n = 32
    p = ImagingRanges().sample(n, generator(3))
    parts = image_parts(blobs(n, 16), p, generator(4), views=2)
    each = parts.noise.var(dim=(2, 3, 4))
    together = parts.noise.mean(1).var(dim=(1, 2, 3))
    assert abs((each / together[:, None]).log().mean() - math.log(2)) < 0.05
    flat = parts.noise.flatten(2)
    cosine = torch.nn.functional.cosine_similarity(flat[:, 0], flat[:, 1])
    assert abs(cosine.mean()) < 0.03
    ratio = parts.signal.var(dim=(1, 2, 3)) / together / p.snr
    assert abs(ratio.log().mean()) < 0.05
    torch.testing.assert_close(parts.views.mean(1), parts.volume, atol=1e-5, rtol=1e-4)


def test_one_view_equals_the_plain_image() -> None:
    p = wide().sample(3, generator())
    parts = image_parts(blobs(3, 12), p, generator(7))
    torch.testing.assert_close(parts.volume, image(blobs(3, 12), p, generator(7)), atol=1e-5, rtol=1e-4)


def test_nothing_is_left_in_the_missing_wedge() -> None:
    p = wide().sample(4, generator())
    parts = image_parts(blobs(4, 16, torch.float64), p, generator())
    spectrum = torch.fft.rfftn(parts.volume, dim=(1, 2, 3)).abs()
    assert spectrum[parts.mask == 0].max() < 1e-10 * spectrum.max()


def test_early_noise_carries_the_ctf_and_late_noise_does_not() -> None:
    n = 64
    base = replace(PLAIN, has_ctf=True, has_noise=True, noise_cutoff_nyquist=(2.0, 2.0), amplitude_contrast=(0.0, 0.0))
    power = []
    for share in (1.0, 0.0):
        p = replace(base, noise_before_ctf=(share, share)).sample(n, generator())
        noise = image_parts(blobs(n, 16), p, generator(1)).noise[:, 0]
        power.append((torch.fft.rfftn(noise, dim=(1, 2, 3)).abs() ** 2).mean(0))
    ctf = ctf_3d(16, 10.0, torch.tensor([5.0]), amplitude_contrast=0.0)[0]
    weak, strong = ctf.abs() < 0.1, ctf.abs() > 0.9
    assert power[0][weak].mean() < 0.05 * power[0][strong].mean()
    assert power[1][weak].mean() == pytest.approx(power[1][strong].mean().item(), rel=0.1)


def test_a_batch_equals_one_by_one_and_leaves_its_arguments() -> None:
    density = blobs(3, 12)
    p = replace(wide(), has_noise=False).sample(3, generator())
    before = density.clone(), p.rotation.clone()
    together = image(density, p, generator())
    single = [image(density[i : i + 1], p.select(slice(i, i + 1)), generator()) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(single), atol=1e-5, rtol=1e-4)
    assert torch.equal(density, before[0])
    assert torch.equal(p.rotation, before[1])


def test_the_same_seed_gives_the_same_image_and_another_another() -> None:
    p = ImagingRanges().sample(2, generator())
    assert torch.equal(image(blobs(2, 12), p, generator(1)), image(blobs(2, 12), p, generator(1)))
    assert not torch.equal(image(blobs(2, 12), p, generator(1)), image(blobs(2, 12), p, generator(2)))


def test_a_finer_source_gives_the_same_image() -> None:
    density, p = blobs(2, 16), replace(wide(), has_noise=False).sample(2, generator())
    plain, fine = image(density, p, generator()), image(upsample(density, 2), p, generator(), upsampling=2)
    assert fine.shape == plain.shape
    assert (fine - plain).norm() < 0.2 * plain.norm()


def test_gradient_flows_to_the_density_with_and_without_noise() -> None:
    density = blobs(1, 4, torch.float64).requires_grad_()
    for ranges in (replace(wide(), has_noise=False), wide()):
        p = ranges.sample(1, generator(1)).to(dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda d, p=p: image(d, p, generator(2)), (density,))


def test_an_empty_box_stays_empty() -> None:
    volume = image(torch.zeros(2, 8, 8, 8), ImagingRanges().sample(2, generator()), generator())
    assert bool((volume == 0).all())


def test_the_lab_protocol_is_the_published_one() -> None:
    p: ImagingParameters = lab_protocol().sample(50, generator())
    assert bool((p.tilt_range_deg == torch.tensor([-60.0, 60.0])).all())
    assert p.shift_zyx_voxels.abs().max() == 8
    assert torch.equal(p.shift_zyx_voxels, p.shift_zyx_voxels.round())
    assert float(p.spherical_aberration_mm[0]) == 2.0
    assert len(p) == 50


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tilt_deg": (70.0, 60.0)},
        {"max_tilt_deg": (60.0, 100.0)},
        {"snr": (0.0, 1.0)},
        {"snr": (0.1, math.inf)},
        {"noise_before_ctf": (0.0, 1.5)},
        {"rotation_max_deg": 190.0},
        {"scale": (0.0, 1.0)},
    ],
)
def test_impossible_ranges_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ImagingRanges(**wrong)  # type: ignore[arg-type]


def test_conditions_of_another_number_of_particles_are_refused() -> None:
    p = ImagingRanges().sample(2, generator())
    with pytest.raises(ValueError, match="one each"):
        image(torch.zeros(3, 8, 8, 8), p, generator())
    with pytest.raises(ValueError, match="views"):
        image_parts(torch.zeros(2, 8, 8, 8), p, generator(), views=0)

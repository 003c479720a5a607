"""Laws of views: what each setting does, that it can be switched off, and that no view leaves the measured wedge."""

from dataclasses import fields, replace
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tomosift.physics.augmentation import ABLATION_GROUPS, NO_VIEWS, ViewRanges, normalize, view
from tomosift.physics.rotation import quaternions_to_matrices, rotate
from tomosift.physics.wedge import apply_mask, wedge_mask

ON: dict[str, dict[str, object]] = {
    "rotation": {"rotation_max_deg": 180.0},
    "shift": {"shift_voxels": 3.0},
    "scale": {"scale": (1.2, 1.3)},
    "wedge": {"impose_wedge": True},
    "ctf": {"defocus_probability": 1.0},
    "noise": {"noise_std": (0.5, 1.0)},
    "low-pass": {"low_pass_sigma_voxels": (1.0, 2.0)},
    "intensity": {"gain": (1.5, 2.0), "log_gamma": (0.3, 0.5)},
    "masking": {"hidden_cubes": 2, "swapped_cubes": 2},
    "elastic": {"elastic_voxels": 2.0},
}
"""Settings that switch one group on, strongly."""

EVERYTHING = replace(NO_VIEWS, **{name: value for on in ON.values() for name, value in on.items()})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def boxes(count: int = 3, size: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, size, size, size, generator=generator(seed))


def tilts(count: int = 3, low: float = -60.0, high: float = 60.0) -> torch.Tensor:
    return torch.tensor([[low, high]]).repeat(count, 1)


def draw_view(
    ranges: ViewRanges, volume: torch.Tensor, tilt: torch.Tensor | None = None, seed: int = 1
) -> torch.Tensor:
    drawn = generator(seed)
    tilt = tilts(len(volume)) if tilt is None else tilt
    return view(volume, tilt, ranges.sample(len(volume), drawn), 10.0)


def test_normalized_boxes_have_zero_mean_and_unit_variance_and_constant_ones_are_zero() -> None:
    volume = torch.cat([boxes(2) * 7 + 3, torch.full((1, 16, 16, 16), 4.0)])
    result = normalize(volume)
    assert torch.allclose(result.mean((1, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(result[:2].var((1, 2, 3), correction=0), torch.ones(2), atol=1e-4)
    assert float(result[2].abs().max()) == 0.0


@pytest.mark.parametrize("size", [16, 17])
def test_ranges_without_width_give_back_the_normalized_box(size: int) -> None:
    volume = boxes(size=size) * 3 + 1
    assert torch.allclose(draw_view(NO_VIEWS, volume), normalize(volume), atol=1e-4)


def test_every_setting_belongs_to_a_group_that_can_be_switched_off() -> None:
    off = {name for group in ABLATION_GROUPS.values() for name in group}
    others = {"defocus_um", "mirror"}  # the range of a switch that is off, and what is off by default
    assert {field.name for field in fields(ViewRanges)} == off | others
    assert ViewRanges().mirror is False
    assert ON.keys() == ABLATION_GROUPS.keys()


@pytest.mark.parametrize("group", ABLATION_GROUPS)
def test_a_group_alone_changes_the_box_and_switched_off_does_not(group: str) -> None:
    volume = boxes()
    alone = replace(NO_VIEWS, **ON[group])
    assert float((draw_view(alone, volume) - normalize(volume)).abs().max()) > 0.05
    off = replace(alone, **ABLATION_GROUPS[group])
    assert torch.allclose(draw_view(off, volume), normalize(volume), atol=1e-4)


@pytest.mark.parametrize("group", ABLATION_GROUPS)
def test_switching_off_one_group_of_many_changes_the_view(group: str) -> None:
    volume = boxes()
    without = replace(EVERYTHING, **ABLATION_GROUPS[group])
    assert float((draw_view(EVERYTHING, volume) - draw_view(without, volume)).abs().max()) > 0.05


def test_rotation_of_a_view_is_the_one_that_was_drawn() -> None:
    volume = normalize(boxes())
    ranges = replace(NO_VIEWS, rotation_max_deg=180.0)
    parameters = ranges.sample(3, generator(4))
    expected = normalize(rotate(volume, parameters.rotation))
    assert torch.allclose(view(volume, tilts(), parameters, 10.0), expected, atol=1e-5)


QUARTER_TURNS = [
    [[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]],
    [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]],
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]],
]


@pytest.mark.parametrize("low", [-60.0, -20.0])
def test_rotating_the_wedge_equals_rotating_the_volume_and_back(low: float) -> None:
    size = 17
    volume = torch.zeros(3, size, size, size)
    volume[:, 4:-4, 4:-4, 4:-4] = boxes(3, size - 8)  # so far inside that no shift moves anything over the border
    ranges = replace(NO_VIEWS, impose_wedge=True, low_pass_sigma_voxels=(0.5, 1.0), defocus_probability=1.0)
    drawn = replace(
        ranges.sample(3, generator()),
        rotation=torch.tensor(QUARTER_TURNS),
        shift_zyx_voxels=torch.tensor([[1.0, 0.0, 0.0], [0.0, -2.0, 1.0], [1.0, 2.0, -1.0]]),
    )
    tilt = tilts(3, low, 60.0)
    turned = view(volume, tilt, drawn, 10.0)
    stayed = view(volume, tilt, drawn, 10.0, "wedge")
    assert not torch.allclose(stayed, turned, atol=0.1)
    assert torch.allclose(rotate(stayed, drawn.rotation), turned, atol=1e-4)


@pytest.mark.parametrize("size", [16, 17])
def test_wedge_turned_views_belong_to_real_boxes_and_move_by_parts_of_a_voxel(size: int) -> None:
    volume = torch.zeros(1, size, size, size)
    volume[:, 5:-5, 5:-5, 5:-5] = 1.0
    ranges = replace(NO_VIEWS, shift_voxels=0.4, low_pass_sigma_voxels=(1.5, 1.5))
    drawn = ranges.sample(1, generator(3))
    still = view(volume, tilts(1), replace(drawn, shift_zyx_voxels=torch.zeros(1, 3)), 10.0, "wedge")
    moved = view(volume, tilts(1), drawn, 10.0, "wedge")

    def center_of_mass(box: torch.Tensor) -> torch.Tensor:
        density = box[0] - box[0, 0, 0, 0]
        axes = torch.meshgrid(*[torch.arange(float(size))] * 3, indexing="ij")
        return torch.stack([(density * axis).sum() for axis in axes]) / density.sum()

    assert torch.allclose(center_of_mass(moved) - center_of_mass(still), drawn.shift_zyx_voxels[0], atol=2e-2)


@pytest.mark.parametrize("group", ["scale", "elastic"])
def test_scale_and_elastic_deformation_rotate_the_volume_in_any_case(group: str) -> None:
    volume, ranges = boxes(), replace(NO_VIEWS, impose_wedge=True, rotation_max_deg=180.0, **ON[group])
    drawn = ranges.sample(3, generator())
    box, wedge = (view(volume, tilts(), drawn, 10.0, turns) for turns in ("box", "wedge"))
    assert torch.equal(box, wedge)


@settings(deadline=None, max_examples=25)
@given(
    low=st.floats(-80, -20),
    high=st.floats(20, 80),
    seed=st.integers(0, 1000),
    size=st.sampled_from([12, 15, 16]),
    noise=st.sampled_from([(0.0, 0.0), (1.0, 2.0)]),
)
def test_no_power_lies_outside_the_wedge_of_the_tomogram_frame(
    low: float, high: float, seed: int, size: int, noise: tuple[float, float]
) -> None:
    ranges = replace(EVERYTHING, log_gamma=(0.0, 0.0), noise_std=noise)
    tilt = tilts(2, low, high)
    result = draw_view(ranges, boxes(2, size, seed), tilt, seed)
    outside = apply_mask(result, 1 - wedge_mask(size, tilt))
    assert float(outside.square().sum()) < 1e-8 * float(result.square().sum())


def test_wedge_is_that_of_each_particles_own_tilt_range() -> None:
    tilt = torch.tensor([[-60.0, 60.0], [-40.0, 40.0], [-90.0, 90.0]])
    result = draw_view(ViewRanges(noise_std=(1.0, 1.0)), boxes(), tilt)
    spectrum = torch.fft.rfftn(result, dim=(1, 2, 3)).abs()
    share = (spectrum > 1e-3).float().mean((1, 2, 3))
    assert share[1] < share[0] < share[2]
    assert share[2] > 0.99


def test_without_imposing_the_wedge_a_turned_box_shows_its_old_one() -> None:
    size, tilt = 17, tilts(1, -45.0, 45.0)
    half = 0.5**0.5
    about_y = quaternions_to_matrices(torch.tensor([[half, 0.0, half, 0.0]]))
    volume = apply_mask(boxes(1, size), wedge_mask(size, tilt))
    parameters = replace(replace(NO_VIEWS, rotation_max_deg=0.0).sample(1, generator()), rotation=about_y)
    kept = view(volume, tilt, replace(parameters, impose_wedge=False), 10.0)
    imposed = view(volume, tilt, replace(parameters, impose_wedge=True), 10.0)
    outside = 1 - wedge_mask(size, tilt)
    assert float(apply_mask(kept, outside).square().sum()) > 0.5 * float(kept.square().sum())
    assert float(apply_mask(imposed, outside).square().sum()) < 1e-8 * float(imposed.square().sum())


def test_strength_of_the_noise_is_in_units_of_the_box() -> None:
    smooth = normalize(torch.exp(-(torch.linspace(-2, 2, 24) ** 2)).expand(1, 24, 24, 24).clone())
    result = draw_view(replace(NO_VIEWS, noise_std=(0.5, 0.5)), smooth)
    correlation = float((result * smooth).mean())
    assert correlation == pytest.approx(1 / (1 + 0.25) ** 0.5, abs=0.02)


def test_gain_scales_and_contrast_curve_keeps_the_sign() -> None:
    volume = boxes()
    louder = draw_view(replace(NO_VIEWS, gain=(2.0, 2.0)), volume)
    assert torch.allclose(louder, 2 * normalize(volume), atol=1e-4)
    curved = draw_view(replace(NO_VIEWS, log_gamma=(0.4, 0.4)), volume)
    strong = normalize(volume).abs() > 0.5
    assert bool((curved.sign() == normalize(volume).sign())[strong].all())


def test_hidden_and_swapped_cubes_change_no_more_voxels_than_they_have() -> None:
    volume = normalize(boxes(1))
    hidden = draw_view(replace(NO_VIEWS, hidden_cubes=1), volume)
    scale = float((hidden.std() / volume.std()) ** -1)
    assert int((hidden[0] * scale - volume[0]).abs().gt(0.2).sum()) <= 4**3
    swapped = draw_view(replace(NO_VIEWS, swapped_cubes=2), volume)
    assert torch.allclose(swapped.flatten().sort().values, volume.flatten().sort().values, atol=1e-4)
    assert 0 < int((swapped - volume).abs().gt(1e-3).sum()) <= 2 * 2 * 2**3


def test_mirroring_keeps_the_center_and_turns_the_hand_of_half_of_the_views() -> None:
    for size in (16, 17):
        volume = torch.zeros(200, size, size, size)
        volume[:, size // 2, size // 2, size // 2 + 3] = 1.0
        result = draw_view(replace(NO_VIEWS, mirror=True), volume, tilts(200))
        mirrored = result[:, size // 2, size // 2, size // 2 - 3] > 1
        kept = result[:, size // 2, size // 2, size // 2 + 3] > 1
        assert bool((mirrored ^ kept).all())
        assert 60 < int(mirrored.sum()) < 140


def test_drawn_values_lie_in_their_ranges() -> None:
    ranges = replace(EVERYTHING, rotation_max_deg=30.0)
    drawn = ranges.sample(500, generator())
    angle = ((drawn.rotation.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1).acos()
    assert float(torch.rad2deg(angle.max())) <= 30.01
    assert float(drawn.shift_zyx_voxels.abs().max()) <= 3.0
    for values, (low, high) in (
        (drawn.scale, ranges.scale),
        (drawn.defocus_um, ranges.defocus_um),
        (drawn.noise_std, ranges.noise_std),
        (drawn.gamma.log(), ranges.log_gamma),
    ):
        assert low - 1e-5 <= float(values.min()) < float(values.max()) <= high + 1e-5


def test_share_of_views_with_an_extra_transfer_function_is_the_requested_one() -> None:
    drawn = replace(NO_VIEWS, defocus_probability=0.3).sample(4000, generator())
    assert float(drawn.defocus_um.isfinite().float().mean()) == pytest.approx(0.3, abs=0.03)


def test_same_generator_gives_the_same_view_and_another_another() -> None:
    volume = boxes()
    assert torch.equal(draw_view(EVERYTHING, volume, seed=3), draw_view(EVERYTHING, volume, seed=3))
    assert not torch.allclose(draw_view(EVERYTHING, volume, seed=3), draw_view(EVERYTHING, volume, seed=4), atol=0.1)


def test_global_random_numbers_play_no_part() -> None:
    volume = boxes()
    torch.manual_seed(1)
    one = draw_view(EVERYTHING, volume)
    torch.manual_seed(2)
    assert torch.equal(one, draw_view(EVERYTHING, volume))


def test_views_of_a_batch_equal_those_one_by_one() -> None:
    volume, tilt = boxes(), torch.tensor([[-60.0, 60.0], [-40.0, 50.0], [-70.0, 70.0]])
    drawn = replace(EVERYTHING, noise_std=(0.0, 0.0)).sample(3, generator())
    together = view(volume, tilt, drawn, 10.0)
    for k in range(3):
        row = {
            field.name: value[k : k + 1]
            for field in fields(drawn)
            if isinstance(value := getattr(drawn, field.name), torch.Tensor)
        }
        alone = view(volume[k : k + 1], tilt[k : k + 1], replace(drawn, **row), 10.0)
        assert torch.allclose(together[k : k + 1], alone, atol=1e-4)


@pytest.mark.parametrize("turns", ["box", "wedge"])
@pytest.mark.parametrize("ranges", [replace(EVERYTHING, mirror=True), replace(NO_VIEWS, noise_std=(1.0, 1.0))])
def test_arguments_are_untouched(ranges: ViewRanges, turns: Literal["box", "wedge"]) -> None:
    volume, tilt = boxes().transpose(1, 3), tilts()
    drawn = ranges.sample(3, generator())
    tensors = [volume, tilt, *(v for f in fields(drawn) if isinstance(v := getattr(drawn, f.name), torch.Tensor))]
    copies = [t.clone() for t in tensors]
    view(volume, tilt, drawn, 10.0, turns)
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(tensors, copies, strict=True))


def test_a_blur_alone_is_the_blur_that_goes_with_a_filter() -> None:
    """A tilt range that misses nothing sends the same boxes through Fourier space."""
    ranges = replace(NO_VIEWS, low_pass_sigma_voxels=(0.3, 2.0), rotation_max_deg=180.0)
    parameters = ranges.sample(3, generator())
    alone = view(boxes(), tilts(), parameters, 10.0)
    filtered = view(boxes(), tilts(3, -90.0, 90.0), replace(parameters, impose_wedge=True), 10.0)
    torch.testing.assert_close(alone, filtered, atol=1e-5, rtol=0)


@pytest.mark.parametrize("turns", ["box", "wedge"])
def test_views_are_the_same_in_whatever_batch_and_by_however_many_threads(turns: Literal["box", "wedge"]) -> None:
    parameters = replace(ViewRanges(), noise_std=(0.1, 0.5), log_gamma=(-0.2, 0.2)).sample(100, generator())
    volume, tilt = boxes(100), tilts(100)
    expected = view(volume, tilt, parameters, 10.0, turns)
    for part in (slice(0, 61), slice(61, 100)):
        found = view(volume[part], tilt[part], parameters.select(part), 10.0, turns)
        torch.testing.assert_close(found, expected[part], atol=1e-3, rtol=0)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        torch.testing.assert_close(view(volume, tilt, parameters, 10.0, turns), expected, atol=1e-3, rtol=0)
    finally:
        torch.set_num_threads(before)


def test_zeros_stay_zeros_under_a_contrast_curve() -> None:
    volume = normalize(boxes()) * (boxes(seed=1) > 0)
    parameters = replace(NO_VIEWS, log_gamma=(0.5, 0.5)).sample(3, generator())
    expected = volume.sign() * volume.abs() ** parameters.gamma[:, None, None, None]
    torch.testing.assert_close(view(volume, tilts(), parameters, 10.0), normalize(expected), atol=1e-5, rtol=0)

"""Style transfer without a trained network, and how faithful a transfer is to its density maps."""

from dataclasses import replace

import pytest
import torch

from tomosift.data.subtomogram_set import Subtomograms
from tomosift.physics.augmentation import normalize
from tomosift.physics.fourier import mean_power
from tomosift.physics.imaging import ImagingRanges, lab_protocol
from tomosift.simulation.style_baselines import STYLES, fit_style, sample_volumes
from tomosift.simulation.style_transfer import MAP_RANGES, StyleTransfer, match_tilt_ranges, measure_faithfulness
from tomosift.simulation.subtomograms import SubtomogramSetConfig, simulate_subtomograms
from tomosift.simulation.synthetic_stream import StructureStream

CLASSES = ("ribosome-70s", "apoferritin", "proteasome-20s")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Subtomograms:
    """Narrow tilts, a hard low-pass."""
    ranges = replace(lab_protocol(), cutoff_nyquist=(0.3, 0.3), max_tilt_deg=(40.0, 40.0), shift_voxels=(-1.0, 1.0))
    config = SubtomogramSetConfig(CLASSES, 20, 20, ranges, 16.0, max_neighbors=0, seed=2)
    return simulate_subtomograms(config, tmp_path_factory.mktemp("styles") / "set")


def transfer(style: StyleTransfer, target: Subtomograms, count: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    config = SubtomogramSetConfig(CLASSES, 1, target.box_size, style.ranges, 16.0, max_neighbors=0, seed=9)
    plain = StructureStream(config, count).batch(0)
    return plain.volume, style(plain.volume, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", STYLES)
def test_every_style_gives_normalized_boxes_and_the_same_ones_again(name: str, target: Subtomograms) -> None:
    style = fit_style(name, target, target)
    _, made = transfer(style, target)
    assert made.shape == (24, 20, 20, 20)
    assert torch.isfinite(made).all()
    torch.testing.assert_close(made.var(dim=(1, 2, 3), correction=0), torch.ones(24), atol=1e-3, rtol=0)
    assert torch.equal(made, transfer(style, target)[1])


def test_power_is_that_of_the_target_and_phases_stay(target: Subtomograms) -> None:
    plain, made = transfer(fit_style("power", target), target, 48)
    wanted = mean_power(sample_volumes(target))
    strong = wanted > 0.02 * wanted.max()
    ratio = (mean_power(made) / wanted)[strong].log().abs()
    before_ratio = (mean_power(plain) / wanted)[strong].log().abs()
    assert float(ratio.median()) < 0.2 < float(before_ratio.median())
    before, after = (torch.fft.rfftn(boxes, dim=(-3, -2, -1)) for boxes in (plain, made))
    turned = (after * before.conj())[:, strong].angle().abs()
    assert float(turned[turned.isfinite()].median()) < 1e-3


def test_histogram_takes_the_values_of_the_target_and_keeps_ranks(target: Subtomograms) -> None:
    plain, made = transfer(fit_style("histogram", target), target)
    wanted = torch.stack([box.flatten().sort().values for box in sample_volumes(target)]).mean(dim=0)
    found = made[0].flatten().sort().values
    torch.testing.assert_close(found, normalize(wanted.reshape(1, 20, 20, 20)).flatten(), atol=1e-3, rtol=0)
    assert torch.equal(made[0].flatten().argsort(), plain[0].flatten().argsort())


def test_noise_is_that_of_empty_boxes(target: Subtomograms) -> None:
    style = fit_style("noise", target, target)
    assert not style.ranges.has_noise
    assert style.ranges.max_tilt_deg == (40.0, 40.0)
    plain, made = transfer(style, target)
    alike = (made * normalize(plain)).mean(dim=(1, 2, 3))
    assert 0.1 < float(alike.median()) < 0.5  # the root of an SNR of 0.02 to 0.2, over what both together have


def test_textures_come_nearer_to_the_target_s(target: Subtomograms) -> None:
    style = fit_style("texture", target)
    plain, made = transfer(style, target, 8)

    def distance(boxes: torch.Tensor) -> float:
        pairs = zip(style._gram_matrices(boxes), style._target, strict=True)  # type: ignore[attr-defined]
        return sum(float((gram.mean(dim=0) - target_gram).norm() / target_gram.norm()) for gram, target_gram in pairs)

    assert distance(made) < 0.7 * distance(plain)


def test_what_a_style_lacks_is_one_sentence(target: Subtomograms) -> None:
    with pytest.raises(ValueError, match="style is 'oil', expected one of plain"):
        fit_style("oil", target)
    with pytest.raises(ValueError, match="style noise needs subtomograms from empty positions"):
        fit_style("noise", target)
    with pytest.raises(ValueError, match="is empty, expected at least one subtomogram"):
        fit_style("power", target.empty())


def test_tilt_ranges_are_those_of_the_boxes(target: Subtomograms) -> None:
    ranges = match_tilt_ranges(target, ImagingRanges())
    assert (ranges.max_tilt_deg, ranges.tilt_center_deg) == ((40.0, 40.0), (0.0, 0.0))


class _Same:
    ranges = MAP_RANGES

    def __call__(self, volume: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return normalize(volume + volume.std() * 3 * torch.randn(volume.shape, generator=generator))


class _MadeUp:
    """Boxes of one particle whatever the map is."""

    ranges = MAP_RANGES

    def __call__(self, volume: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return normalize(volume[:1].expand(volume.shape) + torch.randn(volume.shape, generator=generator))


def test_a_translation_of_its_map_scores_higher_than_one_of_another_map() -> None:
    config = SubtomogramSetConfig(CLASSES, 1, 24, MAP_RANGES, 16.0, seed=4)
    honest, false = measure_faithfulness(config, _Same()), measure_faithfulness(config, _MadeUp())
    assert honest.class_kept > 0.95
    assert honest.density_kept > 0.9 > honest.density_elsewhere + 0.1
    assert false.class_kept < 0.3
    assert false.density_kept == pytest.approx(false.density_elsewhere, abs=0.03)
    assert honest == measure_faithfulness(config, _Same())

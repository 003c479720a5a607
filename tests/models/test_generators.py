"""Generators of subtomograms with another appearance, their critics and their files."""

from pathlib import Path

import pytest
import torch

from tomosift.errors import FormatError
from tomosift.models.generator_files import GeneratorCard, TrainedGenerator, load_generator, save_generator
from tomosift.models.generators import Critic, Generator, GeneratorConfig, gradient_penalty
from tomosift.physics.augmentation import normalize
from tomosift.physics.fourier import mean_power
from tomosift.physics.imaging import ImagingRanges
from tomosift.physics.wedge import apply_mask, wedge_mask

SMALL = GeneratorConfig(width=2, blocks=1)
CARD = GeneratorCard(SMALL, 16, 10.0, ImagingRanges(has_noise=False))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def boxes() -> torch.Tensor:
    return normalize(torch.randn(4, 16, 16, 16, generator=seeded(5)))


@pytest.mark.parametrize("is_direct", [True, False])
@pytest.mark.parametrize("size", [16, 20, 32])
def test_generated_subtomograms_have_the_box_size_zero_mean_and_unit_variance(is_direct: bool, size: int) -> None:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(2, 1, is_direct=is_direct), size)
    output = generator(torch.randn(2, size, size, size), seeded()).detach()
    assert output.shape == (2, size, size, size)
    torch.testing.assert_close(output.mean(dim=(1, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(output.var(dim=(1, 2, 3), correction=0), torch.ones(2), atol=1e-4, rtol=0)


def test_only_the_noise_differs_between_two_draws_in_both_architectures(boxes: torch.Tensor) -> None:
    torch.manual_seed(0)
    for is_direct in (True, False):
        generator = Generator(GeneratorConfig(2, 1, is_direct=is_direct), 16)
        generator.match_spectrum(boxes, boxes, 0.5)
        first, again, other = (generator(boxes, seeded(seed)).detach() for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert float((first - other).abs().mean()) > 1e-3


def test_training_starts_from_the_spectrum_of_the_target_and_a_share_of_the_source() -> None:
    torch.manual_seed(0)
    drawn = torch.randn(64, 18, 16, 16, generator=seeded())
    target = normalize(drawn[:, :16] + drawn[:, 1:17] + drawn[:, 2:])  # correlated along z
    source = normalize(torch.randn(64, 16, 16, 16, generator=seeded(1)))
    generator = Generator(GeneratorConfig(2, 1), 16)
    assert torch.allclose(generator(source, seeded()).detach(), source, atol=1e-4)  # the identity
    generator.match_spectrum(target, source, 0.0)
    output = generator(source, seeded(3)).detach()
    assert float((output[:, 1:] * output[:, :-1]).mean()) == pytest.approx(2 / 3, abs=0.05)
    assert float((output[..., 1:] * output[..., :-1]).mean()) == pytest.approx(0, abs=0.05)
    generator.match_spectrum(target, source, 0.25)
    output = generator(source, seeded(3)).detach()
    ratio = mean_power(output) / mean_power(target)
    assert float(ratio.median()) == pytest.approx(1, abs=0.2)
    assert 0.3 < float((output * source).mean()) < 0.5  # the root of the share, less what is damped


def test_boxes_that_cannot_be_halved_twice_are_refused() -> None:
    for size in (18, 12):
        with pytest.raises(ValueError, match=f"box size is {size} voxels, expected 16 or more and a multiple of 4"):
            Generator(SMALL, size)


class _Plane(Critic):
    """A critic whose gradient is known: the sum over voxels times a number."""

    def __init__(self, slope: float) -> None:
        super().__init__(1)
        self.slope = torch.nn.Parameter(torch.tensor(slope))

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        return self.slope * volume.flatten(1).sum(dim=1)


def test_the_gradient_penalty_is_that_of_the_norm_over_all_voxels(boxes: torch.Tensor) -> None:
    length = 16**1.5
    for slope, target in ((1 / length, 0.0), (3 / length, 4.0)):
        penalty = gradient_penalty(_Plane(slope), boxes, boxes.flip(0), seeded())
        assert float(penalty.detach()) == pytest.approx(target, abs=1e-4)
    critic = Critic(2)
    gradient_penalty(critic, boxes, boxes.flip(0), seeded()).backward()
    assert all(p.grad is not None for name, p in critic.named_parameters() if name.endswith("0.weight"))


def test_coefficients_that_the_target_lacks_are_damped(boxes: torch.Tensor) -> None:
    torch.manual_seed(0)
    mask = wedge_mask(16, torch.tensor([[-50.0, 50.0]]))
    lacking = normalize(apply_mask(torch.randn(64, 16, 16, 16, generator=seeded()), mask))
    generator = Generator(SMALL, 16)
    generator.match_spectrum(lacking, boxes, 1.0)
    output = torch.fft.rfftn(generator(boxes, seeded()).detach(), dim=(-3, -2, -1)).abs()
    assert float(output[:, mask[0] == 0].mean()) < 0.01 * float(output[:, mask[0] == 1].mean())


def test_a_saved_generator_loads_as_it_was(boxes: torch.Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = Generator(SMALL, 16)
    generator.match_spectrum(boxes, boxes, 0.5)
    trained = TrainedGenerator(generator, CARD)
    save_generator(tmp_path, trained)
    before = torch.get_rng_state()
    loaded = load_generator(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert loaded.card == CARD
    assert torch.equal(loaded(boxes, seeded()), trained(boxes, seeded()))


def test_damaged_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="a finished run of `tomosift translate`"):
        load_generator(tmp_path)
    save_generator(tmp_path, TrainedGenerator(Generator(SMALL, 16), CARD))
    weights, card = tmp_path / "translator.safetensors", tmp_path / "translator.json"
    whole, text = weights.read_bytes(), card.read_text()
    weights.write_bytes(whole[:-4])
    with pytest.raises(FormatError, match="checksum"):
        load_generator(tmp_path)
    weights.write_bytes(whole)
    for damaged in ("[]", "{", text.replace('"width": 2', '"wide": 2'), text.replace('"snr"', '"snur"')):
        card.write_text(damaged)
        with pytest.raises(FormatError, match=r"not a card|no JSON"):
            load_generator(tmp_path)
    card.write_text(text.replace('"format": 1', '"format": 9'))
    with pytest.raises(FormatError, match="use the tomosift version that wrote it"):
        load_generator(tmp_path)
    card.write_text(text.replace('"width": 2', '"width": 4'))
    with pytest.raises(FormatError, match="those of this shape"):
        load_generator(tmp_path)

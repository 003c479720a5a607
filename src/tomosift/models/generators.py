"""Networks that give boxes of one kind the look of another, critics that judge them, and their files (CryoETGAN).

Source: the released code of CryoETGAN (generators and critics of a cycle-consistent GAN in three dimensions). Its shape
is `Shape(width=64, edge=7, is_direct=False)`; deviations from it are said where they are.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from tomosift.errors import FormatError
from tomosift.files import write_json, written_then_renamed
from tomosift.physics.augmentation import normalized
from tomosift.physics.fourier import fourier_shell_indices, low_pass, mean_power, power_gain
from tomosift.physics.imaging import ImagingRanges
from tomosift.physics.wedge import apply_mask

_CARD, _WEIGHTS, _FORMAT = "translator.json", "translator.safetensors", 1
_LEAST_EDGE = 16
_INITIAL_DEVIATION = 0.02
_MOST_GAIN = 3.0
_GAIN_SPEED = 10.0  # filters learn so much faster than the layers, of whose many small steps one is the sum


@dataclass(frozen=True)
class GeneratorConfig:
    """What a translator is built like."""

    width: int = 8
    """Channels at full size; twice as many below. 64 as published, for GPUs."""
    blocks: int = 6
    """Residual blocks where the box is a quarter of its size."""
    edge: int = 3
    """Of the first and last kernels, in voxels; 7 as published, which takes six times as long on a processor."""
    is_direct: bool = True
    """What the layers make is added to the box itself and noise with the mean spectrum of the boxes whose look is
    wanted, each through a filter of shells of Fourier space, and training starts from these; coefficients that those
    boxes lack are damped as they are there. Ours: in the published shape noise comes in at the bottleneck alone,
    everything passes through it, and the missing wedge is to be learned."""


class _Residual(nn.Module):
    """Two convolutions beside a way past them; without normalization, as published."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(channels, channels, 3, padding=1, padding_mode="reflect", bias=False)
        self.second = nn.Conv3d(channels, channels, 3, padding=1, padding_mode="reflect", bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(functional.relu(self.first(x)))  # type: ignore[no-any-return]


def _normalized_relu(channels: int) -> list[nn.Module]:
    return [nn.InstanceNorm3d(channels, affine=True), nn.ReLU()]


class Generator(nn.Module):
    """Boxes in, boxes of another look out, another one at every draw of the noise.

    Deviations: the result has mean 0 and variance 1 instead of passing a hyperbolic tangent, since boxes are so
    normalized; see `Shape.is_direct`.
    """

    color: Tensor
    measured: Tensor
    start: Tensor
    shell: Tensor

    def __init__(self, shape: GeneratorConfig, box_size: int) -> None:
        """A direct shape gives boxes as they are before training, unless `take_look` says otherwise.

        Raises
        ------
        ValueError
            When boxes are too small for two halvings and what comes after them.
        """
        super().__init__()
        if box_size < _LEAST_EDGE or box_size % 4:
            raise ValueError(
                f"box size is {box_size} voxels, expected {_LEAST_EDGE} or more and a multiple of 4 to be translated"
            )
        self.shape = shape
        for name in ("color", "measured"):
            self.register_buffer(name, torch.ones(box_size, box_size, box_size // 2 + 1))
        self.register_buffer("shell", fourier_shell_indices(box_size), persistent=False)
        shells = int(self.shell.max()) + 1
        self.register_buffer("start", torch.stack((torch.ones(shells), torch.zeros(shells))))
        if shape.is_direct:
            self.gains = nn.Parameter(torch.zeros(2, shells))
        w, edge = shape.width, shape.edge
        self.down = nn.Sequential(
            nn.Conv3d(1, w, edge, padding=edge // 2, padding_mode="reflect", bias=False),
            *_normalized_relu(w),
            nn.Conv3d(w, 2 * w, 3, stride=2, padding=1, bias=False),
            *_normalized_relu(2 * w),
            nn.Conv3d(2 * w, 2 * w, 3, stride=2, padding=1, bias=False),
            *_normalized_relu(2 * w),
            *(_Residual(2 * w) for _ in range(shape.blocks)),
        )
        self.up = nn.ModuleList([nn.ConvTranspose3d(4 * w, 2 * w, 3, 2, 1, bias=False), nn.Sequential()])
        self.up[1] = nn.ConvTranspose3d(2 * w, w, 3, 2, 1, bias=False)
        self.norms = nn.ModuleList([nn.Sequential(*_normalized_relu(c)) for c in (2 * w, w)])
        self.last = nn.Conv3d(w, 1, edge, padding=edge // 2, padding_mode="reflect", bias=False)
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.normal_(module.weight, 0.0, _INITIAL_DEVIATION)
        if shape.is_direct:
            nn.init.zeros_(self.last.weight)

    def take_look(self, wanted: Float[Tensor, "n d d d"], given: Float[Tensor, "m d d d"], signal_share: float) -> None:
        """Start from the mean spectrum of some boxes, ``wanted``: with this share of its power in every shell from the
        boxes that will be ``given``, and the rest from noise. What of a shell is missing in them is damped."""
        amplitude = mean_power(wanted).sqrt()
        self.color.copy_(amplitude / power_gain(amplitude[None]).sqrt())
        for number in range(self.start.shape[1]):
            mine = self.shell == number
            # What tilts reach is more than half of every shell, so its upper quarter is of measured coefficients.
            self.measured[mine] = (amplitude[mine] / amplitude[mine].quantile(0.75).clamp_min(1e-12)).clamp(max=1.0)
        had = mean_power(given).sqrt() * self.measured
        ratio = _shell_sums(amplitude**2, self.shell) / _shell_sums(had**2, self.shell).clamp_min(1e-12)
        # In outer shells, beyond the resolution of maps, noise alone is left to make up for them.
        self.start[0] = (signal_share * ratio).sqrt().clamp(max=_MOST_GAIN)
        self.start[1] = (1 - signal_share) ** 0.5

    def forward(self, volume: Float[Tensor, "b d d d"], generator: torch.Generator) -> Float[Tensor, "b d d d"]:
        """Translated boxes of mean 0 and variance 1."""

        def noise(like: Tensor) -> Tensor:
            drawn = torch.randn(like.shape, generator=generator, dtype=like.dtype, device=generator.device)
            return drawn.to(like.device)

        x = self.down(volume[:, None])
        x = torch.cat((x, noise(x)), dim=1)
        for layer, norm in zip(self.up, self.norms, strict=True):
            x = norm(layer(x, output_size=[2 * n for n in x.shape[2:]]))
        made = self.last(x)[:, 0]
        return normalized(self._direct(made, volume, noise(volume)) if self.shape.is_direct else made)

    def _direct(
        self, made: Float[Tensor, "b d d d"], volume: Float[Tensor, "b d d d"], noise: Float[Tensor, "b d d d"]
    ) -> Float[Tensor, "b d d d"]:
        axes = (-3, -2, -1)
        filters = (self.start * (1 + _GAIN_SPEED * self.gains))[:, self.shell]
        spectrum = torch.fft.rfftn(made, dim=axes) + filters[0] * torch.fft.rfftn(volume, dim=axes)
        spectrum = self.measured * spectrum + filters[1] * self.color * torch.fft.rfftn(noise, dim=axes)
        found: Tensor = torch.fft.irfftn(spectrum, s=volume.shape[1:], dim=axes)
        return found


def _shell_sums(power: Float[Tensor, "d d h"], shell: Int64[Tensor, "d d h"]) -> Float[Tensor, " s"]:
    sums = torch.zeros(int(shell.max()) + 1, dtype=power.dtype, device=power.device)
    return sums.index_add_(0, shell.flatten(), power.flatten())


class Critic(nn.Module):
    """Boxes to one score each, the mean over overlapping parts of the box.

    Source: as above, with width 64 and one halving more there. Deviation: scores of the parts are averaged here.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv3d(1, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for inputs in (width, 2 * width):
            layers += [nn.Conv3d(inputs, 2 * inputs, 4, stride=2, padding=1, bias=False)]
            layers += [nn.InstanceNorm3d(2 * inputs, affine=True), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv3d(4 * width, 1, 3, padding=1))

    def forward(self, volume: Float[Tensor, "b d d d"]) -> Float[Tensor, " b"]:
        return self.layers(volume[:, None]).mean(dim=(1, 2, 3, 4))  # type: ignore[no-any-return]


def gradient_penalty(
    critic: Critic, real: Float[Tensor, "b d d d"], made: Float[Tensor, "b d d d"], generator: torch.Generator
) -> Float[Tensor, ""]:
    """Mean squared distance from 1 of the length of the critic's slope between both, box by box.

    Source: Gulrajani et al. 2017, "Improved training of Wasserstein GANs", eq. 3. (The released code of CryoETGAN sums
    the square over one axis only, which is no length.)
    """
    share = torch.rand(len(real), 1, 1, 1, generator=generator, device=generator.device).to(real.device)
    between = (share * real + (1 - share) * made).detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    length: Tensor = slope.flatten(1).norm(dim=1)
    return (length - 1).square().mean()


@dataclass(frozen=True)
class GeneratorCard:
    """What a saved translator is, and for which boxes it was made."""

    shape: GeneratorConfig
    box_size: int
    voxel_spacing_angstrom: float
    ranges: ImagingRanges
    """How the maps are to be imaged that it is for; their tilt ranges are those of the boxes whose look it gives."""


class TrainedGenerator:
    """A trained translator and what it is for: maps to labeled boxes in an experimental look."""

    def __init__(self, translator: Generator, card: GeneratorCard) -> None:
        self.translator, self.card = translator.eval(), card

    @property
    def ranges(self) -> ImagingRanges:
        """How boxes are to be imaged before."""
        return self.card.ranges

    @torch.inference_mode()
    def __call__(self, volume: Float[Tensor, "b d d d"], generator: torch.Generator) -> Float[Tensor, "b d d d"]:
        """Boxes of mean 0 and variance 1 in the look that was learned."""
        return self.translator(normalized(volume), generator)  # type: ignore[no-any-return]


def low_pass_normalized(volume: Float[Tensor, "b d d d"], cutoff_nyquist: float) -> Float[Tensor, "b d d d"]:
    """The boxes below a share of Nyquist; mean 0 and variance 1 again."""
    cutoff = torch.tensor([cutoff_nyquist], device=volume.device)
    return normalized(apply_mask(volume, low_pass(volume.shape[-1], cutoff)))


def save_generator(folder: Path, translation: TrainedGenerator) -> None:
    """Write a translator and its card; the card comes last, so a folder with a card is whole."""
    weights = folder / _WEIGHTS
    with written_then_renamed(weights) as temporary:
        save_file({k: v.contiguous() for k, v in translation.translator.state_dict().items()}, temporary)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    write_json(folder / _CARD, {"format": _FORMAT, **asdict(translation.card), "sha256": digest})


def generator_digest(folder: Path) -> str:
    """Checksum of the weights of the translator in the folder of a run.

    Raises
    ------
    FormatError
        See `load_translation`.
    """
    return _read_card(folder / _CARD)[1]


def load_generator(folder: Path) -> TrainedGenerator:
    """A translator from the folder of a run.

    Raises
    ------
    FormatError
        When there is none, or its files are damaged or do not fit together.
    """
    card, digest = _read_card(folder / _CARD)
    weights = folder / _WEIGHTS
    if not weights.exists() or hashlib.sha256(weights.read_bytes()).hexdigest() != digest:
        raise FormatError(weights, "checksum", "not that of the card", "unchanged weights", "copy the folder again")
    with torch.random.fork_rng(devices=[]):
        translator = Generator(card.shape, card.box_size)
    try:
        translator.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise FormatError(weights, "weights", str(error).splitlines()[-1].strip(), "those of this shape") from None
    return TrainedGenerator(translator, card)


def _read_card(path: Path) -> tuple[GeneratorCard, str]:
    if not path.exists():
        raise FormatError(path, "file", "missing", "a finished run of `tomosift translate`", "check the folder")
    try:
        found = json.loads(path.read_text())
        number, digest = found["format"], str(found["sha256"])
        ranges: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in found["ranges"].items()}
        card = GeneratorCard(
            GeneratorConfig(**found["shape"]),
            int(found["box_size"]),
            float(found["voxel_spacing_angstrom"]),
            ImagingRanges(**ranges),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FormatError(path, "content", f"not a card ({error})", "JSON as tomosift writes it") from None
    if number != _FORMAT:
        raise FormatError(path, "format", str(number), str(_FORMAT), "use the tomosift version that wrote it")
    return card, digest

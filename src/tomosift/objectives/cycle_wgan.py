"""Cycle-consistent adversarial objective: two generators, maps to measured subtomograms and back, and their critics."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tomosift.data.batches import PairedBatch
from tomosift.models.generators import Critic, Generator, GeneratorConfig, gradient_penalty, low_pass_normalized

AdversarialLoss = Literal["wasserstein", "least-squares"]

_REAL = 0.8  # target of the least-squares loss for real subtomograms, as in the released code of CryoETGAN
_BETAS = (0.0, 0.9)  # Gulrajani et al. 2017: gradients of the critics change too fast for a longer memory
_DIVERSITY_MAPS = 4
_SWAP_PROBABILITY = 0.5


@dataclass(frozen=True)
class CycleGanSettings:
    """Loss terms of `CycleGanObjective`, their weights, and the size of the critics."""

    adversarial_loss: AdversarialLoss = "wasserstein"
    """A true Wasserstein loss, or the least-squares loss of the code that was released with the paper."""
    critic_width: int = 16
    """Channels of the critics after their first layer; 64 as published."""
    critic_steps: int = 2
    """Steps of the critics for each step of the generators."""
    penalty_weight: float = 10.0
    """Weight of the gradient penalty of the critics."""
    map_cycle_weight: float = 5.0
    """Weight of the distance of a map from its reconstruction; 100 as published. More preserves more of the map."""
    measured_cycle_weight: float = 5.0
    """Weight of the distance of a measured subtomogram from its reconstruction; 100 as published."""
    cycle_cutoff_nyquist: float = 0.25
    """Measured subtomograms are compared below this share of Nyquist; 2 compares everything, as published."""
    pool_size: int = 50
    """Generated subtomograms in the image pool of each critic, from which half of what a critic is shown comes."""
    ema_decay: float = 0.98
    """Share of the averaged weights, which are the result, that is kept at each step of the generators."""


class ImagePool(nn.Module):
    """Generated subtomograms of earlier steps, which critics are shown in place of half of the new ones.

    Source: Shrivastava et al. 2017, "Learning from simulated and unsupervised images through adversarial training".
    """

    volume: Tensor
    count: Tensor

    def __init__(self, size: int, box_size: int) -> None:
        super().__init__()
        self.register_buffer("volume", torch.zeros(size, *3 * (box_size,)))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def exchange(self, volume: Float[Tensor, "b d d d"], generator: torch.Generator) -> Float[Tensor, "b d d d"]:
        """Return each subtomogram or, once the pool is full, an older one whose place in the pool it takes."""
        result, size = volume.clone(), len(self.volume)
        for row, is_swapped in enumerate((torch.rand(len(volume), generator=generator) < _SWAP_PROBABILITY).tolist()):
            slot = int(torch.randint(size, (), generator=generator))
            if self.count < size:
                self.volume[int(self.count)] = volume[row]
                self.count += 1
            elif is_swapped:
                result[row] = self.volume[slot]
                self.volume[slot] = volume[row]
        return result


class CycleGanObjective(nn.Module):
    """Trains critics and generators in turn; the generator that is kept is a moving average of the weights.

    Parameters
    ----------
    generator
        Shape of both generators.
    box_size
        Of the subtomograms, in voxels.
    settings
        Loss terms and their weights.

    Notes
    -----
    Source: Wu et al. 2022, "CryoETGAN", Front. Physiol. 13:760404; Zhu et al. 2017, "Unpaired image-to-image
    translation using cycle-consistent adversarial networks". `tomosift.methods.cycle_wgan` lists the deviations.
    """

    step: Tensor

    def __init__(self, generator: GeneratorConfig, box_size: int, settings: CycleGanSettings) -> None:
        super().__init__()
        self.settings, self.is_direct = settings, generator.is_direct
        self.to_measured = Generator(generator, box_size)
        self.to_map = Generator(generator, box_size)
        self.averaged = Generator(generator, box_size).requires_grad_(False)
        self.measured_critic, self.map_critic = Critic(settings.critic_width), Critic(settings.critic_width)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.measured_pool = ImagePool(settings.pool_size, box_size)
        self.map_pool = ImagePool(settings.pool_size, box_size)

    def initialize(
        self, measured: Float[Tensor, "n d d d"], maps: Float[Tensor, "m d d d"], signal_share: float
    ) -> None:
        """Start a direct generator from the mean spectra of some measured subtomograms and some maps."""
        if self.is_direct:
            self.to_measured.match_spectrum(measured, maps, signal_share)
        self.averaged.load_state_dict(self.to_measured.state_dict())

    def parameter_groups(self, critic_rate: float, generator_share: float) -> list[dict[str, Any]]:
        """Return the parameters with their learning rates; that of generators is a share of that of the critics."""
        pairs = (
            (generator_share, (self.to_measured, self.to_map)),
            (1.0, (self.measured_critic, self.map_critic)),
        )
        return [
            {
                "params": [p for module in modules for p in module.parameters()],
                "lr": critic_rate * share,
                "betas": _BETAS,
            }
            for share, modules in pairs
        ]

    def forward(self, batch: PairedBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """The losses of a step of the critics or, every so many, of the generators; ``loss`` is minimized."""
        critic_steps = self.settings.critic_steps
        is_critic_step = int(self.step) % (critic_steps + 1) < critic_steps
        self.step += 1
        # Parameters of the other kind are left out of the graph, so that the optimizer passes them over.
        for critic in (self.measured_critic, self.map_critic):
            critic.requires_grad_(is_critic_step)
        maps, measured = batch.parts
        if is_critic_step:
            return self._critic_losses(maps.volume, measured.volume, generator)
        return self._generator_losses(maps.volume, measured.volume, generator)

    def _critic_losses(
        self, maps: Float[Tensor, "b d d d"], measured: Float[Tensor, "b d d d"], generator: torch.Generator
    ) -> dict[str, Tensor]:
        with torch.no_grad():
            generated = self.measured_pool.exchange(self.to_measured(maps, generator), generator)
            generated_maps = self.map_pool.exchange(self.to_map(measured, generator), generator)
        losses: dict[str, Tensor] = {}
        for name, critic, real, fake in (
            ("measured", self.measured_critic, measured, generated),
            ("map", self.map_critic, maps, generated_maps),
        ):
            real_score, fake_score = critic(real), critic(fake)
            if self.settings.adversarial_loss == "wasserstein":
                losses[f"{name}_critic"] = fake_score.mean() - real_score.mean()
            else:
                losses[f"{name}_critic"] = 0.5 * ((real_score - _REAL).square().mean() + fake_score.square().mean())
            losses[f"{name}_penalty"] = gradient_penalty(critic, real, fake, generator)
        loss = losses["measured_critic"] + losses["map_critic"]
        penalty = losses["measured_penalty"] + losses["map_penalty"]
        return {"loss": loss + self.settings.penalty_weight * penalty, **losses}

    def _generator_losses(
        self, maps: Float[Tensor, "b d d d"], measured: Float[Tensor, "b d d d"], generator: torch.Generator
    ) -> dict[str, Tensor]:
        settings, cutoff = self.settings, self.settings.cycle_cutoff_nyquist
        with torch.no_grad():
            some = maps[:_DIVERSITY_MAPS]
            first, second = (self.to_measured(some, generator) for _ in range(2))
            for average, weight in zip(self.averaged.parameters(), self.to_measured.parameters(), strict=True):
                average.lerp_(weight, 1 - settings.ema_decay)
        generated = self.to_measured(maps, generator)
        generated_maps = self.to_map(measured, generator)
        back = low_pass_normalized(self.to_measured(generated_maps, generator), cutoff)
        losses = {
            "generated": self._adversarial(self.measured_critic(generated)),
            "generated_maps": self._adversarial(self.map_critic(generated_maps)),
            "map_cycle": (self.to_map(generated, generator) - maps).abs().mean(),
            "measured_cycle": (back - low_pass_normalized(measured, cutoff)).abs().mean(),
        }
        cycles = settings.map_cycle_weight * losses["map_cycle"]
        cycles = cycles + settings.measured_cycle_weight * losses["measured_cycle"]
        return {
            "loss": losses["generated"] + losses["generated_maps"] + cycles,
            **losses,
            # Of two draws for one map: 0 where both are the same, 1 where they have nothing in common.
            "diversity": 0.5 * (first - second).square().mean(),
        }

    def _adversarial(self, score: Float[Tensor, " b"]) -> Float[Tensor, ""]:
        if self.settings.adversarial_loss == "wasserstein":
            return -score.mean()
        return (score - _REAL).square().mean()

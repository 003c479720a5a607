"""From density maps to boxes in an experimental look, and a classifier that learned from these (CryoETGAN).

Two translators, maps to measured boxes and back, and a critic of each kind: translated boxes are to be taken for
measured ones, and a map that goes there and back is to come back. Nothing is paired and no label of the target is used;
a translated map keeps the class of its map. Whether it really does is measured in the end, and a run whose boxes show
something else than their maps stops.

Source: Wu et al. 2022, "CryoETGAN: cryo-electron tomography image synthesis via unpaired image translation", Front.
Physiol. 13:760404, and its code. Deviations: a true Wasserstein loss with a penalty on the slope of every box is the
default, the least-squares one of the released code an option; two steps of the critics for one of the translators
(there one); maps are posed anew at every step; boxes are normalized each (there all together); the missing wedge of the
target is taken from its mean spectrum, not learned; a measured box that went there and back is compared below a cutoff,
since its noise cannot come back; moving averages of the weights are what is kept; some target boxes are held out, and
those that reach beyond their tomogram left out. All default values are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tomosift.data.batches import PairedBatch, PairedStream, PrefetchStream, UniformStream
from tomosift.data.subtomograms import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import GENERAL, Classifier, ModelCard, starting_encoder
from tomosift.inference.heads import LinearHead
from tomosift.inference.prediction import embed
from tomosift.learning.linear_probe import FEW_LABELS_REGULARIZATION, fit_linear_probe
from tomosift.models.encoder import BOXES_TO_PREPARE, Encoder
from tomosift.models.generators import (
    Critic,
    Generator,
    GeneratorCard,
    GeneratorConfig,
    TrainedGenerator,
    gradient_penalty,
    low_pass_normalized,
    save_generator,
)
from tomosift.simulate.maps import MAPS, Faithfulness, measure_faithfulness, with_tilt_ranges_of
from tomosift.simulate.subtomograms import SubtomogramSetConfig
from tomosift.simulate.synthetic_stream import StructureStream
from tomosift.train.loop import Progress, Training, fit
from tomosift.train.run import Run

USES_LABELS = False
SHARES_BATCHES = False

_READ_AHEAD = 2
_BETAS = (0.0, 0.9)  # Gulrajani et al. 2017: the critics' slopes turn around too fast for more memory
_REAL = 0.8  # what the least-squares form of the released code calls real
_HELD_OUT = 10  # one of so many target boxes is not trained on
_LEAST_BOXES = 20
_LESSONS = 60  # translated boxes of each class that the classifier learns from
_OTHER_MAPS = 2_000_003  # added to the seed, for maps that are not trained on
_DIVERSE = 4
_MAPS_LOOKED_AT = 64
_MOST_TO_LOOK_AT = 1000  # target boxes that similarity is taken from
_LOOKED_AT = 512  # target boxes, whose spectrum noise starts with

Adversary = Literal["wasserstein", "least-squares"]


@dataclass(frozen=True)
class Config:
    """Settings of translation from maps to measured boxes."""

    structures: tuple[str, ...] = ()
    """Names of the atlas, or structure or map files; their names become the classes."""
    init: Path | None = GENERAL
    """Model whose embeddings of translated boxes the classifier is fitted to; none for random weights."""
    encoder: str = "radial"
    """Encoder of random weights, where no model is named."""
    shape: GeneratorConfig = field(default_factory=GeneratorConfig)
    """Of both translators."""
    signal_share: float = 0.1
    """Of the power of translated boxes that is of their map, before training; of direct shapes."""
    translator_rate: float = 1.0
    """Learning rate of the translators, as a share of that of the critics."""
    critic_width: int = 16
    """Channels of the critics after their first layer; 64 as published."""
    adversary: Adversary = "wasserstein"
    """A true Wasserstein loss, or the one of the released code."""
    critic_steps: int = 2
    """Steps of the critics for each step of the translators."""
    penalty_weight: float = 10.0
    """Of the penalty on slopes of the critics."""
    map_cycle_weight: float = 5.0
    """Of the distance of a map from what came back of it; 100 as published."""
    measured_cycle_weight: float = 5.0
    """The same of measured boxes; 100 as published."""
    cycle_cutoff_nyquist: float = 0.25
    """Measured boxes are compared below this share of Nyquist; 2 compares everything, as published."""
    pool_size: int = 50
    """Made boxes that are remembered; half of what critics see is from there."""
    average: float = 0.98
    """Share of the kept weights that stays at each step of the translators."""
    least_faithful: float = 0.5
    """A run stops where less than this share of translated maps look most like their own class, chance taken off."""
    training: Training = field(
        default_factory=lambda: Training(steps=900, batch_size=8, learning_rate=2e-4, weight_decay=0.0)
    )
    """How long and how fast, counting steps of critics and of translators; a step has so many boxes of each kind."""


class Learner(nn.Module):
    """Both translators and critics, what critics remember, and the averaged translator that is kept."""

    turn: Tensor
    pool: Tensor
    pooled: Tensor

    def __init__(self, config: Config, box_size: int) -> None:
        super().__init__()
        self.config = config
        self.to_measured = Generator(config.shape, box_size)
        self.to_map = Generator(config.shape, box_size)
        self.kept = Generator(config.shape, box_size).requires_grad_(False)
        self.measured_critic, self.map_critic = Critic(config.critic_width), Critic(config.critic_width)
        self.register_buffer("turn", torch.zeros((), dtype=torch.int64))
        self.register_buffer("pool", torch.zeros(2, config.pool_size, *3 * (box_size,)))
        self.register_buffer("pooled", torch.zeros(2, dtype=torch.int64))

    def prepare(self, measured: Float[Tensor, "n d d d"], maps: Float[Tensor, "m d d d"]) -> None:
        """Look at some target boxes and maps before the first step."""
        if self.config.shape.is_direct:
            self.to_measured.take_look(measured, maps, self.config.signal_share)
        self.kept.load_state_dict(self.to_measured.state_dict())

    def forward(self, batch: PairedBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """The losses of a step of the critics or, every so many, of the translators; ``loss`` is descended."""
        is_critics = int(self.turn) % (self.config.critic_steps + 1) < self.config.critic_steps
        self.turn += 1
        # What another step descends is left out of the graph, so that the optimizer passes it over.
        for critic in (self.measured_critic, self.map_critic):
            critic.requires_grad_(is_critics)
        maps, measured = batch.parts
        if is_critics:
            return self._of_critics(maps.volume, measured.volume, generator)
        return self._of_translators(maps.volume, measured.volume, generator)

    def _of_critics(
        self,
        maps: Float[Tensor, "b d d d"],
        measured: Float[Tensor, "b d d d"],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        with torch.no_grad():
            made = self._remembered(0, self.to_measured(maps, generator), generator)
            made_maps = self._remembered(1, self.to_map(measured, generator), generator)
        losses: dict[str, Tensor] = {}
        for name, critic, real, fake in (
            ("measured", self.measured_critic, measured, made),
            ("map", self.map_critic, maps, made_maps),
        ):
            told, taken = critic(real), critic(fake)
            if self.config.adversary == "wasserstein":
                losses[f"{name}_critic"] = taken.mean() - told.mean()
            else:
                losses[f"{name}_critic"] = 0.5 * ((told - _REAL).square().mean() + taken.square().mean())
            losses[f"{name}_penalty"] = gradient_penalty(critic, real, fake, generator)
        loss = losses["measured_critic"] + losses["map_critic"]
        penalty = losses["measured_penalty"] + losses["map_penalty"]
        return {"loss": loss + self.config.penalty_weight * penalty, **losses}

    def _of_translators(
        self,
        maps: Float[Tensor, "b d d d"],
        measured: Float[Tensor, "b d d d"],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        config = self.config
        with torch.no_grad():
            some = maps[:_DIVERSE]
            first, second = (self.to_measured(some, generator) for _ in range(2))
            for slow, fast in zip(self.kept.parameters(), self.to_measured.parameters(), strict=True):
                slow.lerp_(fast, 1 - config.average)
        made = self.to_measured(maps, generator)
        made_maps = self.to_map(measured, generator)
        back = self.to_measured(made_maps, generator)
        cutoff = config.cycle_cutoff_nyquist
        losses = {
            "made": self._taken(self.measured_critic(made)),
            "made_maps": self._taken(self.map_critic(made_maps)),
            "map_cycle": (self.to_map(made, generator) - maps).abs().mean(),
            "measured_cycle": (low_pass_normalized(back, cutoff) - low_pass_normalized(measured, cutoff)).abs().mean(),
        }
        cycles = config.map_cycle_weight * losses["map_cycle"] + config.measured_cycle_weight * losses["measured_cycle"]
        return {
            "loss": losses["made"] + losses["made_maps"] + cycles,
            **losses,
            # Of two draws for one map: 0 where both are the same, 1 where they have nothing in common.
            "diversity": 0.5 * (first - second).square().mean(),
        }

    def _taken(self, score: Float[Tensor, " b"]) -> Float[Tensor, ""]:
        return -score.mean() if self.config.adversary == "wasserstein" else (score - _REAL).square().mean()

    def _remembered(
        self, kind: int, made: Float[Tensor, "b d d d"], generator: torch.Generator
    ) -> Float[Tensor, "b d d d"]:
        """Each box, or an older one in whose place it is remembered (Shrivastava et al. 2017)."""
        given, size = made.clone(), self.pool.shape[1]
        for row, swaps in enumerate((torch.rand(len(made), generator=generator) < 0.5).tolist()):
            place = int(torch.randint(size, (), generator=generator))
            if self.pooled[kind] < size:
                self.pool[kind, int(self.pooled[kind])] = made[row]
                self.pooled[kind] += 1
            elif swaps:
                given[row] = self.pool[kind, place]
                self.pool[kind, place] = made[row]
        return given


def train(config: Config, data: TrainingSets, run: Run, seed: int, progress: Progress | None = None) -> Classifier:
    """A classifier of boxes that look like ``data.unlabeled``, from maps of ``config.structures``.

    The translator itself is left in the folder of the run (`tomosift.models.generators.load_generator`). Labels are not
    looked at.

    Raises
    ------
    ValueError
        When there are too few target boxes or structures, the model to start from has another voxel spacing, or in the
        end translated maps do not look like their class.
    """
    if len(config.structures) < 2:
        raise ValueError(f"structures name {len(config.structures)} classes, expected 2 or more to translate maps of")
    seen, spare = held_out(data.unlabeled)
    if (whole := len(seen) + len(spare)) < _LEAST_BOXES:
        raise ValueError(
            f"the target set has {whole} subtomograms that lie within their tomograms, expected at least {_LEAST_BOXES}"
        )
    plain = torch.from_numpy(seen.volumes(seen.spaced_rows(_LOOKED_AT)))
    # Before the long part: a model of another voxel spacing is refused.
    named_encoder = starting_encoder(config.init, config.encoder, plain[:BOXES_TO_PREPARE], data.voxel_spacing_angstrom)
    described = _maps(config, data.unlabeled, seed)
    learner = Learner(config, data.box_size)
    learner.prepare(plain, StructureStream(described, _MAPS_LOOKED_AT).batch(0).volume)
    size = config.training.batch_size
    streams = PrefetchStream(
        PairedStream((StructureStream(described, size), UniformStream(seen, size, seed))), _READ_AHEAD
    )
    rate = config.training.learning_rate
    groups: list[dict[str, Any]] = [
        {"params": [p for part in parts for p in part.parameters()], "lr": rate * share, "betas": _BETAS}
        for share, parts in _groups(learner, config)
    ]
    fit(learner, streams, config.training, run, seed, parameter_groups=groups, progress=progress)
    streams.close()
    card = GeneratorCard(config.shape, data.box_size, data.voxel_spacing_angstrom, described.ranges)
    style = TrainedGenerator(learner.kept, card)
    others = maps_for_checks(config, data.unlabeled, seed)
    found = measure_faithfulness(others, style)
    run.log(class_kept=found.class_kept, density_kept=found.density_kept)
    _stop_if_unfaithful(found, config, run)
    save_generator(run.folder, style)
    return _classifier(named_encoder, others, style, seen)


def held_out(target: Subtomograms) -> tuple[Subtomograms, Subtomograms]:
    """Target boxes that are trained on, and every tenth, which is not.

    Both without boxes that reach beyond their tomogram: critics would find at once what these are filled up with.
    """
    whole = target.select(target.whole_rows())
    is_spare = np.arange(len(whole)) % _HELD_OUT == _HELD_OUT - 1
    return whole.select(~is_spare), whole.select(is_spare)


def maps_for_checks(config: Config, target: Subtomograms, seed: int) -> SubtomogramSetConfig:
    """Maps of the structures that no training with this seed sees."""
    return _maps(config, target, seed + _OTHER_MAPS)


def _maps(config: Config, target: Subtomograms, seed: int) -> SubtomogramSetConfig:
    return SubtomogramSetConfig(
        classes=config.structures,
        box_size=target.box_size,
        voxel_spacing_angstrom=target.voxel_spacing_angstrom,
        ranges=with_tilt_ranges_of(target, MAPS),
        seed=seed,
    )


def _groups(learner: Learner, config: Config) -> Sequence[tuple[float, tuple[nn.Module, nn.Module]]]:
    return (
        (config.translator_rate, (learner.to_measured, learner.to_map)),
        (1.0, (learner.measured_critic, learner.map_critic)),
    )


def _stop_if_unfaithful(found: Faithfulness, config: Config, run: Run) -> None:
    if found.class_kept < config.least_faithful:
        raise ValueError(
            f"translated maps of {run.folder} do not keep their class: told by their density {found.class_kept:.0%} "
            f"of them are right beyond chance, expected {config.least_faithful:.0%}; train longer, with a higher "
            "map_cycle_weight, or take `boxes --like` with --style noise"
        )


def _classifier(
    named_encoder: tuple[str, Encoder], maps: SubtomogramSetConfig, style: TrainedGenerator, target: Subtomograms
) -> Classifier:
    """A probe of translated maps on the embeddings of the model to start from."""
    name, encoder = named_encoder
    card = ModelCard(name, target.voxel_spacing_angstrom, target.box_size, class_names=maps.class_names)
    classifier = Classifier(encoder, card)
    lessons = StructureStream(maps, _LESSONS * len(maps.class_names)).batch(0)
    volume = style(lessons.volume, torch.Generator().manual_seed(maps.seed))
    embeddings = embed(encoder.eval(), lambda rows: volume[torch.from_numpy(rows)].numpy(), len(volume))
    head = classifier.head
    assert isinstance(head, LinearHead)
    head.standardize(torch.from_numpy(embeddings))
    # Cross-validation would choose by translated boxes, and trust in what only these have: ten points fewer of the
    # target were named right.
    strict = FEW_LABELS_REGULARIZATION
    head.load_probe(fit_linear_probe(embeddings, lessons.label.numpy(), len(maps.class_names), strict))
    assert classifier.similarity is not None
    some = target.select(target.spaced_rows(_MOST_TO_LOOK_AT))
    measured = embed(encoder, some.volumes, len(some))
    classifier.similarity.remember(torch.from_numpy(measured), torch.from_numpy(embeddings), lessons.label)
    return classifier.eval()

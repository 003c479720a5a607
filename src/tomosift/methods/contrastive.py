"""Contrastive self-supervised pretraining (CSSL): two views of one particle attract, other particles repel.

Source: Gupta et al. 2022, "Self-supervised learning for macromolecular structure classification based on cryo-electron
tomograms", Front. Physiol. 13:957484. The readable text names neither framework nor settings; momentum contrast is
what the lab's scripts use and is the reference here. All default values are ours.

Deviations from those scripts: keys and queries are drawn from three-dimensional, wedge-aware views; the output has 128
dimensions, never the number of classes; both views are used as query; views may be noise-independent; training starts
from an encoder that already knows complexes, not from random weights.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tomosift.data.batches import Batch, UniformStream
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import GENERAL, Classifier, ModelCard, load_classifier
from tomosift.models.distributed import all_gather
from tomosift.models.encoder import BOXES_TO_PREPARE, Encoder
from tomosift.models.encoders import build_encoder
from tomosift.models.losses import info_nce, nt_xent
from tomosift.models.recentering import CenterCache, recenter
from tomosift.physics.augmentation import ViewRanges, normalized, view
from tomosift.physics.sectors import split_sectors
from tomosift.rng import uniform
from tomosift.train.loop import Progress, Training, fit
from tomosift.train.run import Run

USES_LABELS = False
SHARES_BATCHES = True

CONTRASTED = ViewRanges(noise_std=(0.0, 0.5), gain=(0.8, 1.2), log_gamma=(-0.2, 0.2), hidden_cubes=2, swapped_cubes=4)
"""Views that raised probe accuracy most; each group's worth is in experiments/LOG.md."""


@dataclass(frozen=True)
class Config:
    """Settings of contrastive pretraining."""

    init: Path | None = GENERAL
    """Run or shipped model to start from, none for random weights. The shipped `general` is of the encoder `radial`;
    other encoders start from random weights unless a run is named."""
    encoder: str = "radial"
    """Encoder to train; see `tomosift train --help` for the list."""
    framework: Literal["moco", "simclr"] = "simclr"
    """Momentum contrast with a queue of keys, or NT-Xent among the views of the batch."""
    temperature: float = 0.2
    """Temperature of the softmax over similarities."""
    projection_size: int = 128
    """Dimensions in which views are compared; the projection is thrown away afterwards."""
    queue_size: int = 1024
    """Keys that momentum contrast remembers; a multiple of the batch size is not needed."""
    momentum: float = 0.99
    """Share of the key encoder that stays at each step of momentum contrast."""
    independent_noise: Literal["off", "halves", "sectors"] = "off"
    """Views whose noise is independent: from half tomograms, or from alternating Fourier sectors."""
    sector_deg: float = 9.0
    """Width of those sectors about the tilt axis."""
    views: ViewRanges = field(default_factory=lambda: CONTRASTED)
    """How far two views may differ; the defaults are wider than those of supervised training."""
    training: Training = field(default_factory=lambda: Training(steps=300, batch_size=96, learning_rate=2e-3))
    """How long and how fast."""


class Learner(nn.Module):
    """Encoder, projection and, for momentum contrast, their slow copies and the queue."""

    queue: Tensor

    def __init__(self, config: Config, voxel_spacing_angstrom: float, start: Classifier | None) -> None:
        super().__init__()
        self.config, self.voxel_spacing_angstrom, self.centers = config, voxel_spacing_angstrom, CenterCache()
        self.encoder, self.projection = self._pair()
        if start is not None:
            self.encoder.load_state_dict(start.encoder.state_dict())
        if config.framework == "moco":
            self.slow_encoder, self.slow_projection = self._pair()
            for fast, slow in self._fast_and_slow():
                slow.data.copy_(fast.data)
                slow.requires_grad_(False)
            # Random keys repel from random directions only, which is harmless until the queue has filled.
            self.register_buffer("queue", functional.normalize(torch.randn(config.queue_size, config.projection_size)))

    def _pair(self) -> tuple[Encoder, nn.Module]:
        encoder = build_encoder(self.config.encoder)
        size = encoder.embedding_size
        return encoder, nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, self.config.projection_size))

    def prepare(self, volume: Float[Tensor, "b d d d"]) -> None:
        """Let the encoder look at plain boxes before the first step."""
        self.encoder.prepare(volume)
        if self.config.framework == "moco":
            self.slow_encoder.load_state_dict(self.encoder.state_dict())

    def _fast_and_slow(self) -> list[tuple[Tensor, Tensor]]:
        fast = [*self.encoder.parameters(), *self.projection.parameters()]
        return list(zip(fast, [*self.slow_encoder.parameters(), *self.slow_projection.parameters()], strict=True))

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The contrastive loss of two views of each box."""
        with torch.no_grad():
            first, second = self.two_views(batch, generator)
        if self.config.framework == "simclr":
            projected = self.projection(self.encoder(torch.cat([first, second]), True)).float()
            one, other = (all_gather(part) for part in projected.tensor_split([len(first)]))
            return {"loss": nt_xent(one, other, self.config.temperature)}
        both = torch.cat([first, second])
        with torch.no_grad():
            for fast, slow in self._fast_and_slow():
                slow.lerp_(fast, 1 - self.config.momentum)
            keys = functional.normalize(self.slow_projection(self.slow_encoder(both, True)).float(), dim=1)
        queries = self.projection(self.encoder(both, True)).float()
        # The loss reads a copy: the queue is overwritten before the backward pass.
        loss = info_nce(queries, keys.roll(len(first), 0), self.queue.clone(), self.config.temperature)
        newest = [all_gather(part) for part in keys.tensor_split([len(first)])]
        self.queue.copy_(torch.cat([*newest, self.queue])[: self.config.queue_size])
        return {"loss": loss}

    def two_views(
        self, batch: Batch, generator: torch.Generator
    ) -> tuple[Float[Tensor, "b d d d"], Float[Tensor, "b d d d"]]:
        """Two independently drawn views of centered boxes, with independent noise if the configuration asks for it."""
        offset = self.centers.of(batch.volume, batch.index, self.encoder.offset)
        volume = recenter(batch.volume, offset)
        sources = (volume, volume)
        if self.config.independent_noise == "halves":
            if batch.halves is None:
                raise ValueError(
                    "the set has no half boxes; extract with half tomograms or use independent_noise=sectors"
                )
            sources = (recenter(batch.halves[:, 0], offset), recenter(batch.halves[:, 1], offset))
        elif self.config.independent_noise == "sectors":
            phase = uniform((len(batch),), generator)
            even, odd = split_sectors(volume, self.config.sector_deg, phase)
            sources = (normalized(even), normalized(odd))
        first, second = (
            view(
                source,
                batch.tilt_range_deg,
                self.config.views.sample(len(batch), generator),
                self.voxel_spacing_angstrom,
                self.encoder.turns,
            )
            for source in sources
        )
        return first, second


def starting_model(config: Config) -> Classifier | None:
    """Model whose weights come first; its voxel spacing may be another, training gets used to that.

    Raises
    ------
    ValueError
        When it has another encoder.
    """
    if config.init is None:
        return None
    start = load_classifier(config.init)
    if start.card.encoder == config.encoder:
        return start
    if config.init == GENERAL:
        return None
    raise ValueError(f"the encoder of {config.init} is {start.card.encoder}, asked for is {config.encoder}")


def train(config: Config, data: TrainingSets, run: Run, seed: int, progress: Progress | None = None) -> Classifier:
    """Pretrain on ``data.unlabeled``; labels are not looked at. The result is an encoder, with the
    discriminant (unless it has classes) and the decoder `unet` of the model to start from, if any.

    Raises
    ------
    ValueError
        When there is no unlabeled subtomogram, half boxes are asked for and the set has none, or the model to start
        from has another encoder.
    """
    if len(data.unlabeled) < 2:
        raise ValueError(f"contrastive pretraining got {len(data.unlabeled)} subtomograms, expected at least 2")
    start = starting_model(config)
    learner = Learner(config, data.voxel_spacing_angstrom, start)
    learner.prepare(torch.from_numpy(data.unlabeled.volumes(data.unlabeled.spaced_rows(BOXES_TO_PREPARE))))
    stream: Any = UniformStream(
        data.unlabeled, config.training.batch_size, seed, halves=config.independent_noise == "halves"
    )
    fit(learner, stream, config.training, run, seed, progress=progress)
    encoder = build_encoder(config.encoder)
    encoder.load_state_dict(learner.encoder.state_dict())
    return _with_rest_of(start, encoder, ModelCard(config.encoder, data.voxel_spacing_angstrom, data.box_size))


def _with_rest_of(start: Classifier | None, encoder: Encoder, card: ModelCard) -> Classifier:
    """A model with this encoder and what still fits of the one it started from."""
    if start is None:
        return Classifier(encoder, card).eval()
    # Its directions: by one example each, 1 to 5 points more particles were named right than by cosine. Classes go.
    keeps_head = start.card.head == "discriminant" and not start.card.class_names
    keeps_decoder = start.card.decoder == "unet"  # which looks at boxes, not at embeddings
    card = replace(card, head=start.card.head if keeps_head else card.head)
    made = Classifier(encoder, replace(card, decoder=start.card.decoder if keeps_decoder else card.decoder))
    made.head = start.head if keeps_head else made.head
    made.decoder = start.decoder if keeps_decoder else made.decoder
    return made.eval()

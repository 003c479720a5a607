"""Contrastive objectives: NT-Xent within a batch (SimCLR), and InfoNCE with a queue of keys (momentum contrast)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tomosift.data.batches import Batch
from tomosift.models.distributed import all_gather
from tomosift.models.embedder import CenterCache, Embedder
from tomosift.models.encoder import Encoder
from tomosift.models.encoders import build_encoder
from tomosift.models.losses import info_nce, nt_xent
from tomosift.models.recentering import recenter
from tomosift.physics.augmentation import ViewRanges, normalize, view
from tomosift.physics.sectors import split_sectors
from tomosift.rng import draw_uniform

Framework = Literal["moco", "simclr"]
IndependentNoise = Literal["off", "halves", "sectors"]
DrawViews = Callable[[Batch, torch.Generator], tuple[Tensor, Tensor]]
"""Returns two views ``(b, d, d, d)`` of each subtomogram of a batch."""


@dataclass(frozen=True, eq=False)
class ViewPairs:
    """Draws two views of each subtomogram of a set, independent of each other.

    Examples
    --------
    >>> from tomosift.models.recentering import Recentering
    >>> embedder = Embedder(build_encoder("radial"), Recentering())
    >>> draw_views = ViewPairs(embedder, ViewRanges(), voxel_spacing_angstrom=10.0)
    """

    embedder: Embedder
    """Recenters subtomograms before the views are drawn."""
    ranges: ViewRanges
    voxel_spacing_angstrom: float
    independent_noise: IndependentNoise = "off"
    """Whether the noise of both views is independent as well: that of the two half tomograms, or of alternating sectors
    of Fourier space."""
    sector_deg: float = 9.0
    """Width of these sectors about the tilt axis."""
    cache: CenterCache = field(default_factory=CenterCache)

    def __call__(
        self, batch: Batch, generator: torch.Generator
    ) -> tuple[Float[Tensor, "b d d d"], Float[Tensor, "b d d d"]]:
        """Draw two views of each recentered subtomogram.

        Raises
        ------
        ValueError
            When independent half subtomograms are requested and the batch has none.
        """
        first, second = (
            view(
                volume,
                batch.tilt_range_deg,
                self.ranges.sample(len(batch), generator),
                self.voxel_spacing_angstrom,
                self.embedder.encoder.pose_augmentation,
            )
            for volume in self._split_noise(batch, generator)
        )
        return first, second

    def _split_noise(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The recentered subtomograms from which the first and the second views are drawn."""
        offset = self.cache.estimate_offsets(self.embedder, batch.volume, batch.index)
        if self.independent_noise == "halves":
            if batch.halves is None:
                raise ValueError(
                    "the set has no half subtomograms; extract with half tomograms or use independent_noise=sectors"
                )
            return recenter(batch.halves[:, 0], offset), recenter(batch.halves[:, 1], offset)
        volume = recenter(batch.volume, offset)
        if self.independent_noise == "off":
            return volume, volume
        even, odd = split_sectors(volume, self.sector_deg, draw_uniform((len(batch),), generator))
        return normalize(even), normalize(odd)


class ContrastiveObjective(nn.Module):
    """Views of one particle attract, views of other particles repel.

    Parameters
    ----------
    encoder
        To be trained, in place.
    draw_views
        Draws the two views of each subtomogram, such as `ViewPairs`.
    framework
        ``simclr``: NT-Xent among the views of a batch. ``moco``: InfoNCE against keys of an encoder whose weights are a
        moving average, with a queue of older keys as negatives; both views are used as query.
    temperature
        Of the softmax over similarities.
    projection_size
        Dimensions in which views are compared. The projection is discarded after training.
    queue_size
        Keys in the queue of momentum contrast.
    momentum
        Share of the key encoder's weights that is kept at each step.

    Notes
    -----
    Source: Chen et al. 2020, "A simple framework for contrastive learning of visual representations"; He et al. 2020,
    "Momentum contrast for unsupervised visual representation learning".
    """

    queue: Tensor

    def __init__(
        self,
        encoder: Encoder,
        draw_views: DrawViews,
        *,
        framework: Framework = "simclr",
        temperature: float = 0.2,
        projection_size: int = 128,
        queue_size: int = 1024,
        momentum: float = 0.99,
    ) -> None:
        super().__init__()
        self.draw_views, self.framework = draw_views, framework
        self.temperature, self.momentum = temperature, momentum
        self.encoder, self.projection = encoder, _build_projection(encoder, projection_size)
        if framework == "moco":
            self.key_encoder = build_encoder(encoder.name)
            self.key_projection = _build_projection(encoder, projection_size)
            for weight, average in self._weights_and_averages():
                average.data.copy_(weight.data)
                average.requires_grad_(False)
            self.key_encoder.load_state_dict(encoder.state_dict())
            # Random keys repel from random directions only, which is harmless until the queue has filled.
            self.register_buffer("queue", functional.normalize(torch.randn(queue_size, projection_size)))

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The contrastive loss of two views of each subtomogram."""
        with torch.no_grad():
            first, second = self.draw_views(batch, generator)
        views = torch.cat([first, second])
        if self.framework == "simclr":
            projected = self.projection(self.encoder(views)).float()
            one, other = (all_gather(part) for part in projected.tensor_split([len(first)]))
            return {"loss": nt_xent(one, other, self.temperature)}
        return {"loss": self._momentum_contrast(views, len(first))}

    def _momentum_contrast(self, views: Float[Tensor, "n d d d"], count: int) -> Float[Tensor, ""]:
        with torch.no_grad():
            for weight, average in self._weights_and_averages():
                average.lerp_(weight, 1 - self.momentum)
            keys = functional.normalize(self.key_projection(self.key_encoder(views)).float(), dim=1)
        queries = self.projection(self.encoder(views)).float()
        # The loss reads a copy: the queue is overwritten before the backward pass.
        loss = info_nce(queries, keys.roll(count, 0), self.queue.clone(), self.temperature)
        newest = [all_gather(part) for part in keys.tensor_split([count])]
        self.queue.copy_(torch.cat([*newest, self.queue])[: len(self.queue)])
        return loss

    def _weights_and_averages(self) -> list[tuple[Tensor, Tensor]]:
        weights = [*self.encoder.parameters(), *self.projection.parameters()]
        return list(zip(weights, [*self.key_encoder.parameters(), *self.key_projection.parameters()], strict=True))


def _build_projection(encoder: Encoder, projection_size: int) -> nn.Module:
    size = encoder.embedding_size
    return nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, projection_size))

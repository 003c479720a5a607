"""Metric objective: embeddings of one complex attract, embeddings of other complexes repel."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from tomosift.data.batches import Batch, FeatureBatch
from tomosift.models.distributed import all_gather
from tomosift.models.encoder import Encoder
from tomosift.models.losses import nt_xent, prototypical_loss, supervised_contrastive, triplet_loss
from tomosift.rng import draw_normal
from tomosift.simulation.feature_cache import compute_features

MetricLoss = Literal["supervised-contrastive", "cosine", "triplet", "prototypical"]
Scale = tuple[Float[Tensor, " f"], Float[Tensor, " f"]]
"""Mean and standard deviation of each feature."""


@dataclass(frozen=True)
class MetricSettings:
    """Loss and regularization of `MetricObjective`."""

    loss: MetricLoss = "supervised-contrastive"
    """Supervised contrast among the particles of the batch; cosine to one learned proxy for each complex; triplets; or
    prototypes, each the mean of two particles of the batch."""
    temperature: float = 0.05
    """Temperature of the softmax over similarities; triplets have none."""
    independent_noise: float = 0.0
    """Weight of a second loss, in which the two halves of a particle, with independent noise, attract each other."""
    input_noise: float = 0.05
    """Noise added to cached features, in their standard deviations."""
    dropout: float = 0.1
    """Share of hidden features left out at every step, in encoders with fixed features."""
    projection_size: int = 128
    """Dimensions in which particles are compared; the projection is discarded after training."""


class MetricObjective(nn.Module):
    """The loss between the particles of a batch, under a projection that is discarded after training.

    Parameters
    ----------
    encoder
        To be trained, in place; its dropout is set.
    settings
        Loss and regularization.
    complexes
        Complexes that recur; the cosine loss has a proxy for each of them.
    scale
        By which cached features are standardized before the encoder; None where batches hold subtomograms.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, encoder: Encoder, settings: MetricSettings, complexes: int, scale: Scale | None) -> None:
        super().__init__()
        self.settings, self.encoder = settings, encoder
        encoder.dropout = settings.dropout
        self.projection = nn.Linear(encoder.embedding_size, settings.projection_size)
        mean, deviation = scale or (torch.zeros(1), torch.ones(1))
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        count = complexes if settings.loss == "cosine" else 0
        proxies = functional.normalize(torch.randn(count, settings.projection_size), dim=1)
        self.proxies = nn.Parameter(proxies, requires_grad=count > 0)

    def forward(self, batch: FeatureBatch | Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The loss of a batch, and the accuracy of assigning each particle to the complex of its nearest neighbor."""
        if isinstance(batch, Batch):
            batch = self._compute_features(batch)
        projected, label = all_gather(self._project(batch.x, generator)), all_gather(batch.label)
        loss = self._compare(projected, label)
        losses = {"accuracy": _nearest_neighbor_accuracy(projected.detach(), label)}
        if batch.halves is not None:
            first, second = (all_gather(self._project(batch.halves[:, k], generator)) for k in (0, 1))
            losses["halves"] = nt_xent(first, second, self.settings.temperature)
            loss = loss + self.settings.independent_noise * losses["halves"]
        return {"loss": loss, **losses}

    def _compute_features(self, batch: Batch) -> FeatureBatch:
        volume, halves = batch.volume, batch.halves
        views = volume[:, None] if halves is None else torch.cat((volume[:, None], halves), 1)
        x = compute_features(self.encoder, volume, views)
        return FeatureBatch(x[:, 0].clone(), batch.label, None if halves is None else x[:, 1:].clone())

    def _project(self, x: Tensor, generator: torch.Generator) -> Float[Tensor, "b p"]:
        if x.ndim == 2:  # features of a cache; subtomograms are normalized and noisy as they are
            x = (x - self.mean) / self.deviation
            noise = draw_normal(x.shape, generator).to(x.device)
            x = x + self.settings.input_noise * noise
        return self.projection(self.encoder.embed(x)).float()  # type: ignore[no-any-return]

    def _compare(self, projected: Float[Tensor, "b p"], label: Int64[Tensor, " b"]) -> Float[Tensor, ""]:
        loss, temperature = self.settings.loss, self.settings.temperature
        if loss == "triplet":
            return triplet_loss(projected, label)
        if loss == "prototypical":
            return prototypical_loss(projected, label, temperature)
        if loss == "cosine":
            unit, proxies = (functional.normalize(part, dim=1) for part in (projected, self.proxies))
            return functional.cross_entropy(unit @ proxies.T / temperature, label)
        return supervised_contrastive(projected, label, temperature)


@torch.no_grad()
def _nearest_neighbor_accuracy(projected: Float[Tensor, "b p"], label: Int64[Tensor, " b"]) -> Float[Tensor, ""]:
    unit = functional.normalize(projected, dim=1)
    similarity = (unit @ unit.T).fill_diagonal_(-torch.inf)
    return (label[similarity.argmax(dim=1)] == label).float().mean()

"""Domain-adversarial objective: classification of the source, domain discriminators and a learned warp."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tomosift.data.batches import Batch, PairedBatch
from tomosift.inference.classifier import Classifier
from tomosift.models.domain_discriminators import (
    ClasswiseDiscriminators,
    ImageDiscriminator,
    covariance_distance,
    reverse_gradient,
)
from tomosift.models.embedder import CenterCache
from tomosift.models.learned_augmentation import NoiseAndDeformation

Features = Literal["class-wise", "single", "covariance", "none"]
Stage = Literal["source", "images", "joint"]

_HIDDEN_SIZE = 512
_COVARIANCE_WEIGHT = 100.0  # distances of covariances are as much smaller than cross-entropies
_REVERSAL_STEEPNESS = 10.0  # of the growth of the gradient reversal, Ganin et al. 2016


@dataclass(frozen=True)
class DomainAdversarialSettings:
    """How `DomainAdversarialObjective` aligns the domains."""

    features: Features = "class-wise"
    """What aligns the embeddings of both domains: one discriminator for each class, a single discriminator, equal
    covariances, or nothing."""
    feature_weight: float = 0.5
    """Weight of this alignment beside the classification loss; covariances count a hundred times as much."""
    warps: bool = True
    """Train on warped source subtomograms as well; the warp learns to make them resemble target subtomograms."""
    warp_width: int = 4
    """Channels of the warp at full resolution; 64 as published, for GPUs."""
    max_noise: float = 0.5
    """Largest change of a voxel by the noise of the warp, in standard deviations of the subtomogram."""
    max_deformation_voxels: float = 1.0
    """Largest displacement of a voxel by the warp, along each axis."""
    warped_share: float = 0.25
    """Share of the source subtomograms of a step that are warped."""


class DomainAdversarialObjective(nn.Module):
    """Cross-entropy of source subtomograms, and alignment of their embeddings and voxels with the target domain.

    Parameters
    ----------
    classifier
        To be trained, in place.
    settings
        What aligns the domains.
    joint_steps
        Steps of the stage ``joint``, over which the gradient reversal grows from 0 to its full weight.
    is_source_simulated
        Whether source subtomograms are new at every step, so that their centers cannot be remembered.

    Notes
    -----
    Source: see `tomosift.methods.domain_adversarial`. The attribute ``stage`` selects what is minimized: the
    classification loss of the source, the image discriminator alone, or everything.
    """

    reversal_progress: Tensor

    def __init__(
        self, classifier: Classifier, settings: DomainAdversarialSettings, joint_steps: int, is_source_simulated: bool
    ) -> None:
        super().__init__()
        self.classifier, self.settings, self.joint_steps = classifier, settings, joint_steps
        self.stage: Stage = "source"
        classes = len(classifier.card.class_names) if settings.features == "class-wise" else 1
        self.discriminators = ClasswiseDiscriminators(classifier.encoder.embedding_size, classes, _HIDDEN_SIZE)
        self.warp = NoiseAndDeformation(settings.warp_width, settings.max_noise, settings.max_deformation_voxels)
        self.image_discriminator = ImageDiscriminator(settings.warp_width)
        self.register_buffer("reversal_progress", torch.zeros(()))
        self.source_centers = None if is_source_simulated else CenterCache()
        self.target_centers = CenterCache()

    def parameter_groups(self, rate: float, encoder_share: float, discriminator_share: float) -> list[dict[str, Any]]:
        """Return what the current stage trains, with learning rates; shares are of ``rate``."""
        images = {"params": list(self.image_discriminator.parameters()), "lr": rate * discriminator_share}
        if self.stage == "images":
            return [images]
        groups = [{"params": list(self.classifier.parameters()), "lr": rate * encoder_share}]
        if self.stage == "joint":
            groups += [{"params": [*self.discriminators.parameters(), *self.warp.parameters()], "lr": rate}, images]
        return groups

    def forward(self, batch: PairedBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """The losses of a step; ``loss`` is their weighted sum."""
        source, target = batch.parts
        with torch.no_grad():
            volume = self._recenter(source, self.source_centers)
            measured = volume if self.stage == "source" else self._recenter(target, self.target_centers)
        some = volume[: max(2, round(self.settings.warped_share * len(volume)))]
        if self.stage == "images":
            return {"loss": self._image_loss(some, measured[: len(some)])}
        label, losses = source.label, {}
        if self.stage == "joint" and self.settings.warps:
            warped = self.warp(some, generator)
            losses["images"] = self._image_loss(reverse_gradient(warped), measured[: len(some)])
            volume, label = torch.cat((volume, warped.detach())), torch.cat((label, label[: len(some)]))
        embeddings = self.classifier.encoder(volume).float()
        logits = self.classifier.logits(embeddings)
        losses["classes"] = functional.cross_entropy(logits, label)
        losses["accuracy"] = (logits.argmax(1) == label).float().mean()
        if self.stage == "joint" and self.settings.features != "none":
            losses["features"] = self._feature_loss(embeddings, logits, measured)
            self.reversal_progress += 1 / self.joint_steps
        terms = [losses[name] for name in ("classes", "images", "features") if name in losses]
        return {"loss": torch.stack(terms).sum(), **losses}

    def _recenter(self, batch: Batch, cache: CenterCache | None) -> Float[Tensor, "b d d d"]:
        embedder = self.classifier.embedder
        if cache is None:
            return embedder.recenter(batch.volume)
        return cache.recenter(embedder, batch.volume, batch.index)

    def _image_loss(self, source: Float[Tensor, "b d d d"], target: Float[Tensor, "b d d d"]) -> Float[Tensor, ""]:
        logits = self.image_discriminator(torch.cat((source, target)))
        is_target = (torch.arange(len(logits), device=logits.device) >= len(source)).to(logits.dtype)
        return functional.binary_cross_entropy_with_logits(logits, is_target)

    def _feature_loss(
        self, embeddings: Float[Tensor, "b e"], logits: Float[Tensor, "b k"], measured: Float[Tensor, "c d d d"]
    ) -> Float[Tensor, ""]:
        """Distance of the embeddings of both domains, as the settings measure it."""
        settings = self.settings
        target_embeddings = self.classifier.encoder(measured).float()
        both = torch.cat((embeddings, target_embeddings))
        deviation, mean = torch.std_mean(both.detach(), dim=0)
        standardized = (both - mean) / (deviation + 1e-3)
        is_target = torch.arange(len(both), device=both.device) >= len(embeddings)
        if settings.features == "covariance":
            distance = covariance_distance(standardized[~is_target], standardized[is_target])
            return _COVARIANCE_WEIGHT * settings.feature_weight * distance
        # In training the head standardizes by its batch, which here is of the other domain.
        target_logits = self.classifier.logits(target_embeddings)
        probability = torch.softmax(torch.cat((logits, target_logits)).detach(), dim=1)
        weight = probability if settings.features == "class-wise" else torch.ones_like(probability[:, :1])
        reversal = 2 / (1 + math.exp(-_REVERSAL_STEEPNESS * float(self.reversal_progress))) - 1
        # The reversal carries the weight, so that discriminators learn at full rate from the start.
        reversed_embeddings = reverse_gradient(standardized, settings.feature_weight * reversal)
        return self.discriminators(reversed_embeddings, weight, is_target)  # type: ignore[no-any-return]

"""Domain discriminators: networks that separate two domains, such as simulated and measured subtomograms.

Source: Ganin et al. 2016, "Domain-adversarial training of neural networks", for the gradient reversal; Pei et al. 2018,
"Multi-adversarial domain adaptation", for one discriminator per class; Sun & Saenko 2016, "Deep CORAL: correlation
alignment for deep domain adaptation".
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional


class _GradientReversal(torch.autograd.Function):
    """Identity whose gradient is multiplied by a negative factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * grad_outputs[0], None


def reverse_gradient(x: Float[Tensor, "..."], factor: float = 1.0) -> Float[Tensor, "..."]:
    """Return the same values, whose gradient is reversed and multiplied by ``factor``.

    Layers after it minimize a loss; layers before it maximize the same loss.
    """
    same: Tensor = _GradientReversal.apply(x, factor)  # type: ignore[no-untyped-call]
    return same


class ClasswiseDiscriminators(nn.Module):
    """One domain discriminator per class, weighted by the probability of the class.

    With one class and weights of 1 it is the single discriminator of domain-adversarial training.

    Parameters
    ----------
    embedding_size
        Dimensions of the embeddings.
    classes
        Number k of discriminators.
    hidden
        Width of their hidden layer.
    """

    def __init__(self, embedding_size: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            nn.Sequential(nn.Linear(embedding_size, hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, 1))
            for _ in range(classes)
        )

    def forward(
        self, embedding: Float[Tensor, "b e"], weight: Float[Tensor, "b k"], is_target: Bool[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        """Compute the cross-entropies of the discriminators, weighted, summed over classes and averaged.

        Both domains have the same total weight. Chance level is log 2.

        Parameters
        ----------
        embedding
            Of b particles.
        weight
            Class probabilities.
        is_target
            Which particles are of the target domain.
        """
        logits = torch.cat([member(embedding) for member in self.members], dim=1)
        truth = is_target.to(logits.dtype)[:, None].expand_as(logits)
        losses = (weight * functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")).sum(dim=1)
        return 0.5 * (losses[is_target].mean() + losses[~is_target].mean())


def covariance_distance(first: Float[Tensor, "b e"], second: Float[Tensor, "c e"]) -> Float[Tensor, ""]:
    """Compute the CORAL loss: the squared Frobenius distance of two covariances over 4 e^2 (Sun & Saenko, eq. 1)."""
    difference = torch.cov(first.T) - torch.cov(second.T)
    return difference.square().sum() / (4 * first.shape[1] ** 2)


class ImageDiscriminator(nn.Module):
    """Convolutional network from subtomograms to the logit of their domain.

    Source: the released code of Cryo-Shift, which has ``width`` 64. Deviation: a global maximum at the end, so that any
    box size is accepted.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, pool in ((1, width, 4), (width, 4 * width, 4), (4 * width, 8 * width, 1)):
            layers += [nn.Conv3d(inputs, outputs, 3, padding=1), nn.LeakyReLU(0.01)]
            layers += [nn.MaxPool3d(pool)] if pool > 1 else [nn.AdaptiveMaxPool3d(1)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * width, 1))

    def forward(self, volume: Float[Tensor, "b d d d"]) -> Float[Tensor, " b"]:
        return self.layers(volume[:, None])[:, 0]  # type: ignore[no-any-return]

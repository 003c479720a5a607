"""What sets two domains, such as simulated and measured boxes, against each other: discriminators behind a reversal.

Source: Ganin et al. 2016, "Domain-adversarial training of neural networks", for the reversal; Pei et al. 2018,
"Multi-adversarial domain adaptation", for one discriminator per class; Sun & Saenko 2016, "Deep CORAL: correlation
alignment for deep domain adaptation".
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * grad_outputs[0], None


def reverse_gradient(x: Float[Tensor, "..."], factor: float = 1.0) -> Float[Tensor, "..."]:
    """The same values; what is descended behind it is ascended before it, ``factor`` times as fast."""
    found: Tensor = _Reversed.apply(x, factor)  # type: ignore[no-untyped-call]
    return found


class ClasswiseDiscriminators(nn.Module):
    """One discriminator of domains for each class, each weighed by how probably a box is of its class.

    With one class and weights of 1 it is the single discriminator of domain-adversarial training.
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
        """Mean over both domains, counted alike, of the weighed cross-entropies, summed over classes.

        Log 2 is what a discriminator that knows nothing gets.
        """
        logits = torch.cat([member(embedding) for member in self.members], dim=1)
        truth = is_target.to(logits.dtype)[:, None].expand_as(logits)
        losses = (weight * functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")).sum(dim=1)
        return 0.5 * (losses[is_target].mean() + losses[~is_target].mean())


def covariance_distance(first: Float[Tensor, "b e"], second: Float[Tensor, "c e"]) -> Float[Tensor, ""]:
    """Squared Frobenius distance of two covariances over 4 e^2: what CORAL descends (Sun & Saenko 2016, eq. 1)."""
    difference = torch.cov(first.T) - torch.cov(second.T)
    return difference.square().sum() / (4 * first.shape[1] ** 2)


class ImageDiscriminator(nn.Module):
    """Boxes to one logit each, from which domain they are.

    Source: the released code of Cryo-Shift, with ``width`` 64 as there. Deviation: the maximum over what is left of the
    box in the end, so that any box size will do.
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

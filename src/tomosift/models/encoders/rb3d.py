"""Concatenating multi-path blocks of the lab scripts behind CSSL, pooled head; 0.12 M parameters."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tomosift.models.encoder import Encoder


class _RB3DBlock(nn.Module):
    """Left and right path, 16 channels each, *concatenated*: the block has no additive shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.right = nn.Sequential(nn.Conv3d(32, 16, 3, padding=1), nn.ReLU())
        self.left = nn.Sequential(
            nn.Conv3d(32, 16, 1), nn.ReLU(), nn.Conv3d(16, 32, 3, padding=1), nn.ReLU(), nn.Conv3d(32, 16, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(torch.cat([self.left(x), self.right(x)], dim=1))


class RB3D(Encoder):
    """Four blocks of two concatenated paths, pooled.

    Source: lab scripts of the CSSL authors (August 2021), pooled head; not proven to be the paper's encoder. The linear
    layer from 256 to 128 of those scripts is the projection head, which belongs to the method. Deviation: subtomograms
    are masked by a soft sphere, as in every encoder.
    """

    embedding_size = 256

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(1, 32, 3, padding=1), nn.MaxPool3d(2))
        self.blocks = nn.Sequential(*(_RB3DBlock() for _ in range(4)))
        kaiming_fan_out(self)

    def embed(self, volume: Float[Tensor, "b 1 d d d"]) -> Float[Tensor, "b e"]:
        return functional.adaptive_avg_pool3d(self.blocks(self.stem(volume)), 2).flatten(1)


def kaiming_fan_out(module: nn.Module) -> None:
    """Initialize convolutions as the pooled encoders of the lab scripts do."""
    for part in module.modules():
        if isinstance(part, nn.Conv3d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)


ENCODER = RB3D

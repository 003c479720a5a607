"""The encoder of COS-Net with attention, 64 channels at full box size; for GPUs; 17.5 M parameters.

Source: Zhou et al. 2021, "One-shot learning with attention-guided segmentation in cryo-electron tomography", Front.
Mol. Biosci. 7:613347, and its code; convolutions of 64 channels in the order convolution, rectifier, normalization; no
skip connections; two linear layers without an activation between them. Deviations: the second encoder stage has an
attention of its own (in the code it shares the first one's and its own is never trained); features of box sizes other
than 32 voxels are averaged onto the 8 x 8 x 8 grid of that size; subtomograms are masked by a soft sphere, as in every
encoder.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tomosift.models.encoder import Encoder

CHANNELS = 64
_GRID = 8


class ConcurrentAttention(nn.Module):
    """The element-wise maximum of features weighted by channel and features weighted by voxel.

    Source: Roy et al. 2018, "Concurrent spatial and channel squeeze & excitation in fully convolutional networks".
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeezed, self.excited = nn.Linear(channels, channels // 2), nn.Linear(channels // 2, channels)
        self.voxelwise = nn.Conv3d(channels, 1, 1)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        weight = self.excited(functional.relu(self.squeezed(x.mean(dim=(2, 3, 4))))).sigmoid()
        return torch.maximum(x * weight[:, :, None, None, None], x * self.voxelwise(x).sigmoid())


def stage(attends: bool) -> nn.Sequential:
    """Two convolutions and, if ``attends``, attention."""
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Conv3d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU(), nn.BatchNorm3d(CHANNELS)]
    return nn.Sequential(*layers, *([ConcurrentAttention(CHANNELS)] if attends else []))


class CosNet(Encoder):
    """The encoder half of COS-Net; `tomosift.models.decoders.CosNetDecoder` decodes its `features` to masks."""

    embedding_size = 512
    attends: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(1, CHANNELS, 3, padding=1), nn.ReLU())
        self.stages = nn.Sequential(
            stage(self.attends), nn.MaxPool3d(2), stage(self.attends), nn.MaxPool3d(2), stage(False)
        )
        self.described = nn.Sequential(nn.Linear(CHANNELS * _GRID**3, 512), nn.Linear(512, self.embedding_size))

    def features(self, volume: Float[Tensor, "b 1 d d d"]) -> Float[Tensor, "b 64 f f f"]:
        """Compute feature maps at a quarter of the edge."""
        return self.stages(self.stem(volume))  # type: ignore[no-any-return]

    def pool_features(self, features: Float[Tensor, "b 64 f f f"]) -> Float[Tensor, "b e"]:
        """Compute embeddings from feature maps."""
        return self.described(functional.adaptive_avg_pool3d(features, _GRID).flatten(1))  # type: ignore[no-any-return]

    def embed(self, volume: Float[Tensor, "b 1 d d d"]) -> Float[Tensor, "b e"]:
        return self.pool_features(self.features(volume))


ENCODER = CosNet

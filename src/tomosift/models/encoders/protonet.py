"""Four blocks of convolution and pooling, flattened: the shape of ProtoNet3D; 0.33 M parameters."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tomosift.models.encoder import Encoder


class ProtoNet(Encoder):
    """Four times convolution, batch normalization, rectifier and pooling by 2; 64 channels, flattened.

    Source: code of Li et al. 2020, PLoS Comput. Biol. 16:e1008227. Deviations: features of boxes of other than 32 to 47
    voxels are averaged onto the 2 x 2 x 2 grid of those sizes, so that the embedding always has 512 dimensions;
    subtomograms are masked by a soft sphere, as in every encoder.
    """

    embedding_size = 512

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (1, 64, 64, 64):
            layers += [nn.Conv3d(inputs, 64, 3, padding=1), nn.BatchNorm3d(64), nn.ReLU(), nn.MaxPool3d(2)]
        self.layers = nn.Sequential(*layers)

    def embed(self, volume: Float[Tensor, "b 1 d d d"]) -> Float[Tensor, "b e"]:
        return functional.adaptive_avg_pool3d(self.layers(volume), 2).flatten(1)


ENCODER = ProtoNet

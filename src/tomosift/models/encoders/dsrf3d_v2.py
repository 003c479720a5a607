"""Three double-convolution stages of the lab scripts behind CSSL, pooled head; 0.86 M parameters."""

from jaxtyping import Float
from torch import Tensor, nn

from tomosift.models.encoder import Encoder
from tomosift.models.encoders.rb3d import kaiming_fan_out


class DSRF3Dv2(Encoder):
    """Three stages of two convolutions, pooled.

    Source: lab scripts of the CSSL authors (August 2021), pooled head; not proven to be the paper's encoder. Deviation:
    subtomograms are masked by a soft sphere, as in every encoder.
    """

    embedding_size = 128

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, pooled in ((1, 32, True), (32, 64, True), (64, 128, False)):
            layers += [nn.Conv3d(inputs, outputs, 3, padding=1), nn.ReLU()]
            layers += [nn.Conv3d(outputs, outputs, 3, padding=1), nn.ReLU()]
            layers += [nn.MaxPool3d(2)] if pooled else []
        self.layers = nn.Sequential(*layers)
        kaiming_fan_out(self)

    def embed(self, volume: Float[Tensor, "b 1 d d d"]) -> Float[Tensor, "b e"]:
        return self.layers(volume).mean(dim=(2, 3, 4))  # type: ignore[no-any-return]


ENCODER = DSRF3Dv2

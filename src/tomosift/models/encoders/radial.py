"""The default: a small network on rotation-invariant descriptors; very fast, best with few labels."""

from jaxtyping import Float
from torch import Tensor

from tomosift.models.encoder import DescriptorEncoder
from tomosift.models.radial_descriptors import RADIAL_DESCRIPTOR_SIZE, compute_radial_descriptors


class Radial(DescriptorEncoder):
    """The default; ours. Rotation-invariant descriptors of the centered box, and a small network on them.

    At the noise of single subtomograms and with minutes of training on a CPU this is far ahead of convolutions, which
    first have to learn to average. It does not see how density is arranged *within* a shell; `Residual` does.
    """

    recenters = True
    center_candidates = 6

    def __init__(self) -> None:
        super().__init__(RADIAL_DESCRIPTOR_SIZE)

    def fixed_features(self, volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b n"]:
        return compute_radial_descriptors(volume)


ENCODER = Radial

"""The default: a small network on rotation-invariant descriptors; very fast, best with few labels."""

from jaxtyping import Float
from torch import Tensor

from tomosift.models.descriptors.radial import RADIAL_DESCRIPTOR_SIZE, compute_radial_descriptors
from tomosift.models.encoder import DescriptorEncoder


class Radial(DescriptorEncoder):
    """The default; ours. A small network on rotation-invariant descriptors of the recentered subtomogram.

    At the SNR of single subtomograms and with minutes of training on a CPU it classifies far better than convolutions,
    which first have to learn to average. It does not use how density is arranged *within* a shell; `Residual` does.
    """

    recenters = True
    center_candidates = 6

    def __init__(self) -> None:
        super().__init__(RADIAL_DESCRIPTOR_SIZE)

    def fixed_features(self, volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b n"]:
        return compute_radial_descriptors(volume)


ENCODER = Radial

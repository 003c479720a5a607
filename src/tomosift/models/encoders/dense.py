"""The network of `radial` on correlation descriptors, computed for a whole tomogram at once; for `scan`."""

from jaxtyping import Float
from torch import Tensor

from tomosift.models.encoder import DescriptorEncoder
from tomosift.models.grid_descriptors import GRID_DESCRIPTOR_SIZE, compute_grid_descriptors


class Dense(DescriptorEncoder):
    """As `Radial` for boxes of known middle, made so that all boxes of a tomogram are described at once; ours.

    It does not look for the middle of a particle: in a scan some box has it.
    """

    has_mask = False

    def __init__(self) -> None:
        super().__init__(GRID_DESCRIPTOR_SIZE)

    def fixed_features(self, volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b n"]:
        return compute_grid_descriptors(volume)


ENCODER = Dense

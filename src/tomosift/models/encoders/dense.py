"""The network of `radial` on correlation descriptors, computed for a whole tomogram at once; for `scan`."""

from jaxtyping import Float
from torch import Tensor

from tomosift.models.descriptors.grid import GRID_DESCRIPTOR_SIZE, compute_grid_descriptors
from tomosift.models.encoder import DescriptorEncoder


class Dense(DescriptorEncoder):
    """As `Radial` for known centers, with descriptors that are computed at all grid points of a tomogram at once; ours.

    It does not recenter: in a tomogram some grid point lies at the center of each particle.
    """

    has_mask = False

    def __init__(self) -> None:
        super().__init__(GRID_DESCRIPTOR_SIZE)

    def fixed_features(self, volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b n"]:
        return compute_grid_descriptors(volume)


ENCODER = Dense

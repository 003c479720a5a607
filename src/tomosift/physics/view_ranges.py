"""How views of measured subtomograms vary: ranges, and the parameters that are drawn from them per particle."""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tomosift.physics.rotation import random_rotations
from tomosift.rng import draw_normal, draw_seeds, draw_uniform

Range = tuple[float, float]

ABLATION_GROUPS: dict[str, dict[str, object]] = {
    "rotation": {"rotation_max_deg": 0.0},
    "shift": {"shift_voxels": 0.0},
    "scale": {"scale": (1.0, 1.0)},
    "wedge": {"impose_wedge": False},
    "ctf": {"defocus_probability": 0.0},
    "noise": {"noise_std": (0.0, 0.0)},
    "low-pass": {"low_pass_sigma_voxels": (0.0, 0.0)},
    "intensity": {"gain": (1.0, 1.0), "log_gamma": (0.0, 0.0)},
    "masking": {"hidden_cubes": 0, "swapped_cubes": 0},
    "elastic": {"elastic_voxels": 0.0},
}
"""Name of each augmentation group and the settings of `ViewRanges` that switch it off."""


@dataclass(frozen=True)
class ViewRanges:
    """How far two views of one particle may differ; a range is (low, high), drawn uniformly per particle.

    Examples
    --------
    >>> import torch
    >>> from tomosift.physics.augmentation import ViewRanges
    >>> parameters = ViewRanges(noise_std=(0.0, 0.5)).sample(4, torch.Generator().manual_seed(0))
    >>> parameters.rotation.shape
    torch.Size([4, 3, 3])
    """

    rotation_max_deg: float = 180.0
    """Largest rotation angle; 180 gives all of SO(3), 0 switches rotation off."""
    shift_voxels: float = 1.0
    """Largest shift along each axis."""
    scale: Range = (1.0, 1.0)
    """Magnification."""
    impose_wedge: bool = True
    """Impose the wedge of the tomogram frame again after the rotation."""
    defocus_probability: float = 0.0
    """Share of views that get an extra contrast transfer function."""
    defocus_um: Range = (1.0, 4.0)
    """Defocus of that extra function, positive for underfocus."""
    noise_std: Range = (0.0, 0.0)
    """Standard deviation of added white noise, in units of the subtomogram's own standard deviation."""
    low_pass_sigma_voxels: Range = (0.0, 0.0)
    """Standard deviation of a Gaussian blur."""
    gain: Range = (1.0, 1.0)
    """Factor on the intensities after normalization."""
    log_gamma: Range = (0.0, 0.0)
    """Logarithm of the exponent of a contrast curve, sign(v) |v|^gamma."""
    hidden_cubes: int = 0
    """Number of cubes, a quarter of the box size wide, that are replaced by the mean."""
    swapped_cubes: int = 0
    """Number of cubes, an eighth of the box size wide, that are exchanged with others."""
    elastic_voxels: float = 0.0
    """Standard deviation of a smooth displacement field."""
    mirror: bool = False
    """Mirror half of the views. Off by default: it makes molecules that do not exist and hides a wrong handedness."""

    def sample(self, n: int, generator: torch.Generator) -> "ViewParameters":
        """Draw the parameters of n views. All random numbers are drawn here; the noise is given by its seed."""

        def between(low_high: Range, *shape: int) -> Tensor:
            low, high = low_high
            return low + (high - low) * draw_uniform((n, *shape), generator)

        return ViewParameters(
            rotation=random_rotations(n, generator, self.rotation_max_deg),
            shift_zyx_voxels=between((-self.shift_voxels, self.shift_voxels), 3),
            scale=between(self.scale),
            impose_wedge=self.impose_wedge,
            # A defocus of NaN means no extra transfer function.
            defocus_um=torch.where(between((0.0, 1.0)) < self.defocus_probability, between(self.defocus_um), torch.nan),
            noise_std=between(self.noise_std),
            low_pass_sigma_voxels=between(self.low_pass_sigma_voxels),
            gain=between(self.gain),
            gamma=between(self.log_gamma).exp(),
            hidden_corner=between((0.0, 1.0), self.hidden_cubes, 3),
            swapped_corner=between((0.0, 1.0), self.swapped_cubes, 2, 3),
            elastic_zyx_voxels=self.elastic_voxels * draw_normal((n, 3, 4, 4, 4), generator)
            if self.elastic_voxels
            else None,
            mirrored=between((0.0, 1.0)) < (0.5 if self.mirror else 0.0),
            noise_seed=draw_seeds(n, generator),
        )


NO_VIEWS = ViewRanges(**{name: value for off in ABLATION_GROUPS.values() for name, value in off.items()})  # type: ignore[arg-type]
"""Every group off: a view is the normalized subtomogram."""


@dataclass(frozen=True)
class ViewParameters:
    """Parameters of one view of each of n subtomograms; fields as in `ViewRanges`, one entry per subtomogram."""

    rotation: Float[Tensor, "n 3 3"]
    shift_zyx_voxels: Float[Tensor, "n 3"]
    scale: Float[Tensor, " n"]
    impose_wedge: bool
    defocus_um: Float[Tensor, " n"]
    noise_std: Float[Tensor, " n"]
    low_pass_sigma_voxels: Float[Tensor, " n"]
    gain: Float[Tensor, " n"]
    gamma: Float[Tensor, " n"]
    hidden_corner: Float[Tensor, "n h 3"]
    swapped_corner: Float[Tensor, "n s 2 3"]
    elastic_zyx_voxels: Float[Tensor, "n 3 4 4 4"] | None
    mirrored: Tensor
    noise_seed: Int64[Tensor, " n"]

    def select(self, part: slice) -> "ViewParameters":
        """Return the parameters of a slice of the views."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        tensors: dict[str, Any] = {name: value[part] for name, value in values if isinstance(value, Tensor)}
        return replace(self, **tensors)

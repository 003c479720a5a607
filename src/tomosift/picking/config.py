"""Settings of the training of a detector."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from tomosift.train.loop import Training

RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "near_angstrom": "class_distance_angstrom",
        "far_angstrom": "background_distance_angstrom",
        "background_places": "background_points",
        "beside_places": "nearby_background_points",
        "beside_angstrom": "nearby_distance_angstrom",
        "few": "self_training_max_picks",
        "rounds": "self_training_rounds",
    }
)
"""Names of fields in runs of earlier versions -> their names now; see `tomosift.train.config.rename_fields`."""


@dataclass(frozen=True)
class Config:
    """Settings of the training of a detector."""

    init: Path | None = Path("dense")
    """Model with the encoder `dense` to start from; by default the shipped one. None starts from random weights."""
    box_size: int = 32
    """Edge of the box in which a grid point is described, in voxels; about twice the largest particle works best."""
    voxel_spacing_angstrom: float = 10.0
    """Voxel spacing in Angstrom to which every tomogram is resampled."""
    class_distance_angstrom: float = 18.0
    """Grid points within this distance of a pick, in Angstrom, get its class. The closest one always does."""
    background_distance_angstrom: float = 30.0
    """Grid points at least this far from every pick, in Angstrom, are background."""
    background_points: int = 200_000
    """Background grid points drawn from anywhere in all tomograms with picks, at most 40,000 from each. With few, none
    would resemble a particle by chance."""
    nearby_background_points: int = 4000
    """Background grid points drawn near the picks of each tomogram. Parts of a large particle resemble a small one."""
    nearby_distance_angstrom: float = 130.0
    """Largest distance in Angstrom between these grid points and a pick."""
    input_noise: float = 0.1
    """Standard deviation of the noise added to standardized descriptors."""
    dropout: float = 0.2
    """Share of hidden features that are left out at every training step."""
    self_training_max_picks: int = 20
    """Classes with fewer picks than this gain confident detections of the same tomograms as further picks."""
    self_training_rounds: int = 2
    """Rounds of training that follow the first one where a class has few picks; 0 switches self-training off."""
    training: Training = field(default_factory=lambda: Training(1500, 256, 2e-3, checkpoint_every=500))
    """Number of steps, batch size and learning rate. Half of each batch is background."""

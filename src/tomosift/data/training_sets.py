"""What every method trains on."""

from dataclasses import dataclass

import numpy as np

from tomosift.data.subtomogram_set import Subtomograms

SPACING_TOLERANCE = 1e-3
"""Relative difference of voxel spacings that still counts as the same."""


@dataclass(frozen=True, eq=False)
class TrainingSets:
    """A few labeled and many unlabeled subtomograms, and labeled ones to judge by.

    A part may be empty: a method says itself what it cannot do without. Labels of ``unlabeled`` are not to be used,
    also where the particles have some. ``validation`` should come from other tomograms (see `splits`).

    Raises
    ------
    ValueError
        The parts differ in box size, voxel spacing or class names, or all are empty.
    """

    labeled: Subtomograms
    unlabeled: Subtomograms
    validation: Subtomograms

    def __post_init__(self) -> None:
        parts = {"labeled": self.labeled, "unlabeled": self.unlabeled, "validation": self.validation}
        if not any(len(part) for part in parts.values()):
            raise ValueError("the labeled, unlabeled and validation sets are all empty; give at least one subtomogram")
        for name, part in parts.items():
            if part.box_size != self.box_size:
                raise ValueError(
                    f"boxes of the {name} set are {part.box_size} voxels wide, those of the labeled set "
                    f"{self.box_size}; extract both with one --box-size"
                )
            difference = abs(part.voxel_spacing_angstrom - self.voxel_spacing_angstrom)
            if difference > SPACING_TOLERANCE * self.voxel_spacing_angstrom:
                raise ValueError(
                    f"voxel spacing of the {name} set is {part.voxel_spacing_angstrom:.2f} A, that of the labeled set "
                    f"{self.voxel_spacing_angstrom:.2f} A; extract both with one --voxel-spacing"
                )
        if self.validation.class_names != self.class_names and len(self.validation.labeled_rows):
            raise ValueError(
                f"the validation set has classes {list(self.validation.class_names)}, the labeled set "
                f"{list(self.class_names)}; label both with the same class names in the same order"
            )

    @classmethod
    def from_domains(cls, source: Subtomograms, target: Subtomograms) -> "TrainingSets":
        """Labeled particles of one domain and those of another, whose labels are hidden; none to judge by."""
        hidden = target.with_labels(np.full(len(target), ""), source.class_names)
        return cls(source, hidden, source.select(np.zeros(0, dtype=np.int64)))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of their labels."""
        return self.labeled.class_names

    @property
    def box_size(self) -> int:
        """Edge of every box in voxels."""
        return self.labeled.box_size

    @property
    def voxel_spacing_angstrom(self) -> float:
        """Edge of a voxel."""
        return self.labeled.voxel_spacing_angstrom

"""The subtomograms that every method trains on."""

from dataclasses import dataclass

import numpy as np

from tomosift.conventions import check_same_spacing
from tomosift.data.subtomogram_set import Subtomograms


@dataclass(frozen=True, eq=False)
class TrainingSets:
    """A few labeled and many unlabeled subtomograms, and labeled ones for validation.

    A part may be empty: each method refuses a part that it cannot do without. Methods ignore the labels of
    ``unlabeled``. ``validation`` should come from other tomograms (see `tomosift.data.splits`).

    Parameters
    ----------
    labeled
        Subtomograms with a class.
    unlabeled
        Subtomograms of the same domain, or of the target domain, whose labels are ignored.
    validation
        Labeled subtomograms that training does not learn from; may be empty.

    Raises
    ------
    ValueError
        The parts differ in box size, voxel spacing or class names, or all are empty.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from tomosift.data.set_writer import SubtomogramWriter
    >>> from tomosift.data.training_sets import TrainingSets
    >>> from tomosift.particles import Particles
    >>> particles = Particles.create(["TS_01"] * 4, np.zeros((4, 3)), class_name=["ribosome", "", "apoferritin", ""])
    >>> writer = SubtomogramWriter(tempfile.mkdtemp(), box_size=8, voxel_spacing_angstrom=10.0)
    >>> writer.append(np.random.default_rng(0).normal(size=(4, 8, 8, 8)), particles, (-60.0, 60.0))
    >>> subtomograms = writer.close()
    >>> data = TrainingSets.from_labels(subtomograms.select(subtomograms.labeled_rows), subtomograms)
    >>> len(data.labeled), len(data.unlabeled), len(data.validation), data.class_names
    (2, 4, 0, ('apoferritin', 'ribosome'))
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
            check_same_spacing(
                part.voxel_spacing_angstrom,
                self.voxel_spacing_angstrom,
                f"the {name} set",
                "that of the labeled set is",
                "extract both with one --voxel-spacing",
            )
        if self.validation.class_names != self.class_names and len(self.validation.labeled_rows):
            raise ValueError(
                f"the validation set has classes {list(self.validation.class_names)}, the labeled set "
                f"{list(self.class_names)}; label both with the same class names in the same order"
            )

    @classmethod
    def from_labels(cls, labeled: Subtomograms, unlabeled: Subtomograms) -> "TrainingSets":
        """Return labeled and unlabeled subtomograms without a validation set."""
        return cls(labeled, unlabeled, labeled.empty())

    @classmethod
    def from_domains(cls, source: Subtomograms, target: Subtomograms) -> "TrainingSets":
        """Return labeled subtomograms of a source domain and unlabeled ones of a target domain.

        Labels of the target are removed; there is no validation set.
        """
        return cls(source, target.with_labels(np.full(len(target), ""), source.class_names), source.empty())

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of their labels."""
        return self.labeled.class_names

    @property
    def box_size(self) -> int:
        """Edge of every subtomogram in voxels."""
        return self.labeled.box_size

    @property
    def voxel_spacing_angstrom(self) -> float:
        """Edge of a voxel."""
        return self.labeled.voxel_spacing_angstrom

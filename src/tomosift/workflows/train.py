"""Open the training sets of a method from a set, a source set and tables of labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tomosift import methods
from tomosift.data.labels import label_subtomograms
from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.particles import Particles
from tomosift.progress import Monitor


def open_training_sets(
    method: str,
    subtomograms: Path | str | Subtomograms,
    config: Any,
    *,
    source: Path | str | None = None,
    labels: Particles | Path | str | None = None,
    label_column: str | None = None,
    label_tolerance_angstrom: float = 30.0,
    picks_spacing_angstrom: float | None = None,
    validation: Particles | Path | str | None = None,
    validation_classes: Sequence[str] = (),
    monitor: Monitor | None = None,
) -> TrainingSets:
    """Open the training sets of a method, for `tomosift.methods.train`.

    Parameters
    ----------
    method
        Name in `tomosift.methods.METHODS`.
    subtomograms
        The set, or its folder.
    config
        Settings of the method.
    source
        Labeled set of the source domain, for methods that have one.
    labels, label_column, label_tolerance_angstrom, picks_spacing_angstrom
        Labels of the set; None takes the classes that the set came with. As in
        `tomosift.data.labels.label_subtomograms`.
    validation
        Further labels of the set, which only stop and calibrate the training.
    validation_classes
        Classes that only stop the training, for methods that train by episodes.
    monitor
        Shows what is taken for granted about the labels.

    Raises
    ------
    ValueError
        A source and structures are both given or both missing, or a validation class is none of the set.
    """
    declared = methods.load_method(method).INPUT
    if declared.has_source and (source is None) == (not config.structures):
        raise ValueError("give either a labeled set with --source or structures to simulate with --structures")
    if not isinstance(subtomograms, Subtomograms):
        subtomograms = open_subtomograms(Path(subtomograms))
    if declared.kind == "set":
        return TrainingSets.from_labels(subtomograms, subtomograms)
    if declared.kind == "domains":
        labeled = subtomograms.empty() if source is None else open_subtomograms(Path(source))
        return TrainingSets.from_domains(labeled, subtomograms)

    def label(table: Particles | Path | str) -> Subtomograms:
        settings = (label_column, label_tolerance_angstrom, picks_spacing_angstrom)
        return label_subtomograms(subtomograms, table, *settings, (monitor or Monitor()).message)

    labeled = subtomograms if labels is None else label(labels)
    if declared.validation == "classes":
        return _split_classes(labeled, validation_classes)
    held_out = labeled.empty()
    if validation is not None:
        held_out = label(validation)
        held_out = held_out.with_labels(held_out.particles.class_name, labeled.class_names)
        held_out = held_out.select(held_out.labeled_rows)
    return TrainingSets(labeled, labeled, held_out)


def _split_classes(labeled: Subtomograms, validation_classes: Sequence[str]) -> TrainingSets:
    """Training sets in which some classes are for validation only."""
    if missing := sorted(set(validation_classes) - set(labeled.class_names)):
        raise ValueError(
            f"validation class {missing[0]} is not among those of {labeled.path}: {', '.join(labeled.class_names)}"
        )
    is_held_out = np.isin(labeled.particles.class_name.astype(str), list(validation_classes))
    return TrainingSets(labeled.select(~is_held_out), labeled, labeled.select(is_held_out))

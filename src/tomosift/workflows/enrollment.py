"""Enrolling classes from a few labeled subtomograms for a set that is to be classified, without training."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tomosift.data.labels import find_rows
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference.class_average_classifier import SupportSet, add_class_averages
from tomosift.inference.classifier import Classifier
from tomosift.inference.prediction import embed
from tomosift.inference.prototypes import enroll_classes
from tomosift.progress import Monitor


@dataclass(frozen=True, eq=False)
class Enrollment:
    """Classes enrolled for a set of n subtomograms."""

    classifier: Classifier
    support: SupportSet
    """The labeled examples."""
    embeddings: Float[np.ndarray, "n e"]
    """Of the set, by the encoder of the classifier."""
    reason: str = ""
    """Why there are no class averages; empty if there are some, or if none were requested."""


def enroll(
    model: Classifier, subtomograms: Subtomograms, support: Subtomograms, is_averaging: bool, monitor: Monitor
) -> Enrollment:
    """Enroll the classes of labeled subtomograms in a model.

    Parameters
    ----------
    model
        Without classes, which then is adapted to the set; or with classes enrolled before, which are kept.
    subtomograms
        The set that is to be classified; the standardization is taken from it.
    support
        Labeled subtomograms, members of the set or of another one.
    is_averaging
        Also compute class averages from the set, and attach them if they do not lower the accuracy.
    monitor
        Shows the stages.
    """
    support = support.with_labels(support.particles.class_name)
    if not model.card.class_names:
        # A model that was pretrained on another set has another picking error; one with classes must not change.
        model = model.adapt_to(subtomograms).replace_card(
            voxel_spacing_angstrom=subtomograms.voxel_spacing_angstrom, box_size=subtomograms.box_size
        )
    with monitor.stage("embed", "subtomograms") as progress:
        embeddings = embed(model.embedder, subtomograms, progress=progress)
    row = find_rows(support, subtomograms)
    own = embeddings[row] if (row >= 0).all() else embed(model.embedder, support)
    classifier = enroll_classes(model, support.class_names, own, support.label, embeddings)
    examples = SupportSet(support, own, len(model.card.class_names) + support.label, row)
    if not is_averaging:
        return Enrollment(classifier, examples, embeddings)
    if not classifier.encoder.recenters:
        reason = f"the encoder {classifier.card.encoder} does not recenter"
        return Enrollment(classifier, examples, embeddings, reason)
    attached = add_class_averages(classifier, subtomograms, embeddings, examples, monitor)
    return Enrollment(attached.classifier, examples, embeddings, attached.reason)

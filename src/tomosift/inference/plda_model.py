"""A model without classes whose head is a PLDA, fitted to other classes than those of a later enrolment."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int64

from tomosift.data.batches import Batch
from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.heads import PLDAHead
from tomosift.inference.prediction import embed_volumes
from tomosift.learning.plda import fit_plda
from tomosift.models.embedder import Embedder
from tomosift.models.encoder import Encoder
from tomosift.models.recentering import SUBTOMOGRAMS_TO_FIT, Recentering

EmbeddedGroup = tuple[Float[np.ndarray, "n e"], Int64[np.ndarray, " n"]]
"""Embeddings and labels of n particles that were imaged alike."""


def embed_group(encoder: Encoder, batch: Batch) -> EmbeddedGroup:
    """Embed the subtomograms of a batch, recentered by their own picking error."""
    embedder = Embedder.fit(encoder, batch.volume[:: max(1, len(batch) // SUBTOMOGRAMS_TO_FIT)])
    volume = batch.volume.numpy()
    return embed_volumes(embedder, lambda rows: volume[rows], len(volume)), batch.label.numpy()


def fit_plda_model(
    encoder: Encoder, voxel_spacing_angstrom: float, box_size: int, groups: Sequence[EmbeddedGroup]
) -> Classifier:
    """Return a model without classes from a trained encoder and a PLDA that is fitted to groups of particles.

    The model expects the largest picking error, until `Classifier.adapt_to` estimates that of a set.

    Parameters
    ----------
    encoder
        Trained.
    voxel_spacing_angstrom, box_size
        Of the subtomograms it was trained on.
    groups
        Classes are compared within each group only, see `fit_plda`.

    Examples
    --------
    >>> from tomosift.models.encoders import build_encoder
    >>> embeddings, label = np.random.default_rng(0).normal(size=(40, 256)), np.arange(40) % 4
    >>> fit_plda_model(build_encoder("radial"), 10.0, 32, [(embeddings, label)]).card.head
    'plda'
    """
    embeddings, label = (np.concatenate(parts) for parts in zip(*groups, strict=True))
    group = np.repeat(np.arange(len(groups)), [len(one) for one, _ in groups])
    card = ModelCard(encoder.name, voxel_spacing_angstrom, box_size, head="plda")
    model = Classifier(Embedder(encoder, Recentering()), card)
    assert isinstance(model.head, PLDAHead)
    model.head.load(fit_plda(embeddings, label, group))
    return model.eval()

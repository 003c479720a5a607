"""Running a trained encoder or classifier over many boxes that do not fit into memory."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from tomosift.averaging.class_averages import ClassAverages, prepare_alignment
from tomosift.inference.classifier import Classifier
from tomosift.inference.dense_crf import CrfConfig, refine_masks
from tomosift.learning.calibration import softmax
from tomosift.models.encoder import Encoder, ReadBoxes, ReportDone
from tomosift.models.recentering import recenter

_ROWS_AT_ONCE = 1024
"""Embeddings compared with classes at a time; heads that look at pairs make tensors of a thousand times that size."""

NO_DECODER = "this model makes no masks; take the shipped model general, pretraining from it, or one_shot"

MASK_THRESHOLD = 0.45
"""Probability from which a voxel is counted to a mask: where outlines are unsure, one half leaves too little."""
_SHARED = 0.75
"""Share of a mask that comes from averages of a class that is certain; on complexes that do not exist, see
experiments/LOG.md."""


@dataclass(frozen=True)
class ClassPosterior:
    """What is known of n particles whose masks are asked for."""

    probability: Float[np.ndarray, "n k"]
    """Of each class, calibrated."""
    tilt_range_deg: Float[np.ndarray, "n 2"]

    def of(self, rows: NDArray[np.int64]) -> "Named":
        """The same of these rows."""
        return ClassPosterior(self.probability[rows], self.tilt_range_deg[rows])


def usable_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Predictions:
    """What a model says of n boxes."""

    embeddings: Float[np.ndarray, "n e"]
    logits: Float[np.ndarray, "n k"]
    probabilities: Float[np.ndarray, "n k"]
    """Calibrated by the model's temperature; k = 0 for a model without classes."""
    similarity: Float[np.ndarray, " n"]
    """How much each box looks like any labeled one, -1 to 1; NaN for a model without classes."""


@torch.inference_mode()
def embed(
    encoder: Encoder, read: ReadBoxes, count: int, batch_size: int = 64, done: ReportDone | None = None
) -> Float[np.ndarray, "n e"]:
    """Embeddings of all boxes in order, on whatever device the encoder is; its mode is left as it was."""
    training = encoder.training
    encoder.eval()
    device = next(encoder.parameters()).device
    parts: list[NDArray[Any]] = [np.zeros((0, encoder.embedding_size), dtype=np.float32)]
    for start in range(0, count, batch_size):
        rows = np.arange(start, min(start + batch_size, count))
        parts.append(encoder(torch.from_numpy(read(rows)).to(device)).float().cpu().numpy())
        if done is not None:
            done(int(rows[-1]) + 1, count)
    encoder.train(training)
    return np.concatenate(parts)


def predict_masks(
    classifier: Classifier,
    read: ReadBoxes,
    count: int,
    batch_size: int = 32,
    crf: CrfConfig | None = None,
    done: ReportDone | None = None,
    named: ClassPosterior | None = None,
) -> Iterator[Float[np.ndarray, "b d d d"]]:
    """Batch by batch the probabilities that voxels belong to the particle, refined by a random field if one is given.

    With a model that keeps averages of its classes, and what the particles were ``named``, their outlines come in as
    they lie in each box; they are worth `_SHARED` of the answer, as far as the classes are sure.

    Raises
    ------
    ValueError
        When the model has no decoder, or boxes are of another size than those that its averages were made of.
    """
    if classifier.decoder is None:
        raise ValueError(NO_DECODER)
    device = next(classifier.parameters()).device
    for start in range(0, count, batch_size):
        rows = np.arange(start, min(start + batch_size, count))
        with torch.inference_mode():
            volume = torch.from_numpy(read(rows)).to(device)
            probability = classifier.decoder(volume, classifier.encoder)[1].float().sigmoid()
            if named is not None and classifier.averages is not None:
                probability = _with_outlines(
                    probability, volume, classifier.encoder, classifier.averages, named.of(rows)
                )
            yield (probability if crf is None else refine_masks(probability, volume, crf)).cpu().numpy()
        if done is not None:
            done(int(rows[-1]) + 1, count)


def _with_outlines(
    probability: Float[Tensor, "b d d d"],
    volume: Float[Tensor, "b d d d"],
    encoder: Encoder,
    averages: ClassAverages,
    named: ClassPosterior,
) -> Float[Tensor, "b d d d"]:
    averages.check_size(volume.shape[-1])
    seen = prepare_alignment(volume.cpu().numpy().__getitem__, named.tilt_range_deg, encoder, averages.weight)
    shown, share = averages.outlines(named.probability, seen.spectra)
    shown = recenter(shown, -seen.offset_zyx_voxels).to(probability)
    alone = (1 - _SHARED * share).to(probability)
    return _SHARED * shown + alone[:, None, None, None] * probability


def predict(
    classifier: Classifier, read: ReadBoxes, count: int, batch_size: int = 64, done: ReportDone | None = None
) -> Predictions:
    """Embeddings, logits and calibrated probabilities of all boxes in order."""
    return classify_embeddings(classifier, embed(classifier.encoder, read, count, batch_size, done))


def apply_class_averages(
    classifier: Classifier,
    predictions: Predictions,
    read: ReadBoxes,
    tilt_range_deg: Float[np.ndarray, "n 2"],
    done: ReportDone | None = None,
) -> Predictions:
    """The predictions after comparing boxes with the averages of their most probable classes.

    Nothing changes where the model keeps no averages.

    Raises
    ------
    ValueError
        When boxes are of another size than those that averages were made of.
    """
    averages, count = classifier.averages, len(tilt_range_deg)
    if averages is None or not count:
        return predictions
    averages.check_size(read(np.arange(1)).shape[-1])
    said = np.log(np.maximum(predictions.probabilities, 1e-12))
    if done is not None:
        done(0, count)
    for start in range(0, count, _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, count))
        seen = prepare_alignment(
            partial(_rows_of, read, rows), tilt_range_deg[rows], classifier.encoder, averages.weight
        )
        said[rows] = averages.reconsidered(said[rows], seen.spectra)
        if done is not None:
            done(int(rows[-1]) + 1, count)
    return replace(predictions, logits=said * classifier.card.temperature, probabilities=np.exp(said))


def _rows_of(read: ReadBoxes, rows: NDArray[np.int64], part: NDArray[np.int64]) -> NDArray[np.float32]:
    return read(rows[part])


@torch.inference_mode()
def classify_embeddings(classifier: Classifier, embeddings: Float[np.ndarray, "n e"]) -> Predictions:
    """What the model says of boxes whose embeddings under its encoder are known."""
    if classifier.similarity is None:
        none = np.zeros((len(embeddings), 0))
        return Predictions(embeddings, none, none, np.full(len(embeddings), np.nan))
    device = next(classifier.parameters()).device
    logits, similarity = np.zeros((len(embeddings), len(classifier.card.class_names))), np.zeros(len(embeddings))
    for start in range(0, len(embeddings), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        embedded = torch.from_numpy(embeddings[part]).to(device)
        logits[part] = classifier.logits(embedded).cpu().numpy()
        similarity[part] = classifier.similarity(embedded).cpu().numpy()
    return Predictions(embeddings, logits, softmax(logits, classifier.card.temperature), similarity)

"""Prediction: embeddings, logits and calibrated probabilities of subtomograms that do not fit into memory at once."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from tomosift.averaging.alignment_input import prepare_alignment
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference.classifier import Classifier
from tomosift.learning.calibration import softmax
from tomosift.models.embedder import Embedder
from tomosift.progress import Progress, ignore_progress

_CHUNK = 1024
"""Embeddings compared with classes at a time; heads that compare pairs make tensors of a thousand times that size."""
_MIN_PROBABILITY = 1e-12

ReadVolumes = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Returns the subtomograms ``(b, d, d, d)`` of these rows."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction of a model for n subtomograms."""

    embeddings: Float[np.ndarray, "n e"]
    logits: Float[np.ndarray, "n k"]
    probabilities: Float[np.ndarray, "n k"]
    """Calibrated by the model's temperature, class averages included; k = 0 for a model without classes."""
    similarity: Float[np.ndarray, " n"]
    """Similarity to the most similar labeled class, -1 to 1; NaN for a model without classes."""

    def __len__(self) -> int:
        return len(self.embeddings)

    def select(self, rows: NDArray[Any]) -> "Prediction":
        """The prediction for these rows."""
        return Prediction(self.embeddings[rows], self.logits[rows], self.probabilities[rows], self.similarity[rows])


def usable_device() -> torch.device:
    """A GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@torch.inference_mode()
def embed_volumes(
    embedder: Embedder, read: ReadVolumes, count: int, batch_size: int = 64, progress: Progress = ignore_progress
) -> Float[np.ndarray, "n e"]:
    """Embed subtomograms that a function reads; see `embed`."""
    encoder, device = embedder.encoder, embedder.device
    is_training = encoder.training
    encoder.eval()
    parts: list[NDArray[Any]] = [np.zeros((0, encoder.embedding_size), dtype=np.float32)]
    for start in range(0, count, batch_size):
        rows = np.arange(start, min(start + batch_size, count))
        parts.append(embedder(torch.from_numpy(read(rows)).to(device)).float().cpu().numpy())
        progress(int(rows[-1]) + 1, count)
    encoder.train(is_training)
    return np.concatenate(parts)


def embed(
    embedder: Embedder, subtomograms: Subtomograms, batch_size: int = 64, progress: Progress = ignore_progress
) -> Float[np.ndarray, "n e"]:
    """Embed all subtomograms of a set, in order, on the device of the encoder, whose mode is left as it was.

    Parameters
    ----------
    embedder
        Of a model (`Classifier.embedder`), or from `fit_embedder`.
    subtomograms
        Set of n subtomograms.
    batch_size
        Subtomograms at a time.
    progress
        Called with the number of embedded subtomograms.
    """
    return embed_volumes(embedder, subtomograms.volumes, len(subtomograms), batch_size, progress)


@torch.inference_mode()
def classify_embeddings(classifier: Classifier, embeddings: Float[np.ndarray, "n e"]) -> Prediction:
    """Classify subtomograms by their embeddings alone; class averages are left to `apply_class_averages`."""
    if classifier.similarity is None:
        none = np.zeros((len(embeddings), 0))
        return Prediction(embeddings, none, none, np.full(len(embeddings), np.nan))
    device = classifier.embedder.device
    logits, similarity = np.zeros((len(embeddings), len(classifier.card.class_names))), np.zeros(len(embeddings))
    for start in range(0, len(embeddings), _CHUNK):
        part = slice(start, start + _CHUNK)
        embedding = torch.from_numpy(embeddings[part]).to(device)
        logits[part] = classifier.logits(embedding).cpu().numpy()
        similarity[part] = classifier.similarity(embedding).cpu().numpy()
    return Prediction(embeddings, logits, softmax(logits, classifier.card.temperature), similarity)


def apply_class_averages(
    classifier: Classifier, prediction: Prediction, subtomograms: Subtomograms, progress: Progress = ignore_progress
) -> Prediction:
    """Update a prediction by aligning subtomograms to the averages of their most probable classes.

    Nothing changes where the model has no class averages.

    Raises
    ------
    ValueError
        The box size is not that of the class averages.
    """
    averages, count = classifier.class_averages, len(subtomograms)
    if averages is None or not count:
        return prediction
    averages.check_box_size(subtomograms.box_size)
    log_posterior = np.log(np.maximum(prediction.probabilities, _MIN_PROBABILITY))
    progress(0, count)
    for start in range(0, count, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, count))
        aligned = prepare_alignment(classifier.embedder, subtomograms.select(rows), averages.weight)
        log_posterior[rows] = averages.update_posterior(log_posterior[rows], aligned.spectra)
        progress(int(rows[-1]) + 1, count)
    logits = log_posterior * classifier.card.temperature
    return replace(prediction, logits=logits, probabilities=np.exp(log_posterior))


def predict_by_embeddings(classifier: Classifier, subtomograms: Subtomograms) -> Prediction:
    """Embed a set and classify it by embeddings alone, as training does to calibrate what comes after it."""
    return classify_embeddings(classifier, embed(classifier.embedder, subtomograms))


def predict(
    classifier: Classifier,
    subtomograms: Subtomograms,
    progress: Progress = ignore_progress,
    alignment_progress: Progress = ignore_progress,
) -> Prediction:
    """Predict the classes of a set of subtomograms: the whole answer of a model, class averages included.

    Each subtomogram is embedded once.

    Parameters
    ----------
    classifier
        Model with classes; one without gives embeddings only.
    subtomograms
        Set of n subtomograms of the voxel spacing of the model.
    progress, alignment_progress
        Called with the number of embedded, and of aligned, subtomograms.

    Returns
    -------
    Prediction
        Embeddings, logits, calibrated probabilities and similarity, in the order of the set.

    Raises
    ------
    ValueError
        The box size is not that of the model's class averages.

    Examples
    --------
    See `tomosift.SubtomogramClassifier` for the whole way from a set to a table.
    """
    if classifier.class_averages is not None:
        classifier.class_averages.check_box_size(subtomograms.box_size)
    prediction = classify_embeddings(classifier, embed(classifier.embedder, subtomograms, progress=progress))
    return apply_class_averages(classifier, prediction, subtomograms, alignment_progress)

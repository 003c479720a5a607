"""Running a trained encoder or classifier over many boxes that do not fit into memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from tomosift.nn.calibration import softmax
from tomosift.nn.classifier import Classifier
from tomosift.nn.crf import CrfSettings, refined
from tomosift.nn.encoder import Encoder

_ROWS_AT_ONCE = 1024
"""Embeddings compared with classes at a time; heads that look at pairs make tensors of a thousand times that size."""

NO_DECODER = "this model makes no masks; take the shipped model general, pretraining from it, or one_shot"

ReadBoxes = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Gives the boxes ``(b, d, d, d)`` of these rows."""

ReportDone = Callable[[int, int], None]
"""Called with the boxes done and the boxes in all."""


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
    familiarity: Float[np.ndarray, " n"]
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


def outlines(
    classifier: Classifier,
    read: ReadBoxes,
    count: int,
    batch_size: int = 32,
    crf: CrfSettings | None = None,
    done: ReportDone | None = None,
) -> Iterator[Float[np.ndarray, "b d d d"]]:
    """Batch by batch the probabilities that voxels belong to the particle, refined by a random field if one is given.

    Raises
    ------
    ValueError
        When the model has no decoder.
    """
    if classifier.decoder is None:
        raise ValueError(NO_DECODER)
    device = next(classifier.parameters()).device
    for start in range(0, count, batch_size):
        rows = np.arange(start, min(start + batch_size, count))
        with torch.inference_mode():
            volume = torch.from_numpy(read(rows)).to(device)
            probability = classifier.decoder(volume, classifier.encoder)[1].float().sigmoid()
            yield (probability if crf is None else refined(probability, volume, crf)).cpu().numpy()
        if done is not None:
            done(int(rows[-1]) + 1, count)


def predict(
    classifier: Classifier, read: ReadBoxes, count: int, batch_size: int = 64, done: ReportDone | None = None
) -> Predictions:
    """Embeddings, logits and calibrated probabilities of all boxes in order."""
    return answers(classifier, embed(classifier.encoder, read, count, batch_size, done))


@torch.inference_mode()
def answers(classifier: Classifier, embeddings: Float[np.ndarray, "n e"]) -> Predictions:
    """What the model says of boxes whose embeddings under its encoder are known."""
    if classifier.familiarity is None:
        none = np.zeros((len(embeddings), 0))
        return Predictions(embeddings, none, none, np.full(len(embeddings), np.nan))
    device = next(classifier.parameters()).device
    logits, familiarity = np.zeros((len(embeddings), len(classifier.card.class_names))), np.zeros(len(embeddings))
    for start in range(0, len(embeddings), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        embedded = torch.from_numpy(embeddings[part]).to(device)
        logits[part] = classifier.logits(embedded).cpu().numpy()
        familiarity[part] = classifier.familiarity(embedded).cpu().numpy()
    return Predictions(embeddings, logits, softmax(logits, classifier.card.temperature), familiarity)

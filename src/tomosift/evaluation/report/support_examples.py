"""The labeled examples behind a prototype classifier, as a report shows them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray

from tomosift.inference.heads import PrototypeHead


@dataclass(frozen=True, eq=False)
class SupportExamples:
    """The m examples of the support set, for a report on n particles."""

    volumes: Float[np.ndarray, "m d d d"]
    label: Int[np.ndarray, " m"]
    nearest: Int[np.ndarray, " n"]
    """Most similar example of each particle, of any class; see `nearest_examples`."""
    masks: Callable[[NDArray[np.int64]], NDArray[np.bool_]] | None = None
    """Takes rows of the report and returns the masks of their particles ``(b, d, d, d)``."""


@torch.inference_mode()
def nearest_examples(
    head: PrototypeHead, embeddings: Float[np.ndarray, "n e"], examples: Float[np.ndarray, "m e"]
) -> Int[np.ndarray, " n"]:
    """Return the index of the most similar example for each particle, by the comparison of the head.

    Parameters
    ----------
    head
        Compares each example as it compares the prototype of a class.
    embeddings
        Of n particles.
    examples
        Embeddings of m examples.
    """
    device = head.prototype.device
    similarity = head.compare(torch.from_numpy(embeddings).to(device), torch.from_numpy(examples).to(device))
    return similarity.argmax(dim=1).cpu().numpy()

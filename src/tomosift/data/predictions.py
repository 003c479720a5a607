"""Predictions as columns of the particle table."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from tomosift.conventions import UNKNOWN_CLASS
from tomosift.particles import Particles

CLASS, CONFIDENCE, NUMBER, PROBABILITY = "tomosiftClass", "tomosiftConfidence", "rlnClassNumber", "tomosiftProbability_"
SIMILARITY = "tomosiftSimilarity"


def with_predictions(
    particles: Particles,
    probabilities: Float[np.ndarray, "n k"],
    similarity: Float[np.ndarray, " n"],
    class_names: tuple[str, ...],
    min_confidence: float = 0.0,
    min_similarity: float = -1.0,
) -> Particles:
    """The particles with their predicted class; every other column stays as it is.

    ``rlnClassNumber`` counts classes from 1 in the order of ``class_names``; 0 is "unknown", the answer where the best
    probability is below ``min_confidence`` or the similarity below ``min_similarity``.
    """
    best = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    known = (confidence >= min_confidence) & ~(similarity < min_similarity)
    names = np.array([class_names[k] if sure else UNKNOWN_CLASS for k, sure in zip(best, known, strict=True)], object)
    columns = {NUMBER: np.where(known, best + 1, 0), CLASS: names, CONFIDENCE: np.round(confidence, 6)}
    columns[SIMILARITY] = np.round(similarity, 4)
    # A STAR value must not hold spaces, neither must a column's name.
    columns |= {PROBABILITY + "_".join(n.split()): np.round(probabilities[:, k], 6) for k, n in enumerate(class_names)}
    return replace(particles.with_columns(columns), class_name=names, score=confidence)

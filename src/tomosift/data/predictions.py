"""Predictions as columns of the particle table."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from tomosift.conventions import UNKNOWN_CLASS
from tomosift.io.particles.class_values import number_classes
from tomosift.particles import Particles

CLASS = "tomosiftClass"
"""Name of the predicted class, or "unknown"."""
CONFIDENCE = "tomosiftConfidence"
"""Probability of the most probable class."""
SIMILARITY = "tomosiftSimilarity"
"""Similarity to the nearest labeled class."""
NUMBER = "rlnClassNumber"
"""Number of the predicted class, from 1; 0 is "unknown"."""
INPUT_NUMBER = "tomosiftInputClassNumber"
"""The ``rlnClassNumber`` that the particles came with, such as that of a classification by RELION."""
EXAMPLE = "tomosiftIsExample"
"""1 for a labeled example, whose class is its label; 0 for a particle whose class is predicted."""
PROBABILITY_PREFIX = "tomosiftProbability_"
"""Start of the name of each class's column of probabilities; see `probability_column`."""


def probability_column(class_name: str) -> str:
    """Return the name of the column that holds the probability of a class.

    Examples
    --------
    >>> from tomosift.data.predictions import probability_column
    >>> probability_column("ribosome 70S")
    'tomosiftProbability_ribosome_70S'
    """
    # A STAR value must not hold spaces, neither must a column's name.
    return PROBABILITY_PREFIX + "_".join(class_name.split())


def with_predictions(
    particles: Particles,
    probabilities: Float[np.ndarray, "n k"],
    similarity: Float[np.ndarray, " n"],
    class_names: tuple[str, ...],
    min_confidence: float = 0.0,
    min_similarity: float = -1.0,
) -> Particles:
    """Return the particles with their predicted class; every other column stays as it is.

    An ``rlnClassNumber`` of another program is kept as ``tomosiftInputClassNumber``.

    Parameters
    ----------
    particles
        The n particles.
    probabilities
        (n, k) of each class.
    similarity
        (n,) to the nearest labeled class, -1 to 1; NaN where it is not known.
    class_names
        The k classes; ``rlnClassNumber`` is the number in their names where all have one, and else counts from 1.
    min_confidence, min_similarity
        Particles below either threshold are predicted "unknown", with class number 0.

    Examples
    --------
    >>> import numpy as np
    >>> from tomosift.data.predictions import CLASS, with_predictions
    >>> from tomosift.particles import Particles
    >>> particles = Particles.create(["TS_01"] * 2, np.zeros((2, 3)))
    >>> probabilities = np.array([[0.9, 0.1], [0.45, 0.55]])
    >>> predictions = with_predictions(particles, probabilities, np.ones(2), ("a", "b"), min_confidence=0.6)
    >>> predictions.columns[CLASS].tolist()
    ['a', 'unknown']
    """
    best = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    is_known = (confidence >= min_confidence) & ~(similarity < min_similarity)
    names = np.array(
        [class_names[k] if known else UNKNOWN_CLASS for k, known in zip(best, is_known, strict=True)], object
    )
    columns: dict[str, np.ndarray] = {}
    if NUMBER in particles.columns and CLASS not in particles.columns:  # with a class the number is an earlier result
        columns[INPUT_NUMBER] = particles.columns[NUMBER].to_numpy()
    number = number_classes(class_names)
    numbers = np.array([number[name] for name in class_names])
    columns |= {NUMBER: np.where(is_known, numbers[best], 0), CLASS: names, CONFIDENCE: np.round(confidence, 6)}
    columns[SIMILARITY] = np.round(similarity, 4)
    columns |= {probability_column(name): np.round(probabilities[:, k], 6) for k, name in enumerate(class_names)}
    return replace(particles.with_columns(columns), class_name=names, score=confidence)

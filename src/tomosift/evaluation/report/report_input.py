"""What a report is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from tomosift.particles import Particles


@dataclass(frozen=True)
class Comparison:
    """Accuracy of something else on the same particles, such as the same network trained from scratch."""

    name: str
    accuracy: float
    low: float = float("nan")
    """Ends of its 95 % interval; NaN where it has none."""
    high: float = float("nan")


@dataclass(frozen=True)
class ReportInput:
    """Predictions for n particles over k classes, with whatever else is known about them.

    Raises
    ------
    ValueError
        When there is no particle, or the arrays do not fit one another.
    """

    title: str
    particles: Particles
    probabilities: NDArray[np.floating[Any]]
    """(n, k), rows sum to one; the predicted class is the most probable one."""
    class_names: tuple[str, ...]
    true_label: NDArray[np.integer[Any]] | None = None
    """(n,), -1 where unknown; None (or all -1) leaves out everything about accuracy."""
    embeddings: NDArray[np.floating[Any]] | None = None
    """(n, e); None leaves out the map."""
    volumes: Callable[[NDArray[np.int64]], NDArray[np.float32]] | None = None
    """Rows to boxes ``(b, d, d, d)``, zyx, density positive; None leaves out every picture."""
    rotation: NDArray[np.floating[Any]] | None = None
    """(n, 3, 3) poses for the averages, reference to tomogram, zyx, NaN where unknown; None takes the particles'."""
    averages: NDArray[np.floating[Any]] | None = None
    """(k, d, d, d) averages of the classes that particles were compared with, zero where a class has none."""
    comparisons: tuple[Comparison, ...] = ()
    labels_per_class: int | None = None
    min_confidence: float | None = None
    """Particles whose confidence is below are called unknown. Scores count every particle all the same."""
    similarity: NDArray[np.floating[Any]] | None = None
    """(n,) how much each particle looks like any labeled one."""
    min_similarity: float | None = None
    """Particles whose similarity is below are called unknown as well."""
    voxel_spacing_angstrom: float | None = None
    groups: tuple[str, str] = ("class", "classes")
    """What ``class_names`` names: the word for one and for several."""
    notes: tuple[str, ...] = ()
    """Plain sentences a reader should know: what was left out, guessed or warned about."""
    provenance: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Versions, seeds, command, configuration; values may be mappings."""
    seed: int = 0

    def __post_init__(self) -> None:
        n, k = len(self.particles), len(self.class_names)
        if n == 0:
            raise ValueError("there is no particle to report on")
        expected: dict[str, tuple[Any, tuple[int, ...]]] = {"probabilities": (self.probabilities, (n, k))}
        if self.true_label is not None:
            expected["true_label"] = (self.true_label, (n,))
        if self.embeddings is not None:
            expected["embeddings"] = (self.embeddings, (n, self.embeddings.shape[-1]))
        if self.similarity is not None:
            expected["similarity"] = (self.similarity, (n,))
        if self.rotation is not None:
            expected["rotation"] = (self.rotation, (n, 3, 3))
        if self.averages is not None:
            expected["averages"] = (self.averages, (k, *3 * (self.averages.shape[-1],)))
        for name, (array, shape) in expected.items():
            if array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}, expected {shape}: {n} particles, {k} classes")
        if self.true_label is not None and self.true_label.max() >= k:
            raise ValueError(f"true label {self.true_label.max()} names no class: there are {k}, counted from 0")
        for name in ("probabilities", "embeddings"):
            array = getattr(self, name)
            if array is not None and not np.isfinite(array).all():
                raise ValueError(f"{name} holds NaN or infinite numbers; predict these particles again")

    @cached_property
    def predicted(self) -> Int[np.ndarray, " n"]:
        """The most probable class of each particle."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @cached_property
    def confidence(self) -> Float[np.ndarray, " n"]:
        """The probability of that class."""
        return np.asarray(self.probabilities.max(axis=1), dtype=np.float64)

    @cached_property
    def truth(self) -> Int[np.ndarray, " n"]:
        """True labels, -1 where unknown."""
        return np.full(len(self.particles), -1) if self.true_label is None else self.true_label

    @cached_property
    def wrong(self) -> Bool[np.ndarray, " n"]:
        """Where the true class is known and another one was predicted."""
        return np.asarray((self.truth >= 0) & (self.truth != self.predicted))

    @cached_property
    def unknown(self) -> Bool[np.ndarray, " n"] | None:
        """Which particles are called unknown; None where no threshold was set."""
        if self.min_confidence is None and self.min_similarity is None:
            return None
        unknown = self.confidence < (self.min_confidence or 0.0)
        if self.similarity is not None and self.min_similarity is not None:
            unknown = unknown | (self.similarity < self.min_similarity)
        return np.asarray(unknown)

    @property
    def has_truth(self) -> bool:
        """Whether the true class of any particle is known."""
        return bool((self.truth >= 0).any())

    @cached_property
    def pose(self) -> Float[np.ndarray, "n 3 3"]:
        """Poses used for the averages, NaN where unknown."""
        return self.particles.rotation if self.rotation is None else self.rotation

    def class_name(self, label: int) -> str:
        """The name of a class; ``not known`` for -1."""
        return self.class_names[label] if label >= 0 else "not known"

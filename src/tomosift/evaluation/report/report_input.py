"""The input of a report on a classification."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from tomosift.data.subtomogram_set import Subtomograms
from tomosift.evaluation.cluster_matches import ClusterMatches
from tomosift.evaluation.metrics.calibration import (
    Calibration,
    SelectiveAccuracy,
    measure_calibration,
    measure_selective_accuracy,
)
from tomosift.evaluation.metrics.classification import Scores, score
from tomosift.evaluation.report.domain_comparison import DomainComparison
from tomosift.evaluation.report.support_examples import SupportExamples
from tomosift.inference.prediction import Prediction
from tomosift.learning.clustering import Clusters
from tomosift.particles import Particles


@dataclass(frozen=True)
class Comparison:
    """Accuracy of another classifier on the same particles, such as the same network trained from scratch."""

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
        There is no particle, or the arrays do not fit one another.
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
    """Takes rows and returns subtomograms ``(b, d, d, d)``, zyx, density positive; None leaves out every picture."""
    rotation: NDArray[np.floating[Any]] | None = None
    """(n, 3, 3) orientations for the averages, reference to tomogram, zyx, NaN where unknown; None takes those of the
    particles."""
    class_averages: NDArray[np.floating[Any]] | None = None
    """(k, d, d, d) class averages of the model, zero where a class has none."""
    comparisons: tuple[Comparison, ...] = ()
    labels_per_class: int | None = None
    min_confidence: float | None = None
    """Particles of lower confidence are classified as unknown. Scores count every particle all the same."""
    similarity: NDArray[np.floating[Any]] | None = None
    """(n,) similarity of each particle to the most similar labeled class."""
    min_similarity: float | None = None
    """Particles of lower similarity are classified as unknown as well."""
    voxel_spacing_angstrom: float | None = None
    groups: tuple[str, str] = ("class", "classes")
    """What ``class_names`` names: the word for one and for several."""
    clusters: Clusters | None = None
    """Clusters, where these are the classes."""
    matches: ClusterMatches | None = None
    """Known structures that the clusters may be."""
    domains: DomainComparison | None = None
    """Source and target domain, where the labels are of the source."""
    support: SupportExamples | None = None
    """Examples, where the classes were enrolled from some."""
    notes: tuple[str, ...] = ()
    """Plain sentences for the reader: what was left out, assumed or warned about."""
    provenance: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Versions, seeds, command, configuration; values may be mappings."""
    seed: int = 0

    @classmethod
    def from_prediction(
        cls,
        prediction: Prediction,
        subtomograms: Subtomograms,
        class_names: tuple[str, ...],
        *,
        title: str,
        min_confidence: float | None = None,
        min_similarity: float | None = None,
        **fields: Any,
    ) -> "ReportInput":
        """Return the input of a report on a prediction for a set.

        Parameters
        ----------
        prediction
            For the n subtomograms of the set, with k classes.
        subtomograms
            The set; its particles, volumes and voxel spacing are taken.
        class_names
            Names of the k classes.
        title
            Heading of the report.
        min_confidence, min_similarity
            Thresholds below which particles are unknown. None, 0 and -1, below which nothing lies, set no threshold.
        **fields
            Further fields of `ReportInput`.
        """
        return cls(
            title,
            subtomograms.particles,
            prediction.probabilities,
            class_names,
            min_confidence=min_confidence or None,
            min_similarity=None if min_similarity is None or min_similarity <= -1 else min_similarity,
            **{
                "embeddings": prediction.embeddings,
                "volumes": subtomograms.volumes,
                "similarity": None if np.isnan(prediction.similarity).all() else prediction.similarity,
                "voxel_spacing_angstrom": subtomograms.voxel_spacing_angstrom,
                **fields,
            },
        )

    def __post_init__(self) -> None:
        if len(self.particles) == 0:
            raise ValueError("there is no particle to report on")
        self._check_shapes()
        k = len(self.class_names)
        if self.true_label is not None and self.true_label.max() >= k:
            raise ValueError(f"true label {self.true_label.max()} names no class: there are {k}, counted from 0")
        for name in ("probabilities", "embeddings"):
            array = getattr(self, name)
            if array is not None and not np.isfinite(array).all():
                raise ValueError(f"{name} holds NaN or infinite numbers; predict these particles again")

    def _check_shapes(self) -> None:
        n, k = len(self.particles), len(self.class_names)
        expected: dict[str, tuple[int, ...]] = {
            "probabilities": (n, k),
            "true_label": (n,),
            "embeddings": (n, -1),
            "similarity": (n,),
            "rotation": (n, 3, 3),
            "class_averages": (k, -1, -1, -1),
        }
        for name, shape in expected.items():
            array = getattr(self, name)
            if array is None:
                continue
            shape = tuple(array.shape[-1] if size == -1 else size for size in shape)
            if array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}, expected {shape}: {n} particles, {k} classes")

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

    @property
    def has_truth(self) -> bool:
        """Whether the true class of any particle is known."""
        return bool((self.truth >= 0).any())

    @cached_property
    def is_wrong(self) -> Bool[np.ndarray, " n"]:
        """Where the true class is known and another one was predicted."""
        return np.asarray((self.truth >= 0) & (self.truth != self.predicted))

    @cached_property
    def is_unknown(self) -> Bool[np.ndarray, " n"] | None:
        """Which particles are classified as unknown; None where no threshold was set."""
        if self.min_confidence is None and self.min_similarity is None:
            return None
        unknown = self.confidence < (self.min_confidence or 0.0)
        if self.similarity is not None and self.min_similarity is not None:
            unknown = unknown | (self.similarity < self.min_similarity)
        return np.asarray(unknown)

    @cached_property
    def orientations(self) -> Float[np.ndarray, "n 3 3"]:
        """Orientations used for the averages, NaN where unknown."""
        return self.particles.rotation if self.rotation is None else self.rotation

    @cached_property
    def scores(self) -> Scores | None:
        """Scores with their intervals; None where no true class is known."""
        if not self.has_truth:
            return None
        return score(self.truth, self.predicted, self.class_names, self.particles.tomogram, seed=self.seed)

    @cached_property
    def calibration(self) -> Calibration | None:
        """Confidence against accuracy; None where no true class is known."""
        return measure_calibration(self.probabilities, self.truth) if self.has_truth else None

    @cached_property
    def selective_accuracy(self) -> SelectiveAccuracy | None:
        """Accuracy for every threshold on the confidence; None where no true class is known."""
        return measure_selective_accuracy(self.probabilities, self.truth) if self.has_truth else None

    def class_name(self, label: int) -> str:
        """Return the name of a class; ``not known`` for -1."""
        return self.class_names[label] if label >= 0 else "not known"

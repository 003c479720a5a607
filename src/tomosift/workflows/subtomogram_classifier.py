"""The classifier of the Python API: fit it to a few labels, predict the class of every particle."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from tomosift import methods
from tomosift.data.labels import label_subtomograms
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import Classifier
from tomosift.inference.model_files import load_classifier, save_classifier
from tomosift.inference.prediction import Prediction, embed
from tomosift.methods.supervised import Config
from tomosift.particles import Particles
from tomosift.progress import Monitor
from tomosift.workflows.classify import check_model, predict_with_progress, tabulate
from tomosift.workflows.enrollment import enroll

Labels = Particles | Path | str | Sequence[str] | NDArray[Any] | Subtomograms | None
"""Particles with classes, a table of them, one class name for each particle of the set ("" for none), another set with
classes, or None for the classes that the set came with."""


class SubtomogramClassifier(BaseEstimator):  # type: ignore[misc]
    """Classifies subtomograms from a few labels.

    It follows the conventions of scikit-learn: parameters in the constructor, fitted attributes that end in an
    underscore, ``get_params``, ``set_params`` and ``clone``. What it is fitted to is a set of subtomograms on disk
    (`tomosift.Subtomograms`), labeled and unlabeled ones together.

    Parameters
    ----------
    method
        ``"supervised"`` fine-tunes an encoder and a head, as the command ``sort``. ``"prototypes"`` trains nothing and
        compares particles with the mean of each class, as the command ``identify``.
    init
        Shipped model, run, or folder of a model to start from; None trains from scratch (``"supervised"`` only).
    class_averages
        ``"auto"`` aligns the particles of each class and compares particles with the class averages as well, where
        they do not lower the accuracy; ``"never"`` classifies by embeddings alone.
    min_confidence
        Particles of lower confidence (0 to 1) are predicted "unknown".
    min_similarity
        Particles whose similarity to every labeled class is lower (-1 to 1) are predicted "unknown".
    config
        Further settings of supervised training (`tomosift.methods.supervised.Config`); the parameters above have
        precedence.
    label_tolerance_angstrom
        Largest distance between a label and its particle.
    folder
        Folder for the run of supervised training, which is resumed if it was interrupted; None keeps nothing on disk.
    seed
        Seed of all random numbers.

    Attributes
    ----------
    classes_ : numpy.ndarray
        Names of the k classes, in the order of the probabilities.
    classifier_ : tomosift.inference.classifier.Classifier
        The fitted model.
    averages_reason_ : str
        Why the model has no class averages; empty if it has some, or if none were computed.

    Notes
    -----
    Source: Gupta et al. 2022, Front. Physiol. 13:957484, for supervised fine-tuning of a pretrained encoder; Snell et
    al. 2017, "Prototypical networks for few-shot learning", for prototypes.

    Examples
    --------
    >>> import tomosift
    >>> from sklearn.base import clone
    >>> classifier = tomosift.SubtomogramClassifier(method="prototypes", min_confidence=0.5)
    >>> clone(classifier).get_params()["min_confidence"]
    0.5

    With a set of subtomograms and a table of labels::

        subtomograms = tomosift.open_subtomograms("subtomograms")
        classifier.fit(subtomograms, "labels.star")
        tomosift.write_particles("classified.star", classifier.predict(subtomograms))
    """

    def __init__(
        self,
        method: Literal["supervised", "prototypes"] = "supervised",
        *,
        init: Path | str | None = "general",
        class_averages: Literal["auto", "never"] = "auto",
        min_confidence: float = 0.0,
        min_similarity: float = -1.0,
        config: Config | None = None,
        label_tolerance_angstrom: float = 30.0,
        folder: Path | str | None = None,
        seed: int = 0,
    ) -> None:
        self.method = method
        self.init = init
        self.class_averages = class_averages
        self.min_confidence = min_confidence
        self.min_similarity = min_similarity
        self.config = config
        self.label_tolerance_angstrom = label_tolerance_angstrom
        self.folder = folder
        self.seed = seed

    def fit(
        self, subtomograms: Subtomograms, labels: Labels = None, monitor: Monitor | None = None
    ) -> "SubtomogramClassifier":
        """Fit the classifier to a set of subtomograms of which a few are labeled.

        Parameters
        ----------
        subtomograms
            Labeled and unlabeled subtomograms.
        labels
            Classes of a few of them, see `Labels`.
        monitor
            Shows the stages.

        Returns
        -------
        SubtomogramClassifier
            Itself.

        Raises
        ------
        ValueError
            There are no labels, or fewer than two classes for supervised training.
        """
        if self.method not in ("supervised", "prototypes"):
            raise ValueError(f"method is {self.method!r}, expected 'supervised' or 'prototypes'")
        labeled = self._label(subtomograms, labels)
        monitor = monitor or Monitor()
        self.averages_reason_ = ""
        if self.method == "supervised":
            self.classifier_ = self._train(subtomograms, labeled, monitor)
        else:
            self.classifier_ = self._enroll(subtomograms, labeled.select(labeled.labeled_rows), monitor)
        self.classes_ = np.array(self.classifier_.card.class_names)
        return self

    def predict(self, subtomograms: Subtomograms, monitor: Monitor | None = None) -> Particles:
        """Predict the class of every particle of a set.

        Parameters
        ----------
        subtomograms
            Set of n subtomograms of the voxel spacing that the classifier was fitted at.
        monitor
            Shows the stages.

        Returns
        -------
        Particles
            The particles of the set with their class, and as columns the class number (0 for "unknown"), confidence,
            similarity and one probability for each class.
        """
        return tabulate(self.predict_all(subtomograms, monitor), self._fitted(), subtomograms)

    def predict_proba(self, subtomograms: Subtomograms, monitor: Monitor | None = None) -> Float[np.ndarray, "n k"]:
        """Predict the calibrated probability of each class, in the order of ``classes_``; parameters as `predict`."""
        return self.predict_all(subtomograms, monitor).probabilities

    def predict_all(self, subtomograms: Subtomograms, monitor: Monitor | None = None) -> Prediction:
        """Predict embeddings, logits, probabilities and similarity, each subtomogram embedded once."""
        classifier = self._fitted()
        check_model(classifier, Path("the classifier"), subtomograms)
        return predict_with_progress(classifier, subtomograms, monitor or Monitor())

    def transform(self, subtomograms: Subtomograms) -> Float[np.ndarray, "n e"]:
        """Embed a set of subtomograms by the encoder of the fitted classifier."""
        return embed(self._fitted().embedder, subtomograms)

    def score(self, subtomograms: Subtomograms, labels: Labels = None) -> float:
        """Share of the labeled particles that are predicted right; label a part that `fit` did not use.

        Parameters
        ----------
        subtomograms
            The set.
        labels
            True classes, as in `fit`.
        """
        labeled = self._label(subtomograms, labels)
        part = labeled.select(labeled.labeled_rows)
        truth = part.particles.class_name.astype(str)
        probability = self.predict_proba(part)
        return float((self.classes_[probability.argmax(axis=1)] == truth).mean())

    def save(self, folder: Path | str) -> None:
        """Save the fitted model into a folder, for `load` and for the commands of the command line."""
        save_classifier(Path(folder), self._fitted())

    @classmethod
    def load(cls, folder: Path | str) -> "SubtomogramClassifier":
        """Load a classifier from a run, or from a folder that `save` wrote.

        Raises
        ------
        FormatError
            There is no finished model.
        ValueError
            The model has no classes.
        """
        model = load_classifier(Path(folder))
        if not model.card.class_names:
            raise ValueError(f"{folder} was trained without classes; fit a classifier that starts from it (init=...)")
        method: Literal["supervised", "prototypes"] = "supervised" if model.card.head == "linear" else "prototypes"
        classifier = cls(
            method, init=folder, min_confidence=model.card.min_confidence, min_similarity=model.card.min_similarity
        )
        classifier.classifier_, classifier.classes_ = model, np.array(model.card.class_names)
        classifier.averages_reason_ = ""
        return classifier

    def _fitted(self) -> Classifier:
        if not hasattr(self, "classifier_"):
            raise ValueError("this SubtomogramClassifier is not fitted; call fit with a set and labels first")
        model: Classifier = self.classifier_
        return model

    def _label(self, subtomograms: Subtomograms, labels: Labels) -> Subtomograms:
        if labels is None:
            return subtomograms
        if isinstance(labels, Subtomograms):
            return labels
        if isinstance(labels, Particles | Path | str):
            return label_subtomograms(subtomograms, labels, None, self.label_tolerance_angstrom)
        names = np.array(["" if name is None else str(name) for name in labels], dtype=object)
        if len(names) != len(subtomograms):
            raise ValueError(f"labels has {len(names)} names, expected one for each of {len(subtomograms)} particles")
        return subtomograms.with_labels(names)

    def _train(self, subtomograms: Subtomograms, labeled: Subtomograms, monitor: Monitor) -> Classifier:
        config = replace(
            self.config or Config(),
            init=None if self.init is None else Path(self.init),
            class_averages=self.class_averages,
            min_confidence=self.min_confidence,
            min_similarity=self.min_similarity,
        )
        data = TrainingSets.from_labels(labeled.select(labeled.labeled_rows), subtomograms)
        with tempfile.TemporaryDirectory(prefix="tomosift-") as scratch, monitor.stage("train", "steps") as progress:
            folder = Path(scratch) / "run" if self.folder is None else Path(self.folder)
            return methods.train("supervised", config, data, folder, self.seed, progress)

    def _enroll(self, subtomograms: Subtomograms, support: Subtomograms, monitor: Monitor) -> Classifier:
        if self.init is None:
            raise ValueError("prototypes need a model to start from; set init, for example to 'general'")
        if not len(support):
            raise ValueError("no particle is labeled; label one or more of each class")
        model = load_classifier(Path(self.init))
        enrollment = enroll(model, subtomograms, support, self.class_averages == "auto", monitor)
        self.averages_reason_ = enrollment.reason
        return enrollment.classifier.replace_card(
            min_confidence=self.min_confidence, min_similarity=self.min_similarity
        )

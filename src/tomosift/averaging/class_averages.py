"""Class averages, and the class posterior of particles that are aligned to them.

A subtomogram at SNR 0.1 shows little of its particle; forty of one class, aligned, show its shape. The likelihood of a
subtomogram given a class average, in its best poses, separates classes that embeddings cannot, since embeddings ignore
pose. The mask of an average, placed in the frame of a box, is also a better mask of that particle than its subtomogram
alone gives. `tomosift.averaging.multireference_alignment` computes the averages.
"""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tomosift.averaging.pose_search import Poses, place_in_boxes, search_poses
from tomosift.averaging.whitened_spectra import COEFFICIENTS, GRID, WhitenedSpectra
from tomosift.learning.calibration import laplace_accuracy, match_temperature_to_accuracy
from tomosift.physics.rotation import random_rotations, upsample

AVERAGES_PER_CLASS = 3
"""Averages of each class, each started from another of its particles: errors of one start may be absent in another."""
REFERENCES_PER_CLASS = 2
"""Of these, the ones that serve as references for classification; masks use all of them."""
CANDIDATE_CLASSES = 4
"""Classes whose averages are compared with a subtomogram: the most probable ones by its embedding."""
LIKELIHOOD_WEIGHT = 0.5
"""Weight of the log likelihood ratio: a half, because noise that is not Gaussian makes it overconfident."""

_ROTATIONS = 1500  # about 20 degrees apart
_MASK_TEMPERATURE = 3.0
_MIN_MASK_PROBABILITY = 0.05  # of a class after that temperature, for its mask to contribute


@lru_cache(maxsize=1)
def _rotations() -> Float[np.ndarray, "r 3 3"]:
    """Rotations as an array, the same at every call."""
    return np.asarray(random_rotations(_ROTATIONS, torch.Generator().manual_seed(1)))


def search_rotations() -> Float[Tensor, "r 3 3"]:
    """The rotations of every pose search, the same in every process."""
    return torch.from_numpy(_rotations())


class ClassAverages(nn.Module):
    """Averages of each of k classes, for one box size; a class without averages is all zeros.

    Parameters
    ----------
    classes
        Number k of classes.
    box_size
        Edge d of the subtomograms in voxels.
    """

    density: Tensor
    """(k, s, g, g, g) on the grid of alignment, zero outside of the mask."""
    mask: Tensor
    """(k, s, d, d, d) probability of each voxel of a box to belong to the particle."""
    weight: Tensor
    """(f,) whitening weights of the spectra from which the averages were computed."""
    temperature: Tensor
    """The log posterior is divided by it, so that it is calibrated; see `calibrate`."""

    def __init__(self, classes: int, box_size: int) -> None:
        super().__init__()
        self.register_buffer("density", torch.zeros(classes, AVERAGES_PER_CLASS, GRID, GRID, GRID))
        self.register_buffer("mask", torch.zeros(classes, AVERAGES_PER_CLASS, *3 * (box_size,), dtype=torch.float16))
        self.register_buffer("weight", torch.zeros(COEFFICIENTS))
        self.register_buffer("temperature", torch.ones(()))

    @property
    def box_size(self) -> int:
        """Edge in voxels of the subtomograms from which the averages were computed."""
        return self.mask.shape[-1]

    def check_box_size(self, box_size: int) -> None:
        """Refuse subtomograms in which the averages would have another scale.

        Raises
        ------
        ValueError
            The box size is another one.
        """
        if box_size != self.box_size:
            raise ValueError(
                f"the box size of the subtomograms is {box_size} voxels but the class averages of the model have "
                f"{self.box_size}; extract with --box-size {self.box_size}"
            )

    @property
    def has_average(self) -> Bool[Tensor, " k"]:
        """Which classes have averages."""
        return self.density.flatten(1).any(1)

    def display_densities(self, box_size: int) -> Float[np.ndarray, "k e e e"]:
        """The first average of each class on about the grid of the subtomograms, for pictures."""
        first = self.density[:, 0]
        return np.asarray(upsample(first.cpu(), max(1, round(box_size / GRID))))

    def update_posterior(
        self, log_probability: Float[np.ndarray, "n k"], spectra: WhitenedSpectra
    ) -> Float[np.ndarray, "n k"]:
        """Log posterior of the classes given the prior of the embeddings and the likelihood of the averages.

        The `CANDIDATE_CLASSES` most probable classes of each subtomogram are compared. A class that was not compared
        keeps its distance to the least likely of those; a class without averages keeps its distance to the most likely.

        Parameters
        ----------
        log_probability
            Log prior, for example of `tomosift.inference.prediction.classify_embeddings`.
        spectra
            Of the recentered subtomograms.
        """
        if self.has_average.sum() < 2 or not len(log_probability):
            return log_probability
        likelihood = self._log_likelihood(self._candidate_classes(log_probability), spectra)
        log_posterior = log_probability + LIKELIHOOD_WEIGHT * likelihood
        log_posterior = log_posterior / float(self.temperature)
        return np.asarray(log_posterior - np.logaddexp.reduce(log_posterior, axis=1, keepdims=True))

    def calibrate(
        self,
        log_probability: Float[np.ndarray, "n k"],
        spectra: WhitenedSpectra,
        label: Int[np.ndarray, " m"],
        held_out: WhitenedSpectra,
        out_of_fold: Float[np.ndarray, "m k"] | None,
        embedding_accuracy: float | None = None,
    ) -> None:
        """Set the temperature so that the mean confidence equals the accuracy expected from labeled particles.

        Parameters
        ----------
        log_probability, spectra
            Of n particles of any class, whose mean confidence is matched.
        label, held_out
            Of m labeled particles that took no part in the averages, see
            `tomosift.averaging.multireference_alignment.select_held_out`.
        out_of_fold
            Their log probabilities by a model that did not learn from the label of each. Without them, as with one
            label per class, the accuracy is estimated by `_expected_accuracy`.
        embedding_accuracy
            Share of the n particles that embeddings alone classify right, if an estimate exists.

        Notes
        -----
        Source: ours; Laplace's rule as in `tomosift.learning.calibration.fit_temperature_few_labels`.
        """
        self.temperature = torch.ones(())
        log_posterior = self.update_posterior(log_probability, spectra)
        if out_of_fold is None:
            accuracy = self._expected_accuracy(
                log_probability, log_posterior, spectra, label, held_out, embedding_accuracy
            )
        else:
            accuracy = laplace_accuracy(self.update_posterior(out_of_fold, held_out), label)
        self.temperature = torch.tensor(match_temperature_to_accuracy(log_posterior, accuracy))

    def _expected_accuracy(
        self,
        log_probability: Float[np.ndarray, "n k"],
        log_posterior: Float[np.ndarray, "n k"],
        spectra: WhitenedSpectra,
        label: Int[np.ndarray, " m"],
        held_out: WhitenedSpectra,
        embedding_accuracy: float | None,
    ) -> float:
        """Expected accuracy where leaving a label out would leave its class without any.

        It is the product of two accuracies: of the names of classes and of the assignment of particles. A class gets a
        wrong name where its labeled particle lies among particles of another class. So the averages of all classes are
        compared with each labeled particle. Their accuracy on it is that of any particle whose final assignment they
        reproduce, provided that its class has the right name.

        For the assignment, averages are assumed to contribute as much as embeddings: the odds of being right are those
        of ``embedding_accuracy``, squared. They fall where most of the members of the averages were assigned wrongly.
        Without that estimate, particles are assigned right about as often as averages and embeddings agree.
        """
        has_average = self.has_average.cpu().numpy()
        fit = self._log_likelihood(np.tile(has_average, (len(log_posterior), 1)), spectra)
        if embedding_accuracy is None:
            likely = np.where(self._candidate_classes(log_probability), fit, -np.inf)
            assigned = (likely.argmax(axis=1) == log_probability.argmax(axis=1)).mean()
        else:
            assigned = embedding_accuracy**2 / (embedding_accuracy**2 + (1 - embedding_accuracy) ** 2)
        consistent = (fit.argmax(axis=1) == log_posterior.argmax(axis=1)).mean()
        named = laplace_accuracy(self._log_likelihood(np.tile(has_average, (len(label), 1)), held_out), label)
        return float(assigned * min(1.0, named / max(consistent, 1e-9)))

    def _candidate_classes(self, log_probability: Float[np.ndarray, "n k"]) -> Bool[np.ndarray, "n k"]:
        """The most probable classes of each particle that have averages."""
        has_average = self.has_average.cpu().numpy()
        ranked = np.where(has_average, log_probability, -np.inf)
        candidate = np.zeros(ranked.shape, dtype=bool)
        np.put_along_axis(candidate, np.argsort(-ranked, axis=1)[:, :CANDIDATE_CLASSES], True, axis=1)
        return np.asarray(candidate & has_average)

    @torch.inference_mode()
    def _log_likelihood(self, candidate: Bool[np.ndarray, "n k"], spectra: WhitenedSpectra) -> Float[np.ndarray, "n k"]:
        """Log likelihood ratio of the candidate classes; others have that of the least, or the most, likely one."""
        has_average = self.has_average.cpu().numpy()
        likelihood = np.full(candidate.shape, np.nan)
        for k in np.flatnonzero(has_average):
            rows = np.flatnonzero(candidate[:, k])
            poses = self._search_poses(int(k), spectra.select(torch.from_numpy(rows)), REFERENCES_PER_CLASS)
            each = [one.log_likelihood for one in poses]
            likelihood[rows, k] = torch.logsumexp(torch.stack(each), 0).numpy() - np.log(len(each))
        best, least = np.nanmax(likelihood, axis=1, keepdims=True), np.nanmin(likelihood, axis=1, keepdims=True)
        return np.asarray(np.where(candidate, likelihood, np.where(has_average, least, best)))

    @torch.inference_mode()
    def place_masks(
        self, probability: Float[np.ndarray, "n k"], spectra: WhitenedSpectra
    ) -> tuple[Float[Tensor, "n d d d"], Float[Tensor, " n"]]:
        """Place the masks of the class averages in the frames of recentered subtomograms.

        Classes are weighted by the root of order `_MASK_TEMPERATURE` of their probabilities, so that one wrong class
        does not determine the mask.

        Returns
        -------
        mask
            Probability of each voxel.
        certainty
            Total weight of the classes that contributed, 0 to 1.
        """
        flat = probability ** (1 / _MASK_TEMPERATURE)
        flat /= np.maximum(flat.sum(axis=1, keepdims=True), 1e-12)
        size, count = self.box_size, len(probability)
        mask, certainty = torch.zeros(count, size, size, size), torch.zeros(count)
        for k in self.has_average.nonzero()[:, 0].tolist():
            rows = torch.from_numpy(np.flatnonzero(flat[:, k] > _MIN_MASK_PROBABILITY))
            weight = torch.from_numpy(flat[rows.numpy(), k]).float()
            for start, poses in enumerate(self._search_poses(k, spectra.select(rows), AVERAGES_PER_CLASS)):
                placed = place_in_boxes(self.mask[k, start].float().cpu(), poses)
                mask[rows] += weight[:, None, None, None] / AVERAGES_PER_CLASS * placed
            certainty[rows] += weight
        return mask, certainty

    def _search_poses(self, k: int, spectra: WhitenedSpectra, count: int) -> list[Poses]:
        """Poses of the first ``count`` averages of a class."""
        return [search_poses(density, spectra, search_rotations()) for density in self.density[k, :count].cpu()]

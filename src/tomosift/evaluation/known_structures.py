"""Embeddings of known structures, simulated and imaged like a set, with which its clusters are compared."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomosift.data.subtomogram_set import Subtomograms
from tomosift.evaluation.cluster_matches import KnownStructures
from tomosift.inference.classifier import Classifier
from tomosift.inference.heads import PLDAHead
from tomosift.inference.prediction import embed
from tomosift.learning.clustering import standardize_for_clustering
from tomosift.physics.imaging import ImagingRanges, lab_protocol
from tomosift.progress import Progress, ignore_progress
from tomosift.simulation.dataset_config import class_name_of
from tomosift.simulation.subtomograms import SubtomogramSetConfig, simulate_subtomograms

PER_CLASS = 30
"""Simulated subtomograms of each known structure, with and without CTF."""
SEED = 500


def imaging_of_set(subtomograms: Subtomograms, has_ctf: bool) -> ImagingRanges:
    """Return imaging conditions like those of a set: its tilt ranges, and wide ranges of what it does not state."""
    half = np.abs(subtomograms.tilt_range_deg).mean(axis=1)
    tilt = (float(half.min()), float(half.max()))
    return replace(
        lab_protocol(),
        snr=(0.05, 0.3),
        max_tilt_deg=tilt,
        defocus_um=(2.0, 6.0),
        shift_voxels=(-2.0, 2.0),
        has_ctf=has_ctf,
    )


def embed_known_structures(
    classifier: Classifier,
    structures: tuple[str, ...],
    subtomograms: Subtomograms,
    folder: Path,
    progress: Progress = ignore_progress,
) -> KnownStructures:
    """Simulate subtomograms of known structures and return their mean embeddings.

    They are simulated with and without CTF, because a set does not state whether its CTF was corrected.

    Parameters
    ----------
    classifier
        Model with a PLDA head, adapted to the set (`Classifier.adapt_to`).
    structures
        Names of the atlas, structure files or map files.
    subtomograms
        Set that gives box size, voxel spacing and tilt ranges.
    folder
        Where the simulated sets are kept.
    progress
        Called with the number of simulated and embedded subtomograms.

    Raises
    ------
    ValueError
        The model has no PLDA head, without which embeddings of two sets are not comparable.
    """
    if not isinstance(classifier.head, PLDAHead):
        raise ValueError(
            "the model has no PLDA head, which compares embeddings of two sets; use the shipped model general"
        )
    names = tuple(class_name_of(structure) for structure in structures)
    means = []
    for number, has_ctf in enumerate((True, False)):
        config = SubtomogramSetConfig(
            structures,
            PER_CLASS,
            subtomograms.box_size,
            imaging_of_set(subtomograms, has_ctf),
            subtomograms.voxel_spacing_angstrom,
            seed=SEED + number,
        )
        below = folder / ("with-ctf" if has_ctf else "without-ctf")
        means.append(_embed_simulated(classifier, config, below, _PartialProgress(progress, 2 * number)))
    return KnownStructures(names, np.mean(means, axis=0))


@dataclass(frozen=True)
class _PartialProgress:
    """Progress of one of four equal stages: simulation and embedding, with and without CTF."""

    progress: Progress
    stage: int

    def __call__(self, done: int, total: int, note: str = "") -> None:
        self.progress(self.stage * total + done, 4 * total, note)


def _embed_simulated(
    classifier: Classifier, config: SubtomogramSetConfig, folder: Path, progress: _PartialProgress
) -> NDArray[np.float32]:
    """Return the mean embedding of each structure."""
    simulated = simulate_subtomograms(config, folder, progress=progress)
    embeddings = embed(classifier.embedder, simulated, progress=replace(progress, stage=progress.stage + 1))
    standardized = standardize_for_clustering(embeddings, classifier.plda)
    return np.stack([standardized[simulated.label == k].mean(axis=0) for k in range(len(config.classes))])

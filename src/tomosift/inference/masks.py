"""Masks: which voxels of its box belong to each particle."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tomosift.averaging.alignment_input import align_volumes
from tomosift.averaging.class_averages import ClassAverages
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference.classifier import Classifier
from tomosift.inference.dense_crf import CrfConfig, refine_masks
from tomosift.models.embedder import Embedder
from tomosift.models.recentering import recenter
from tomosift.progress import Progress, ignore_progress

NO_DECODER = "this model predicts no masks; use the shipped model general, pretraining from it, or one_shot"

MASK_THRESHOLD = 0.45
"""Probability from which a voxel counts as part of the particle; a half leaves too little where masks are uncertain."""
_AVERAGES_WEIGHT = 0.75
"""Weight of the class averages in the mask of a particle whose class is certain; chosen on synthetic complexes, see
experiments/LOG.md."""


def predict_masks(
    classifier: Classifier,
    subtomograms: Subtomograms,
    posterior: Float[np.ndarray, "n k"] | None = None,
    crf: CrfConfig | None = None,
    batch_size: int = 32,
    progress: Progress = ignore_progress,
) -> Iterator[Float[np.ndarray, "b d d d"]]:
    """Predict the probability of each voxel to belong to the particle, batch by batch.

    Parameters
    ----------
    classifier
        Model with a decoder.
    subtomograms
        Set of n subtomograms.
    posterior
        Calibrated class probabilities. With them and class averages, the masks of the averages, placed as they lie in
        each box, contribute as far as the classes are certain.
    crf
        Settings of a dense random field that smooths the masks; None for none.

    Raises
    ------
    ValueError
        The model has no decoder, or the box size is not that of its class averages.
    """
    if classifier.decoder is None:
        raise ValueError(NO_DECODER)
    device = classifier.embedder.device
    count, tilts = len(subtomograms), subtomograms.tilt_range_deg
    for start in range(0, count, batch_size):
        rows = np.arange(start, min(start + batch_size, count))
        with torch.inference_mode():
            volume = torch.from_numpy(subtomograms.volumes(rows)).to(device)
            probability = classifier.decoder(volume, classifier.embedder)[1].float().sigmoid()
            if posterior is not None and classifier.class_averages is not None:
                probability = _combine_with_averages(
                    probability, volume, classifier.embedder, classifier.class_averages, posterior[rows], tilts[rows]
                )
            yield (probability if crf is None else refine_masks(probability, volume, crf)).cpu().numpy()
        progress(int(rows[-1]) + 1, count)


def _combine_with_averages(
    probability: Float[Tensor, "b d d d"],
    volume: Float[Tensor, "b d d d"],
    embedder: Embedder,
    averages: ClassAverages,
    posterior: Float[np.ndarray, "b k"],
    tilt_range_deg: Float[np.ndarray, "b 2"],
) -> Float[Tensor, "b d d d"]:
    """Combine the masks of the decoder with those of the class averages, placed in the boxes."""
    averages.check_box_size(volume.shape[-1])
    aligned = align_volumes(embedder, volume, tilt_range_deg, averages.weight)
    placed, certainty = averages.place_masks(posterior, aligned.spectra)
    placed = recenter(placed, -aligned.offset_zyx_voxels).to(probability)
    own_weight = (1 - _AVERAGES_WEIGHT * certainty).to(probability)
    return _AVERAGES_WEIGHT * placed + own_weight[:, None, None, None] * probability

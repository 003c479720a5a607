"""Write the masks of classified particles: one for each box, or label volumes in the frame of the tomograms."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from tomosift.data.label_volume import LabelVolume
from tomosift.data.predictions import NUMBER
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference.classifier import Classifier
from tomosift.inference.dense_crf import CrfConfig
from tomosift.inference.masks import MASK_THRESHOLD, NO_DECODER, predict_masks
from tomosift.inference.prediction import Prediction
from tomosift.io.volumes import mrc, zarr
from tomosift.particles import Particles
from tomosift.progress import Monitor

_LABEL_VOLUMES = ".zarr"


def check_masks(out: Path, classifier: Classifier, subtomograms: Subtomograms) -> None:
    """Refuse masks that could not be written, before the work rather than after it.

    Raises
    ------
    ValueError
        The suffix is not .mrc, .mrcs or .zarr, the model predicts no masks, or label volumes are requested and the set
        does not record how large its tomograms are, or two of them would get one file.
    """
    if out.suffix not in (".mrc", ".mrcs", _LABEL_VOLUMES):
        raise ValueError(f"masks have the suffix of {out}; expected .mrcs for a stack or .zarr for label volumes")
    if classifier.decoder is None:
        raise ValueError(NO_DECODER)
    if out.suffix != _LABEL_VOLUMES:
        return
    if unknown := sorted(set(subtomograms.tomogram_names) - set(subtomograms.grids)):
        raise ValueError(
            f"{subtomograms.path} does not record how large tomogram {unknown[0]} is, as for imported subtomograms; "
            "write masks to .mrcs"
        )
    files = [_file_name(name) for name in subtomograms.tomogram_names]
    if len(set(files)) < len(files):
        twice = next(file for file in files if files.count(file) > 1)
        raise ValueError(
            f"two tomograms of {subtomograms.path} would both be written to {out / twice}; write masks to .mrcs"
        )


def _file_name(tomogram: str) -> str:
    # A name from a file must not lead out of the folder.
    return f"{re.sub(r'[^A-Za-z0-9._-]', '_', tomogram).lstrip('.') or 'tomogram'}{_LABEL_VOLUMES}"


def write_masks(
    out: Path,
    classifier: Classifier,
    subtomograms: Subtomograms,
    prediction: Prediction,
    particles: Particles,
    crf: bool = False,
    monitor: Monitor | None = None,
) -> None:
    """Write the masks of n classified particles.

    Parameters
    ----------
    out
        ``.mrc`` or ``.mrcs`` is a stack in the order of the particles. ``.zarr`` is a folder with one OME-Zarr label
        volume for each tomogram, at the voxel spacing of the subtomograms, with its first voxel where that of the
        tomogram is. Voxels hold the number of the class; unknown particles are left out.
    classifier
        Model with a decoder.
    subtomograms, prediction, particles
        The set, its prediction, and the table with class numbers.
    crf
        Smooth the masks by a dense random field.
    monitor
        Shows progress.

    Raises
    ------
    ValueError
        See `check_masks`.
    """
    monitor = monitor or Monitor()
    check_masks(out, classifier, subtomograms)
    probability = prediction.probabilities
    if out.suffix == _LABEL_VOLUMES:
        number = particles.columns[NUMBER].to_numpy(np.int64)
        _write_label_volumes(out, classifier, subtomograms, number, probability, crf, monitor)
        return
    masks = _predict(classifier, subtomograms, probability, crf, monitor)
    mrc.write_stack(out, masks, len(subtomograms), subtomograms.box_size, subtomograms.voxel_spacing_angstrom)
    monitor.message(f"{out}: {len(subtomograms)} masks, in the order of the table")


def _predict(
    classifier: Classifier,
    subtomograms: Subtomograms,
    probability: Float[np.ndarray, "n k"],
    crf: bool,
    monitor: Monitor,
) -> Iterator[Bool[np.ndarray, "b d d d"]]:
    with monitor.stage("masks", "subtomograms") as progress:
        for batch in predict_masks(
            classifier, subtomograms, probability, CrfConfig() if crf else None, progress=progress
        ):
            yield batch > MASK_THRESHOLD


def _write_label_volumes(
    out: Path,
    classifier: Classifier,
    subtomograms: Subtomograms,
    number: NDArray[np.int64],
    probability: Float[np.ndarray, "n k"],
    crf: bool,
    monitor: Monitor,
) -> None:
    grids = subtomograms.grids
    names = np.asarray(subtomograms.particles.tomogram, dtype=object).astype(str)
    for name in subtomograms.tomogram_names:
        rows = np.flatnonzero((names == name) & (number > 0))
        volume = LabelVolume(grids[name], subtomograms.voxel_spacing_angstrom)
        done = 0
        for masks in _predict(classifier, subtomograms.select(rows), probability[rows], crf, monitor):
            part = rows[done : done + len(masks)]
            volume.paint(masks, subtomograms.particles.position_zyx_angstrom[part], number[part])
            done += len(masks)
        path = out / _file_name(name)
        zarr.write_volume(path, volume.label, subtomograms.voxel_spacing_angstrom, levels=1)
        monitor.message(f"{path}: masks of {len(rows)} particles")

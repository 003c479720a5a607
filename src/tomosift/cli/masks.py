"""Writing the masks of named particles: a box each, or label volumes in the frame of the tomograms."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray

from tomosift.cli.inputs import set_grids
from tomosift.cli.terminal import print_message, progress_bar
from tomosift.data.label_volume import LabelVolume
from tomosift.data.subtomograms import Subtomograms
from tomosift.inference.classifier import Classifier
from tomosift.inference.dense_crf import CrfConfig
from tomosift.inference.prediction import MASK_THRESHOLD, NO_DECODER, ClassPosterior, predict_masks
from tomosift.io.volumes import mrc, zarr

LABEL_VOLUMES = ".zarr"


def check_masks(out: Path, classifier: Classifier, boxes: Subtomograms) -> None:
    """Refuse masks that could not be written, before the work rather than after it.

    Raises
    ------
    ValueError
        The suffix is not .mrc, .mrcs or .zarr, the model makes no masks, or label volumes are asked for and the set
        does not know how large its tomograms are, or two of them would get one file.
    """
    if out.suffix not in (".mrc", ".mrcs", LABEL_VOLUMES):
        raise ValueError(f"masks are to be written to {out}; expected .mrcs for a stack or .zarr for label volumes")
    if classifier.decoder is None:
        raise ValueError(NO_DECODER)
    if out.suffix == LABEL_VOLUMES and (unknown := sorted(set(boxes.tomogram_names) - set(set_grids(boxes)))):
        raise ValueError(
            f"{boxes.path} does not know how large tomogram {unknown[0]} is, as of ready-made boxes; "
            "write masks to .mrcs"
        )
    files = [_file_name(name) for name in boxes.tomogram_names]
    if out.suffix == LABEL_VOLUMES and len(set(files)) < len(files):
        twice = next(file for file in files if files.count(file) > 1)
        raise ValueError(f"two tomograms of {boxes.path} would both be written to {out / twice}; write masks to .mrcs")


def _file_name(tomogram: str) -> str:
    # A name from a file must not lead out of the folder.
    return f"{re.sub(r'[^A-Za-z0-9._-]', '_', tomogram).lstrip('.') or 'tomogram'}{LABEL_VOLUMES}"


def write_masks(
    out: Path,
    classifier: Classifier,
    boxes: Subtomograms,
    class_number: NDArray[np.int64],
    probability: NDArray[np.float64],
    crf: bool = False,
) -> None:
    """Masks of n particles whose classes count from 1, 0 for unknown, with the (n, k) probabilities of the classes.

    ``out`` in .mrc or .mrcs is a stack in the order of the particles. In .zarr it is a folder that gets one OME-Zarr
    label volume per tomogram, at the spacing of the boxes, its first voxel where that of the tomogram is; voxels hold
    the number of the class, unknown particles are left out.

    Raises
    ------
    ValueError
        See `check_masks`.
    """
    check_masks(out, classifier, boxes)
    if out.suffix == LABEL_VOLUMES:
        _write_label_volumes(out, classifier, boxes, class_number, probability, crf)
        return
    made = _masks(classifier, boxes, probability, crf)
    mrc.write_stack(out, made, len(boxes), boxes.box_size, boxes.voxel_spacing_angstrom)
    print_message(f"{out}: {len(boxes)} masks, in the order of the table")


def _masks(
    classifier: Classifier, boxes: Subtomograms, probability: NDArray[np.float64], crf: bool
) -> Iterator[Bool[np.ndarray, "b d d d"]]:
    settings = CrfConfig() if crf else None
    with progress_bar("masks", "boxes") as update:
        for outline in predict_masks(
            classifier,
            boxes.volumes,
            len(boxes),
            crf=settings,
            done=update,
            named=ClassPosterior(probability, boxes.tilt_range_deg),
        ):
            yield outline > MASK_THRESHOLD


def _write_label_volumes(
    out: Path,
    classifier: Classifier,
    boxes: Subtomograms,
    class_number: NDArray[np.int64],
    probability: NDArray[np.float64],
    crf: bool,
) -> None:
    grids = set_grids(boxes)
    names = np.asarray(boxes.particles.tomogram, dtype=object).astype(str)
    for name in boxes.tomogram_names:
        rows = np.flatnonzero((names == name) & (class_number > 0))
        volume = LabelVolume(grids[name], boxes.voxel_spacing_angstrom)
        done = 0
        for masks in _masks(classifier, boxes.select(rows), probability[rows], crf):
            mine = rows[done : done + len(masks)]
            volume.paint(masks, boxes.particles.position_zyx_angstrom[mine], class_number[mine])
            done += len(masks)
        path = out / _file_name(name)
        zarr.write_volume(path, volume.label, boxes.voxel_spacing_angstrom, levels=1)
        print_message(f"{path}: masks of {len(rows)} particles")

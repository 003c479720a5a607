"""Importing subtomograms that another program extracted."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tomosift
from tomosift.conventions import DEFAULT_TILT_RANGE_DEG
from tomosift.data.extraction.crop import crop_box
from tomosift.data.extraction.dropped_particles import finish_set
from tomosift.data.extraction.extraction_plan import RESAMPLING, particle_digest, prepare_folder
from tomosift.data.extraction.tomogram_cropper import CHUNK_VOXELS, find_fault
from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.subtomogram_set import Subtomograms, open_finished_set
from tomosift.files import content_digest
from tomosift.folder_lock import locked_folder
from tomosift.io.subtomogram_files import SubtomogramFiles
from tomosift.progress import Progress, ignore_progress


def import_subtomograms(
    boxes: SubtomogramFiles,
    out: Path | str,
    *,
    voxel_spacing_angstrom: float | None = None,
    box_size: int | None = None,
    tilt_range_deg: tuple[float, float] | NDArray[Any] = DEFAULT_TILT_RANGE_DEG,
    is_inverted: bool = False,
    class_names: tuple[str, ...] | None = None,
    shard_size: int = 4096,
    remake: bool = False,
    progress: Progress = ignore_progress,
) -> Subtomograms:
    """Import extracted subtomograms into a set on disk, resampled about their center voxel where the spacing differs.

    Parameters
    ----------
    boxes
        The opened files, as of `tomosift.io.subtomogram_files`.
    out
        Folder of the set; an interrupted import is resumed, a finished one opened.
    voxel_spacing_angstrom
        Of the set; None keeps that of the files.
    box_size
        Of the set; None takes the largest that the files fill at the new spacing.
    tilt_range_deg
        ``(2,)`` for all subtomograms or ``(n, 2)``: lowest and highest tilt angle behind them.
    is_inverted
        Density is dark in the files; the sign is changed.
    class_names
        Names of all classes in the order of their labels; None takes those present, sorted.
    shard_size
        Subtomograms per file.
    remake
        Make the set again where the folder holds one of other files or settings.
    progress
        Called with the number of subtomograms done and their total.

    Raises
    ------
    ValueError
        The voxel spacing of the files is unknown, the requested box is larger than theirs, no subtomogram is usable, or
        the folder holds another set.
    """
    source_spacing, spacing, size = _target_grid(boxes, voxel_spacing_angstrom, box_size)
    tilt = np.broadcast_to(np.asarray(tilt_range_deg, dtype=np.float32), (len(boxes), 2))
    provenance = {
        "made_by": "import_boxes",
        "version": tomosift.__version__,
        "boxes": str(boxes.path),
        "content": content_digest([boxes.path]),
        "box_voxel_spacing_angstrom": source_spacing,
        "inverted": is_inverted,
        "class_names_asked": None if class_names is None else list(class_names),
        "resampling": RESAMPLING,
        "particles": particle_digest(boxes.particles),
        "tilt_ranges": hashlib.sha256(np.ascontiguousarray(tilt).tobytes()).hexdigest(),
    }
    grid = {"box_size": size, "voxel_spacing_angstrom": spacing}
    with locked_folder(Path(out)):
        prepare_folder(Path(out), {**provenance, **grid}, remake)
        if (finished := open_finished_set(out, {**provenance, **grid})) is not None:
            return finished
        writer = SubtomogramWriter(out, size, spacing, shard_size, class_names=class_names, provenance=provenance)
        try:
            dropped = _write(writer, boxes, spacing / source_spacing, -1 if is_inverted else 1, tilt, progress)
            return finish_set(writer, boxes.particles, dropped)
        finally:
            writer.abandon()


def _target_grid(
    boxes: SubtomogramFiles, voxel_spacing_angstrom: float | None, box_size: int | None
) -> tuple[float, float, int]:
    """Voxel spacing of the files, and voxel spacing and box size of the set."""
    source_spacing = boxes.voxel_spacing_angstrom
    if source_spacing is None:
        raise ValueError(f"the voxel spacing of {boxes.path} is unknown; state it when reading the boxes")
    if not len(boxes):
        raise ValueError(f"{boxes.path} holds no boxes; check the path")
    spacing = source_spacing if voxel_spacing_angstrom is None else voxel_spacing_angstrom
    largest = int(boxes.box_size / (spacing / source_spacing) + 1e-6)
    size = largest if box_size is None else box_size
    if not 1 <= size <= largest:
        raise ValueError(
            f"box size is {size} voxels of {spacing:g} A, the boxes of {boxes.path} hold {largest} of them; "
            "request a smaller box"
        )
    return source_spacing, spacing, size


def _write(
    writer: SubtomogramWriter,
    boxes: SubtomogramFiles,
    ratio: float,
    sign: int,
    tilt: NDArray[np.float32],
    progress: Progress,
) -> dict[int, str]:
    """Append every usable subtomogram that is not yet written; return the reason for each of the others."""
    written, dropped, done = set(writer.written_order.tolist()), dict[int, str](), 0
    center = np.full(3, float(boxes.box_size // 2))
    for rows, volumes in boxes.chunks(max(1, CHUNK_VOXELS // boxes.box_size**3)):
        kept, cropped = [], []
        for row, volume in zip(rows.tolist(), volumes, strict=True):
            if row in written:
                continue
            box = crop_box(volume, center, writer.box_size, ratio).volume
            if reason := find_fault(box):
                dropped[row] = reason
            else:
                kept.append(row)
                cropped.append(box if sign > 0 else -box)
        if kept:
            order = np.asarray(kept)
            writer.append(np.stack(cropped), boxes.particles.select(order), tilt[kept], order=order)
        done += len(rows)
        progress(done, len(boxes))
    return dropped

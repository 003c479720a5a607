"""Cutting particles out of tomograms into a set of subtomograms."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import tomosift
from tomosift.conventions import DEFAULT_TILT_RANGE_DEG
from tomosift.data.extraction.crop import crop_box
from tomosift.data.extraction.tomogram_cropper import CHUNK_VOXELS, Cropper, crop_in_order, find_fault
from tomosift.data.extraction.tomograms import Tomogram, match_tomograms
from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.subtomogram_set import Subtomograms, open_finished_set
from tomosift.files import written_then_renamed
from tomosift.io.subtomogram_files import Boxes
from tomosift.particles import Particles

Progress = Callable[[int, int], None]
"""Called with the number of particles done and their total."""

DROPPED_FILE = "dropped.csv"
RESAMPLING = "slice where spacing and center fit the voxels, else band-limited resampling in Fourier space"


class NoBoxesError(ValueError):
    """No particle gave a box; ``dropped`` says why for each row."""

    def __init__(self, sentence: str, dropped: dict[int, str]) -> None:
        super().__init__(sentence)
        self.dropped = dropped


@dataclass(frozen=True, eq=False)
class ExtractionRequest:
    """What an extraction asks for, checked."""

    tomograms: dict[str, Tomogram]
    """Those that particles are in."""
    key: NDArray[Any]
    """(n,) Name of the tomogram of each particle."""
    halves: bool
    request: dict[str, Any]
    """By which a set is known to be the answer."""


def plan_extraction(
    particles: Particles,
    tomograms: Mapping[str, Tomogram],
    borders: str,
    halves: bool | None,
    class_names: tuple[str, ...] | None,
) -> ExtractionRequest:
    """The tomograms that are needed, and the description of the set; errors and arguments as of `extract`."""
    if not len(particles):
        raise ValueError("there are no particles to extract; check the particle table")
    if borders not in ("pad", "drop"):
        raise ValueError(f"borders is {borders!r}, expected 'pad' or 'drop'")
    key_of = match_tomograms([str(name) for name in particles.tomogram], tomograms)
    used = {key: tomograms[key] for key in dict.fromkeys(key_of.values())}
    without = [key for key, tomogram in used.items() if tomogram.half_paths is None]
    if halves and without:
        raise ValueError(f"{len(without)} tomograms have no half tomograms, for example {without[0]!r}; set halves off")
    halved = not without if halves is None else halves
    request = {
        "made_by": "extract",
        "version": tomosift.__version__,
        "borders": borders,
        "halves": halved,
        "class_names_asked": None if class_names is None else list(class_names),
        "resampling": RESAMPLING,
        "particles": _digest(particles),
        "tomograms": {key: _described(tomogram) for key, tomogram in used.items()},
    }
    key = np.asarray([key_of[str(name)] for name in particles.tomogram], dtype=object)
    return ExtractionRequest(used, key, halved, request)


def extract(
    particles: Particles,
    tomograms: Mapping[str, Tomogram],
    out: Path | str,
    *,
    voxel_spacing_angstrom: float,
    box_size: int,
    borders: Literal["pad", "drop"] = "pad",
    halves: bool | None = None,
    workers: int = 1,
    class_names: tuple[str, ...] | None = None,
    shard_size: int = 4096,
    progress: Progress | None = None,
) -> Subtomograms:
    """Cut a box around every particle into a set on disk, rescaled to one voxel spacing.

    Each box has its center voxel ``box_size // 2`` at the particle's position to a fraction of a voxel, is resampled
    as `cutting` says, and is brought to zero mean and unit variance. Boxes are not turned: tilt range and pose travel
    with them. Tomograms are visited one after the other; rows of the set keep the order of ``particles``. The same
    call on an interrupted set goes on with it, on a finished one opens it.

    Parameters
    ----------
    tomograms
        By name; names of the particles are matched as `match_tomograms` says.
    voxel_spacing_angstrom
        Of the boxes. Tomograms may have any.
    borders
        What to do with a box that reaches beyond its tomogram: fill it up with the mean of the box's surroundings
        (``"pad"``), or leave the particle out (``"drop"``). A particle whose center is outside is always left out.
    halves
        Also cut from the half tomograms. Left open (None), when every tomogram has them.
    workers
        Threads that cut. The set does not depend on it.
    class_names
        Names of all classes in the order of their labels; those present, sorted, when not given.

    Returns
    -------
    Subtomograms
        ``provenance["dropped"]`` counts the particles left out by reason; ``dropped.csv`` in the folder names them.

    Raises
    ------
    ValueError
        No particle gave a box (the sentence says why), a tomogram is missing, half tomograms are asked for and
        missing, or the folder holds another set.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}, expected at least 1")
    asked = plan_extraction(particles, tomograms, borders, halves, class_names)
    halved = asked.halves
    grid = {"box_size": box_size, "voxel_spacing_angstrom": voxel_spacing_angstrom}
    if (finished := open_finished_set(out, {**asked.request, **grid})) is not None:
        return finished
    writer = SubtomogramWriter(out, box_size, voxel_spacing_angstrom, shard_size, halved, class_names, asked.request)
    remaining = np.setdiff1d(np.arange(len(particles)), writer.written_order)
    done, dropped = len(particles) - len(remaining), dict[int, str]()
    try:
        with ThreadPoolExecutor(workers, thread_name_prefix="extract") as pool:
            for key, tomogram in asked.tomograms.items():
                rows = remaining[asked.key[remaining] == key]
                # Down the tomogram, so that neighboring reads share pages; the order of rows is restored at the end.
                rows = rows[np.argsort(particles.position_zyx_angstrom[rows, 0], kind="stable")]
                cutter = Cropper(tomogram, particles, voxel_spacing_angstrom, box_size, borders, halved)
                for cut in crop_in_order(pool, cutter, rows, workers):
                    tilt = np.asarray(tomogram.acquisition.tilt_range_deg)
                    writer.append(cut.volumes, particles.select(cut.rows), tilt, cut.halves, cut.rows)
                    dropped |= cut.dropped
                    done += len(cut.rows) + len(cut.dropped)
                    if progress is not None:
                        progress(done, len(particles))
        return finish(writer, particles, dropped)
    finally:
        writer.abandon()


def import_subtomograms(
    boxes: Boxes,
    out: Path | str,
    *,
    voxel_spacing_angstrom: float | None = None,
    box_size: int | None = None,
    tilt_range_deg: tuple[float, float] | NDArray[Any] = DEFAULT_TILT_RANGE_DEG,
    is_inverted: bool = False,
    class_names: tuple[str, ...] | None = None,
    shard_size: int = 4096,
    progress: Progress | None = None,
) -> Subtomograms:
    """Bring ready-made boxes into a set on disk, resampled about their center voxel where the spacing differs.

    Parameters
    ----------
    voxel_spacing_angstrom
        Of the set; that of the boxes when not given.
    box_size
        Of the set; what the boxes fill at the new spacing when not given.
    tilt_range_deg
        ``(2,)`` for all boxes or ``(n, 2)``: lowest and highest tilt angle behind them.
    inverted
        Density is dark in the files; the sign is turned.

    Raises
    ------
    ValueError
        The voxel spacing of the boxes is unknown, the asked box is larger than the boxes, no box is usable, or the
        folder holds another set.
    """
    source_spacing = boxes.voxel_spacing_angstrom
    if source_spacing is None:
        raise ValueError(f"the voxel spacing of {boxes.path} is unknown; state it when reading the boxes")
    if not len(boxes):
        raise ValueError(f"{boxes.path} holds no boxes; check the path")
    spacing = source_spacing if voxel_spacing_angstrom is None else voxel_spacing_angstrom
    ratio = spacing / source_spacing
    largest = int(boxes.box_size / ratio + 1e-6)
    size = largest if box_size is None else box_size
    if not 1 <= size <= largest:
        raise ValueError(
            f"box size is {size} voxels of {spacing:g} A, the boxes of {boxes.path} hold {largest} of them; "
            "ask for a smaller box"
        )
    tilt = np.broadcast_to(np.asarray(tilt_range_deg, dtype=np.float32), (len(boxes), 2))
    request = {
        "made_by": "import_boxes",
        "version": tomosift.__version__,
        "boxes": str(boxes.path),
        "box_voxel_spacing_angstrom": source_spacing,
        "inverted": is_inverted,
        "class_names_asked": None if class_names is None else list(class_names),
        "resampling": RESAMPLING,
        "particles": _digest(boxes.particles),
        "tilt_ranges": hashlib.sha256(np.ascontiguousarray(tilt).tobytes()).hexdigest(),
    }
    grid = {"box_size": size, "voxel_spacing_angstrom": spacing}
    if (finished := open_finished_set(out, {**request, **grid})) is not None:
        return finished
    writer = SubtomogramWriter(out, size, spacing, shard_size, class_names=class_names, provenance=request)
    known, dropped, done = set(writer.written_order.tolist()), dict[int, str](), 0
    center = np.full(3, float(boxes.box_size // 2))
    try:
        for rows, volumes in boxes.chunks(max(1, CHUNK_VOXELS // boxes.box_size**3)):
            kept, cut = [], []
            for row, volume in zip(rows.tolist(), volumes, strict=True):
                if row in known:
                    continue
                box = crop_box(volume, center, size, ratio).volume
                if reason := find_fault(box):
                    dropped[row] = reason
                else:
                    kept.append(row)
                    cut.append(-box if is_inverted else box)
            if kept:
                writer.append(
                    np.stack(cut), boxes.particles.select(np.asarray(kept)), tilt[kept], order=np.asarray(kept)
                )
            done += len(rows)
            if progress is not None:
                progress(done, len(boxes))
        return finish(writer, boxes.particles, dropped)
    finally:
        writer.abandon()


def finish(writer: SubtomogramWriter, particles: Particles, dropped: dict[int, str]) -> Subtomograms:
    """Close a set, and name the particles (by row) that were left out of it.

    Raises
    ------
    NoBoxesError
        When that is all of them.
    """
    reasons = Counter(dropped.values())
    if len(dropped) == len(particles):
        why = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
        raise NoBoxesError(
            f"none of {len(particles)} particles gave a box: {why}; check voxel spacing, coordinates and box size",
            dropped,
        )
    if dropped:
        rows = np.asarray(sorted(dropped))
        listed = {"particle_id": particles.particle_id[rows], "tomogram": particles.tomogram[rows]}
        table = pd.DataFrame({"row": rows, **listed, "reason": [dropped[row] for row in rows.tolist()]})
        with written_then_renamed(writer.path / DROPPED_FILE) as temporary:
            table.to_csv(temporary, index=False)
    return writer.close({"dropped": dict(reasons)})


def _digest(particles: Particles) -> str:
    """A fingerprint of the particles, by which an interrupted extraction knows its own."""
    digest = hashlib.sha256()
    for name in ("particle_id", "tomogram", "class_name"):
        digest.update("\0".join(map(str, getattr(particles, name))).encode())
    digest.update(np.ascontiguousarray(particles.position_zyx_angstrom).tobytes())
    digest.update(np.ascontiguousarray(particles.rotation).tobytes())
    return digest.hexdigest()


def _described(tomogram: Tomogram) -> dict[str, Any]:
    low, high = tomogram.acquisition.tilt_range_deg
    return {
        "path": str(tomogram.path),
        "shape_zyx": list(tomogram.grid.shape_zyx),
        "voxel_spacing_angstrom": tomogram.grid.voxel_spacing_angstrom,
        "inverted": tomogram.is_inverted,
        "tilt_range_deg": [low, high],
        "tilt_range_assumed": tomogram.acquisition.tilt_angles_deg.size == 0,
    }

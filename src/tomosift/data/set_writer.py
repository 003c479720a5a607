"""Writing a set of subtomograms, and going on with one that was interrupted."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.data.particle_table import concatenate, read_particle_table, write_particle_table
from tomosift.data.set_reader import (
    FORMAT_VERSION,
    PARTICLE_FILE,
    SET_FILE,
    Subtomograms,
    half_name,
    labels_of,
    mask_name,
    normalized,
    open_subtomograms,
)
from tomosift.data.shards import MASK_DTYPE, ShardWriter, open_shard
from tomosift.errors import FormatError
from tomosift.files import write_json, written_then_renamed
from tomosift.particles import Particles

BEGUN_FILE = "begun.json"


class SubtomogramWriter:
    """Writes a set shard by shard; a folder with whole shards is gone on with, after the last of them.

    Memory holds the particle table and the boxes of one `append`, whatever the size of the set. A shard that exists
    is complete; what had been appended to the shard in progress when the process died is asked for again.

    Parameters
    ----------
    path
        Folder of the set; made if absent.
    box_size
        Edge of the boxes in voxels.
    voxel_spacing_angstrom
        Edge of a voxel.
    shard_size
        Boxes per file.
    halves
        Whether every particle also brings its two half boxes.
    masks
        Whether it also brings the mask of its voxels.
    class_names
        Names of all classes in the order of their labels; those present, sorted, when not given.
    provenance
        JSON values that say how the set is made. A folder begun with another provenance is refused, so that two
        extractions never mix.

    Raises
    ------
    ValueError
        The folder holds a finished set, or the beginning of a different one.
    """

    def __init__(
        self,
        path: Path | str,
        box_size: int,
        voxel_spacing_angstrom: float,
        shard_size: int = 4096,
        halves: bool = False,
        class_names: tuple[str, ...] | None = None,
        provenance: dict[str, Any] | None = None,
        masks: bool = False,
    ) -> None:
        self.path = Path(path)
        if box_size < 1 or shard_size < 1 or not voxel_spacing_angstrom > 0:
            got = f"box size {box_size}, shard size {shard_size}, voxel spacing {voxel_spacing_angstrom}"
            raise ValueError(f"{got}: expected positive numbers")
        self.box_size, self.voxel_spacing_angstrom = box_size, voxel_spacing_angstrom
        self.shard_size, self.has_halves, self.has_masks, self.class_names = shard_size, halves, masks, class_names
        self.provenance = json.loads(json.dumps(provenance or {}))
        self._shards: list[str] = []
        self._parts: list[tuple[Particles, dict[str, NDArray[Any]]]] = []
        self._open: _OpenShard | None = None
        self._pending: list[tuple[Particles, dict[str, NDArray[Any]]]] = []
        self._begin()

    @property
    def written_order(self) -> NDArray[np.int64]:
        """Order keys of every particle in whole shards: what need not be appended again after an interruption."""
        return np.concatenate([np.zeros(0, dtype=np.int64), *(added["order"] for _, added in self._parts)])

    def _begin(self) -> None:
        if (self.path / SET_FILE).exists():
            raise ValueError(f"{self.path} already holds a finished set; choose another folder or remove it first")
        self.path.mkdir(parents=True, exist_ok=True)
        request = {
            "format_version": FORMAT_VERSION,
            "box_size": self.box_size,
            "voxel_spacing_angstrom": self.voxel_spacing_angstrom,
            "shard_size": self.shard_size,
            "has_halves": self.has_halves,
            "has_masks": self.has_masks,
            "provenance": self.provenance,
        }
        begun = self.path / BEGUN_FILE
        if not begun.exists():
            if any(self.path.glob("boxes-*.npy")):
                raise FormatError(begun, "the file", "missing", "the request behind these boxes", "empty the folder")
            write_json(begun, request)
        try:
            earlier = json.loads(begun.read_text())
        except ValueError as error:
            raise FormatError(begun, "its content", "unreadable", "JSON", "empty the folder") from error
        if earlier != request:
            differing = sorted(key for key in request if earlier.get(key) != request[key])
            raise ValueError(
                f"{self.path} holds the beginning of a different set (other {', '.join(differing)}); "
                "run the command that began it to resume, or choose another folder"
            )
        while (self.path / self._name(len(self._shards))).exists():
            name = self._name(len(self._shards))
            count = open_shard(self.path / name, (self.box_size,) * 3).count
            particles, added = read_particle_table(self._table(name))
            if len(particles) != count:
                got = f"{len(particles)} particles"
                raise FormatError(self._table(name), "the table", got, f"{count} particles", "empty the folder")
            self._parts.append((particles, added))
            self._shards.append(name)

    @staticmethod
    def _name(number: int) -> str:
        return f"boxes-{number:05d}.npy"

    def _table(self, name: str) -> Path:
        return self.path / name.replace(".npy", ".parquet")

    def append(
        self,
        volumes: NDArray[Any],
        particles: Particles,
        tilt_range_deg: NDArray[Any],
        halves: NDArray[Any] | None = None,
        order: NDArray[Any] | None = None,
        masks: NDArray[Any] | None = None,
    ) -> None:
        """Add boxes ``(b, d, d, d)`` of the ``b`` particles; each box is brought to zero mean and unit variance.

        Parameters
        ----------
        tilt_range_deg
            ``(b, 2)`` lowest and highest tilt angle, or ``(2,)`` for all.
        halves
            ``(b, 2, d, d, d)`` half boxes; exactly when the writer was made with ``halves``.
        order
            ``(b,)`` unique keys; rows of the finished set are sorted by them. Without, the order of appending.
        masks
            ``(b, d, d, d)`` true where a voxel is the particle's; exactly when the writer was made with ``masks``.

        Raises
        ------
        ValueError
            A shape does not fit, or a box is constant or holds a value that is not a number.
        """
        n, cube = len(particles), (self.box_size,) * 3
        if volumes.shape != (n, *cube):
            raise ValueError(f"boxes have shape {volumes.shape}, expected {(n, *cube)} for {n} particles")
        for name, given, wanted, shape in (
            ("half boxes", halves, self.has_halves, (n, 2, *cube)),
            ("masks", masks, self.has_masks, (n, *cube)),
        ):
            if (given is not None) != wanted:
                got = "given" if given is not None else "missing"
                raise ValueError(f"{name} are {got}, but the set was begun {'with' if wanted else 'without'} them")
            if given is not None and given.shape != shape:
                raise ValueError(f"{name} have shape {given.shape}, expected {shape}")
        boxes = normalized(volumes)
        spread = boxes.std(axis=(1, 2, 3))
        if bad := np.flatnonzero(~(spread > 0)).tolist():
            names = ", ".join(str(name) for name in particles.particle_id[bad[:3]])
            raise ValueError(f"{len(bad)} boxes are constant or not numbers ({names} ...); leave them out")
        first = sum(len(part) for part, _ in self._parts) + sum(len(part) for part, _ in self._pending)
        keys = np.arange(first, first + n) if order is None else np.asarray(order, dtype=np.int64)
        tilt = np.broadcast_to(np.asarray(tilt_range_deg, dtype=np.float32), (n, 2))
        half_boxes = None if halves is None else normalized(halves)
        start = 0
        while start < n:
            opened = self._open or self._start_shard()
            stop = min(n, start + self.shard_size - opened.boxes.count)
            opened.boxes.append(boxes[start:stop])
            for writer, given in ((opened.halves, half_boxes), (opened.masks, masks)):
                if writer is not None and given is not None:
                    writer.append(given[start:stop])
            rows = np.arange(start, stop)
            added = {"order": keys[rows], "tilt_low_deg": tilt[rows, 0], "tilt_high_deg": tilt[rows, 1]}
            self._pending.append((particles.select(rows), added))
            if opened.boxes.count == self.shard_size:
                self._finish_shard()
            start = stop

    def _start_shard(self) -> "_OpenShard":
        name, cube = self._name(len(self._shards)), (self.box_size,) * 3
        self._open = _OpenShard(
            ShardWriter(self.path / name, cube),
            ShardWriter(self.path / half_name(name), (2, *cube)) if self.has_halves else None,
            ShardWriter(self.path / mask_name(name), cube, MASK_DTYPE) if self.has_masks else None,
        )
        return self._open

    def _finish_shard(self) -> None:
        if self._open is None:
            return
        opened, name = self._open, self._open.boxes.path.name
        part, added = _joined(self._pending)
        write_particle_table(self._table(name), part, added)
        for writer in (opened.halves, opened.masks):
            if writer is not None:
                writer.finish()
        # Last: a shard of boxes that exists has everything else beside it.
        opened.boxes.finish()
        self._parts.append((part, added))
        self._shards.append(name)
        self._pending, self._open = [], None

    def adopt(self, part: Subtomograms, order: NDArray[np.int64]) -> None:
        """Take the shards of a finished set as they are, which keeps them; those that are here already are left out.

        Parameters
        ----------
        order
            ``(len(part),)`` keys as of `append`.
        """
        self._finish_shard()
        here, first = set(self.written_order.tolist()), 0
        for number, shard in enumerate(part.shards):
            rows = np.flatnonzero((part.stored >= first) & (part.stored < first + shard.count))
            rows = rows[np.argsort(part.stored[rows])]
            first += shard.count
            if order[rows[0]] in here:
                continue
            name = self._name(len(self._shards))
            tilt = part.tilt_range_deg[rows]
            added: dict[str, NDArray[Any]] = {
                "order": order[rows],
                "tilt_low_deg": tilt[:, 0],
                "tilt_high_deg": tilt[:, 1],
            }
            particles = part.particles.select(rows)
            write_particle_table(self._table(name), particles, added)
            if self.has_halves:
                _shared_or_copied(part.half_shards[number].path, self.path / half_name(name))
            # Last: a shard of boxes that exists has everything else beside it.
            _shared_or_copied(shard.path, self.path / name)
            self._parts.append((particles, added))
            self._shards.append(name)

    def close(self, report: dict[str, Any] | None = None) -> Subtomograms:
        """Finish the set and open it; ``report`` (JSON values) joins its provenance.

        Raises
        ------
        ValueError
            Nothing was appended, or an order key occurs twice.
        """
        self._finish_shard()
        if not self._parts:
            raise ValueError(f"no subtomogram was written to {self.path}; a set needs at least one")
        particles, added = _joined(self._parts)
        rows = np.argsort(added["order"], kind="stable")
        if (np.diff(added["order"][rows]) == 0).any():
            raise ValueError(f"{self.path}: an order key occurs twice; append every particle once")
        columns = {"stored": rows, **{name: added[name][rows] for name in ("tilt_low_deg", "tilt_high_deg")}}
        sorted_particles = particles.select(rows)
        _, class_names = labels_of(sorted_particles.class_name, self.class_names)
        write_particle_table(self.path / PARTICLE_FILE, sorted_particles, columns)
        described = {
            "format_version": FORMAT_VERSION,
            "count": len(rows),
            "box_size": self.box_size,
            "voxel_spacing_angstrom": self.voxel_spacing_angstrom,
            "class_names": list(class_names),
            "has_halves": self.has_halves,
            "has_masks": self.has_masks,
            "shards": self._shards,
            "provenance": {**self.provenance, **(report or {})},
        }
        write_json(self.path / SET_FILE, described)
        (self.path / BEGUN_FILE).unlink()
        for name in self._shards:
            self._table(name).unlink()
        return open_subtomograms(self.path)

    def abandon(self) -> None:
        """Drop the shard in progress; whole shards stay and a later writer goes on after them."""
        opened = () if self._open is None else (self._open.boxes, self._open.halves, self._open.masks)
        for writer in opened:
            if writer is not None:
                writer.discard()
        self._open, self._pending = None, []

    def __enter__(self) -> "SubtomogramWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abandon()
        elif not (self.path / SET_FILE).exists():
            self.close()


def _shared_or_copied(source: Path, target: Path) -> None:
    """The same file under another name, or a copy where the file system knows no second names."""
    with written_then_renamed(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


@dataclass(frozen=True)
class _OpenShard:
    boxes: ShardWriter
    halves: ShardWriter | None
    masks: ShardWriter | None


def _joined(parts: list[tuple[Particles, dict[str, NDArray[Any]]]]) -> tuple[Particles, dict[str, NDArray[Any]]]:
    names = parts[0][1]
    added = {name: np.concatenate([extra[name] for _, extra in parts]) for name in names}
    return concatenate([part for part, _ in parts]), added

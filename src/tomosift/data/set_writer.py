"""Writing a set of subtomograms, and resuming one that was interrupted."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.data.class_names import encode_labels
from tomosift.data.normalization import normalize_volumes
from tomosift.data.particle_table import write_particle_table
from tomosift.data.set_files import (
    FORMAT_VERSION,
    PARTICLE_FILE,
    REQUEST_FILE,
    SET_FILE,
    begin_set,
    half_name,
    shard_name,
    table_name,
)
from tomosift.data.shard_group import (
    ShardGroup,
    TablePart,
    join_parts,
    link_or_copy,
    read_finished_shard,
    tilt_columns,
)
from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.files import write_json
from tomosift.particles import Particles


class SubtomogramWriter:
    """Writes a set shard by shard; in a folder with finished shards it continues after the last of them.

    Memory holds the particle table and the subtomograms of one `append`, whatever the size of the set. A shard that
    exists is complete; the shard in progress when the process died has to be appended again.

    Parameters
    ----------
    path
        Folder of the set; made if absent.
    box_size
        Edge of the subtomograms in voxels.
    voxel_spacing_angstrom
        Edge of a voxel.
    shard_size
        Subtomograms per file.
    has_halves
        Whether `append` also gets the two half boxes of every particle.
    class_names
        Names of all classes in the order of their labels; None takes those present, sorted.
    provenance
        JSON values that say how the set is made. A folder begun with another provenance is refused, so that two
        extractions never mix.
    has_masks
        Whether `append` also gets the mask of every particle.

    Raises
    ------
    ValueError
        The folder holds a finished set, or the beginning of a different one.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from tomosift.data.set_writer import SubtomogramWriter
    >>> from tomosift.particles import Particles
    >>> particles = Particles.create(["TS_01"] * 3, np.zeros((3, 3)))
    >>> writer = SubtomogramWriter(tempfile.mkdtemp(), box_size=8, voxel_spacing_angstrom=10.0)
    >>> writer.append(np.random.default_rng(0).normal(size=(3, 8, 8, 8)), particles, (-60.0, 60.0))
    >>> len(writer.close())
    3
    """

    def __init__(
        self,
        path: Path | str,
        box_size: int,
        voxel_spacing_angstrom: float,
        shard_size: int = 4096,
        has_halves: bool = False,
        class_names: tuple[str, ...] | None = None,
        provenance: dict[str, Any] | None = None,
        has_masks: bool = False,
    ) -> None:
        self.path = Path(path)
        if box_size < 1 or shard_size < 1 or not voxel_spacing_angstrom > 0:
            got = f"box size {box_size}, shard size {shard_size}, voxel spacing {voxel_spacing_angstrom}"
            raise ValueError(f"{got}: expected positive numbers")
        self.box_size, self.voxel_spacing_angstrom = box_size, voxel_spacing_angstrom
        self.shard_size, self.has_halves, self.has_masks = shard_size, has_halves, has_masks
        self.class_names = class_names
        self.provenance = json.loads(json.dumps(provenance or {}))
        request = {
            "format_version": FORMAT_VERSION,
            "box_size": self.box_size,
            "voxel_spacing_angstrom": self.voxel_spacing_angstrom,
            "shard_size": self.shard_size,
            "has_halves": self.has_halves,
            "has_masks": self.has_masks,
            "provenance": self.provenance,
        }
        begin_set(self.path, request)
        self._parts: list[TablePart] = []
        while (self.path / self._next_shard).exists():
            self._parts.append(read_finished_shard(self.path, self._next_shard, self.box_size))
        self._group: ShardGroup | None = None
        self._count = sum(len(particles) for particles, _ in self._parts)

    @property
    def written_order(self) -> NDArray[np.int64]:
        """Order keys of every particle in finished shards, which a resumed writer need not append again."""
        return np.concatenate([np.zeros(0, dtype=np.int64), *(columns["order"] for _, columns in self._parts)])

    @property
    def _next_shard(self) -> str:
        return shard_name(len(self._parts))

    def append(
        self,
        volumes: NDArray[Any],
        particles: Particles,
        tilt_range_deg: NDArray[Any] | tuple[float, float],
        halves: NDArray[Any] | None = None,
        order: NDArray[Any] | None = None,
        masks: NDArray[Any] | None = None,
    ) -> None:
        """Add subtomograms; the writer brings each to zero mean and unit variance.

        Parameters
        ----------
        volumes
            ``(b, d, d, d)`` in zyx.
        particles
            The b particles.
        tilt_range_deg
            ``(b, 2)`` lowest and highest tilt angle, or ``(2,)`` for all.
        halves
            ``(b, 2, d, d, d)`` half boxes; required exactly when the writer was made with ``has_halves``.
        order
            ``(b,)`` unique keys by which the finished set is sorted; None keeps the order of appending.
        masks
            ``(b, d, d, d)`` true where a voxel is the particle's; required exactly when the writer was made with
            ``has_masks``.

        Raises
        ------
        ValueError
            A shape does not fit, or a subtomogram is constant or holds a value that is not a number.
        """
        n = len(particles)
        self._check_shapes(volumes, n, halves, masks)
        boxes = normalize_volumes(volumes)
        _check_varying(boxes, particles)
        keys = np.arange(self._count, self._count + n) if order is None else np.asarray(order, dtype=np.int64)
        tilt = np.broadcast_to(np.asarray(tilt_range_deg, dtype=np.float32), (n, 2))
        half_boxes = None if halves is None else normalize_volumes(halves)
        start = 0
        while start < n:
            group = self._group or self._start_shard()
            rows = np.arange(start, min(n, start + self.shard_size - group.count))
            part = slice(start, start + len(rows))
            group.append(
                (particles.select(rows), tilt_columns(keys[part], tilt[part])),
                boxes[part],
                None if half_boxes is None else half_boxes[part],
                None if masks is None else masks[part],
            )
            self._count += len(rows)
            start += len(rows)
            if group.count == self.shard_size:
                self._finish_shard()

    def _check_shapes(
        self, volumes: NDArray[Any], n: int, halves: NDArray[Any] | None, masks: NDArray[Any] | None
    ) -> None:
        cube = (self.box_size,) * 3
        if volumes.shape != (n, *cube):
            raise ValueError(f"boxes have shape {volumes.shape}, expected {(n, *cube)} for {n} particles")
        for name, array, is_expected, shape in (
            ("half boxes", halves, self.has_halves, (n, 2, *cube)),
            ("masks", masks, self.has_masks, (n, *cube)),
        ):
            if (array is not None) != is_expected:
                got, begun = "given" if array is not None else "missing", "with" if is_expected else "without"
                raise ValueError(f"{name} are {got}, but the set was begun {begun} them")
            if array is not None and array.shape != shape:
                raise ValueError(f"{name} have shape {array.shape}, expected {shape}")

    def _start_shard(self) -> ShardGroup:
        self._group = ShardGroup(self.path, self._next_shard, self.box_size, self.has_halves, self.has_masks)
        return self._group

    def _finish_shard(self) -> None:
        if self._group is not None:
            self._parts.append(self._group.finish())
            self._group = None

    def append_set(self, subtomograms: Subtomograms, order: NDArray[np.int64]) -> None:
        """Link the shards of a finished set into this one; shards that are linked already are skipped.

        Parameters
        ----------
        subtomograms
            A set of the same box size and voxel spacing, with halves where this one has them.
        order
            ``(len(subtomograms),)`` keys as of `append`.
        """
        self._finish_shard()
        written, first = set(self.written_order.tolist()), 0
        for number, shard in enumerate(subtomograms.shards):
            shard_row = subtomograms.shard_row
            rows = np.flatnonzero((shard_row >= first) & (shard_row < first + shard.count))
            rows = rows[np.argsort(shard_row[rows])]
            first += shard.count
            if order[rows[0]] in written:
                continue
            name = self._next_shard
            part = subtomograms.particles.select(rows), tilt_columns(order[rows], subtomograms.tilt_range_deg[rows])
            write_particle_table(self.path / table_name(name), *part)
            if self.has_halves:
                link_or_copy(subtomograms.half_shards[number].path, self.path / half_name(name))
            # Last: a shard of subtomograms that exists has everything else beside it.
            link_or_copy(shard.path, self.path / name)
            self._parts.append(part)
            self._count += len(rows)

    def close(self, more_provenance: dict[str, Any] | None = None) -> Subtomograms:
        """Finish the set and open it.

        Parameters
        ----------
        more_provenance
            JSON values that join the provenance.

        Raises
        ------
        ValueError
            Nothing was appended, or an order key occurs twice.
        """
        self._finish_shard()
        if not self._parts:
            raise ValueError(f"no subtomogram was written to {self.path}; a set needs at least one")
        particles, columns = join_parts(self._parts)
        rows = np.argsort(columns["order"], kind="stable")
        if (np.diff(columns["order"][rows]) == 0).any():
            raise ValueError(f"{self.path}: an order key occurs twice; append every particle once")
        sorted_particles = particles.select(rows)
        stored = {"stored": rows, **{name: columns[name][rows] for name in ("tilt_low_deg", "tilt_high_deg")}}
        write_particle_table(self.path / PARTICLE_FILE, sorted_particles, stored)
        shards = [shard_name(number) for number in range(len(self._parts))]
        description = {
            "format_version": FORMAT_VERSION,
            "count": len(rows),
            "box_size": self.box_size,
            "voxel_spacing_angstrom": self.voxel_spacing_angstrom,
            "class_names": list(encode_labels(sorted_particles.class_name, self.class_names)[1]),
            "has_halves": self.has_halves,
            "has_masks": self.has_masks,
            "shards": shards,
            "provenance": {**self.provenance, **(more_provenance or {})},
        }
        write_json(self.path / SET_FILE, description)
        (self.path / REQUEST_FILE).unlink()
        for name in shards:
            (self.path / table_name(name)).unlink()
        return open_subtomograms(self.path)

    def abandon(self) -> None:
        """Drop the shard in progress; finished shards stay, and a later writer continues after them."""
        if self._group is not None:
            self._count -= self._group.count
            self._group.discard()
        self._group = None

    def __enter__(self) -> "SubtomogramWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abandon()
        elif not (self.path / SET_FILE).exists():
            self.close()


def _check_varying(boxes: NDArray[np.float32], particles: Particles) -> None:
    """Refuse normalized boxes that are constant or hold a value that is not a number."""
    deviation = boxes.std(axis=(1, 2, 3))
    if bad := np.flatnonzero(~(deviation > 0)).tolist():
        names = ", ".join(str(name) for name in particles.particle_id[bad[:3]])
        raise ValueError(f"{len(bad)} boxes are constant or not numbers ({names} ...); leave them out")

"""One shard of a set with everything that lies beside it: half boxes, masks and particle table."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.data.particle_table import concatenate_particles, read_particle_table, write_particle_table
from tomosift.data.set_files import half_name, mask_name, table_name
from tomosift.data.shards import MASK_DTYPE, ShardWriter, open_shard
from tomosift.errors import FormatError
from tomosift.files import written_then_renamed
from tomosift.particles import Particles

TablePart = tuple[Particles, dict[str, NDArray[Any]]]
"""Particles of one shard, and their columns ``order``, ``tilt_low_deg`` and ``tilt_high_deg``."""


def tilt_columns(order: NDArray[np.int64], tilt_range_deg: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Return the columns of a shard's table beside the particles, from order keys (b,) and tilt ranges (b, 2)."""
    return {"order": order, "tilt_low_deg": tilt_range_deg[:, 0], "tilt_high_deg": tilt_range_deg[:, 1]}


def join_parts(parts: Sequence[TablePart]) -> TablePart:
    """Concatenate particles and their columns."""
    columns = {name: np.concatenate([more[name] for _, more in parts]) for name in parts[0][1]}
    return concatenate_particles([particles for particles, _ in parts]), columns


class ShardGroup:
    """Writes one shard of subtomograms with its halves, masks and table under temporary names until `finish`."""

    def __init__(self, folder: Path, name: str, box_size: int, has_halves: bool, has_masks: bool) -> None:
        cube = (box_size,) * 3
        self.folder, self.name = folder, name
        self._boxes = ShardWriter(folder / name, cube)
        self._halves = ShardWriter(folder / half_name(name), (2, *cube)) if has_halves else None
        self._masks = ShardWriter(folder / mask_name(name), cube, MASK_DTYPE) if has_masks else None
        self._parts: list[TablePart] = []

    @property
    def count(self) -> int:
        """Number of subtomograms so far."""
        return self._boxes.count

    def append(
        self, part: TablePart, boxes: NDArray[Any], halves: NDArray[Any] | None, masks: NDArray[Any] | None
    ) -> None:
        """Add subtomograms and what belongs to them."""
        for writer, volumes in ((self._boxes, boxes), (self._halves, halves), (self._masks, masks)):
            if writer is not None and volumes is not None:
                writer.append(volumes)
        self._parts.append(part)

    def finish(self) -> TablePart:
        """Give every file its name and return the shard's table."""
        part = join_parts(self._parts)
        write_particle_table(self.folder / table_name(self.name), *part)
        for writer in (self._halves, self._masks):
            if writer is not None:
                writer.finish()
        # Last: a shard of subtomograms that exists has everything else beside it.
        self._boxes.finish()
        return part

    def discard(self) -> None:
        """Remove the temporary files."""
        for writer in (self._boxes, self._halves, self._masks):
            if writer is not None:
                writer.discard()


def read_finished_shard(folder: Path, name: str, box_size: int) -> TablePart:
    """Return the table beside a finished shard of an unfinished set.

    Raises
    ------
    FormatError
        The table and the shard disagree about the number of particles.
    """
    count = open_shard(folder / name, (box_size,) * 3).count
    table = folder / table_name(name)
    particles, columns = read_particle_table(table)
    if len(particles) != count:
        raise FormatError(table, "the table", f"{len(particles)} particles", f"{count} particles", "empty the folder")
    return particles, columns


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no hard links."""
    with written_then_renamed(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)

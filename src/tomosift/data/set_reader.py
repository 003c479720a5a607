"""An opened set of subtomograms; `tomosift.data.subtomograms` says what a set is."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.conventions import UNLABELED
from tomosift.data.particle_table import read_particle_table
from tomosift.data.shards import MASK_DTYPE, Shard, open_shard, read_rows
from tomosift.errors import FormatError
from tomosift.particles import Particles

FORMAT_VERSION = 1
SET_FILE = "set.json"
PARTICLE_FILE = "particles.parquet"

_ROWS_AT_ONCE = 1024
_LEAST_SPREAD = 0.5  # of a face, as a share of that of faces that were measured


def normalized(volume: NDArray[Any]) -> NDArray[np.float32]:
    """Boxes ``(..., d, d, d)`` with mean 0 and variance 1 each; a constant box becomes zeros."""
    mean = volume.mean(axis=(-3, -2, -1), keepdims=True, dtype=np.float64)
    result: NDArray[np.float32] = np.subtract(volume, mean, dtype=np.float32, casting="same_kind")
    flat = result.reshape(*result.shape[:-3], result.shape[-3] ** 3)
    spread = np.sqrt(np.einsum("...i,...i->...", flat, flat, dtype=np.float64) / max(flat.shape[-1], 1))[
        ..., None, None, None
    ]
    # Rounding leaves a spread of about 1e-7 of the mean in a constant box.
    scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=~(spread <= 1e-6 * np.abs(mean)))
    result *= scale.astype(np.float32)
    return result


def labels_of(class_name: NDArray[Any], class_names: Sequence[str] | None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Index of each particle's class among ``class_names`` (sorted and complete when not given), -1 where it is empty.

    Raises
    ------
    ValueError
        A particle's class is not among ``class_names``.
    """
    present, codes = np.unique(np.asarray(class_name, dtype=object).astype(str), return_inverse=True)
    names = tuple(class_names) if class_names is not None else tuple(str(name) for name in present if name)
    if missing := sorted({str(name) for name in present if name} - set(names)):
        raise ValueError(f"particles have classes {missing}, expected among {list(names)}; name all classes or none")
    place = {name: k for k, name in enumerate(names)} | {"": UNLABELED}
    return np.asarray([place[str(name)] for name in present], dtype=np.int64)[codes.reshape(-1)], names


@dataclass(frozen=True, eq=False)
class Subtomograms:
    """An opened set: the table in memory, the boxes on disk.

    Memory holds the particle table (a few hundred bytes per particle) and the boxes asked for; nothing is cached.
    """

    path: Path
    particles: Particles
    label: NDArray[np.int64]
    """(n,) index into ``class_names``, -1 where unlabeled."""
    class_names: tuple[str, ...]
    tilt_range_deg: NDArray[np.float32]
    """(n, 2) lowest and highest tilt angle behind each box: its missing wedge, in the tomogram frame."""
    voxel_spacing_angstrom: float
    box_size: int
    has_halves: bool
    provenance: dict[str, Any]
    """How the set was made, as JSON values."""
    stored: NDArray[np.int64]
    """(n,) place of each particle's box in the concatenated shards."""
    shards: tuple[Shard, ...]
    half_shards: tuple[Shard, ...]
    mask_shards: tuple[Shard, ...] = ()

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def tomogram_names(self) -> tuple[str, ...]:
        """Every tomogram that particles come from, once, in order of appearance."""
        return tuple(dict.fromkeys(self.particles.tomogram))

    @property
    def labeled_rows(self) -> NDArray[np.int64]:
        """Rows whose class is known."""
        return np.flatnonzero(self.label != UNLABELED)

    def spaced_rows(self, most: int) -> NDArray[np.int64]:
        """At most so many rows, evenly spaced: a sample that is always the same."""
        return np.unique(np.linspace(0, len(self) - 1, min(len(self), most)).astype(np.int64))

    def volumes(self, rows: NDArray[Any] | Sequence[int]) -> NDArray[np.float32]:
        """Boxes ``(b, d, d, d)`` in zyx, zero mean and unit variance each, unturned as they lay in the tomogram."""
        shape = (self.box_size,) * 3
        return normalized(read_rows(self.shards, self._places(rows), shape))

    def halves(self, rows: NDArray[Any] | Sequence[int]) -> NDArray[np.float32]:
        """The same boxes from the two half tomograms, ``(b, 2, d, d, d)``, each of zero mean and unit variance.

        Raises
        ------
        ValueError
            The set was made without halves.
        """
        if not self.has_halves:
            raise ValueError(f"{self.path} has no half boxes; extract again from tomograms that have half tomograms")
        shape = (2, *(self.box_size,) * 3)
        return normalized(read_rows(self.half_shards, self._places(rows), shape))

    def whole_rows(self) -> NDArray[np.int64]:
        """Rows whose boxes lie within their tomogram; where one reaches beyond it, faces of it were filled up.

        What is filled up is flat but for the ends of the interpolation: in simulated tomograms nine in ten such faces
        have less than a fifth of the deviation of the others. Boxes that reach less than a voxel beyond may pass.
        """
        is_whole = np.zeros(len(self), dtype=bool)
        for start in range(0, len(self), _ROWS_AT_ONCE):
            rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(self)))
            boxes = self.volumes(rows)
            faces = [boxes.take(face, axis).std(axis=(1, 2)) for axis in (1, 2, 3) for face in (0, -1)]
            spread = np.sort(np.stack(faces, axis=1), axis=1)
            # At most three faces of a box can be filled up, in a corner; the three largest are measured.
            is_whole[rows] = spread[:, 0] > _LEAST_SPREAD * spread[:, 3]
        return np.flatnonzero(is_whole)

    @property
    def has_masks(self) -> bool:
        """Whether it is known which voxels belong to each particle."""
        return bool(self.mask_shards)

    def masks(self, rows: NDArray[Any] | Sequence[int]) -> NDArray[np.bool_]:
        """Voxels of each particle ``(b, d, d, d)``, its neighbors not included.

        Raises
        ------
        ValueError
            The set was made without masks.
        """
        if not self.has_masks:
            raise ValueError(f"{self.path} has no masks; simulate a set with masks")
        return read_rows(self.mask_shards, self._places(rows), (self.box_size,) * 3) > 0.5

    def _places(self, rows: NDArray[Any] | Sequence[int]) -> NDArray[np.int64]:
        return np.asarray(self.stored[np.asarray(rows, dtype=None if len(rows) else np.int64)])

    def select(self, rows: NDArray[Any]) -> "Subtomograms":
        """The particles at these indices, or where this mask is true, in that order; files stay as they are."""
        return replace(
            self,
            particles=self.particles.select(rows),
            label=self.label[rows],
            tilt_range_deg=self.tilt_range_deg[rows],
            stored=self.stored[rows],
        )

    def with_labels(
        self, class_name: NDArray[Any] | Sequence[str], class_names: Sequence[str] | None = None
    ) -> "Subtomograms":
        """The same boxes under other labels: (n,) names, empty where unlabeled; files stay as they are.

        Raises
        ------
        ValueError
            The number of names is not that of the particles, or a name is not among ``class_names``.
        """
        names = np.asarray(class_name, dtype=object).reshape(-1)
        if len(names) != len(self):
            raise ValueError(f"got {len(names)} class names for {len(self)} subtomograms; give one per subtomogram")
        label, all_names = labels_of(names, class_names)
        return replace(self, particles=replace(self.particles, class_name=names), label=label, class_names=all_names)


def read_set_file(path: Path) -> dict[str, Any]:
    """What ``set.json`` of a set says.

    Raises
    ------
    FormatError
        The folder holds no finished set, or one of a later format.
    """
    file = path / SET_FILE
    if not path.is_dir():
        raise FormatError(path, "the set", "no folder", "a folder made by extraction", "check the path")
    if not file.exists():
        if any(path.glob("boxes-*.npy")) or any(path.glob(".boxes-*.npy.part")):
            advice = "extraction did not finish; run the same command again to resume"
            raise FormatError(path, SET_FILE, "missing", "a finished set", advice)
        raise FormatError(
            path, SET_FILE, "missing", "a set of subtomograms", "extract particles into this folder first"
        )
    try:
        described = json.loads(file.read_text())
        version = described["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(file, "its content", "unreadable", "the JSON of a set", "make the set again") from error
    if version != FORMAT_VERSION:
        advice = "update tomosift" if isinstance(version, int) and version > FORMAT_VERSION else "make the set again"
        raise FormatError(file, "format_version", str(version), str(FORMAT_VERSION), advice)
    return dict(described)


def open_subtomograms(path: Path | str) -> Subtomograms:
    """Open a finished set.

    Raises
    ------
    FormatError
        The folder holds no finished set, or one of its files is missing, cut short or of another kind.
    """
    path = Path(path)
    described = read_set_file(path)
    try:
        size, spacing = int(described["box_size"]), float(described["voxel_spacing_angstrom"])
        names, halved = tuple(described["class_names"]), bool(described["has_halves"])
        files, provenance = list(described["shards"]), dict(described["provenance"])
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(path / SET_FILE, str(error), "missing or broken", "a value", "make the set again") from error
    cube = (size,) * 3
    shards = tuple(open_shard(path / name, cube) for name in files)
    halves = tuple(open_shard(path / half_name(name), (2, *cube)) for name in files) if halved else ()
    masks: tuple[Shard, ...] = ()
    if described.get("has_masks"):
        masks = tuple(open_shard(path / mask_name(name), cube, MASK_DTYPE) for name in files)
    particles, added = read_particle_table(path / PARTICLE_FILE)
    boxes = sum(shard.count for shard in shards)
    counts = {"particles.parquet": len(particles), SET_FILE: int(described["count"]), "the box shards": boxes}
    if halved:
        counts["the half shards"] = sum(shard.count for shard in halves)
    if masks:
        counts["the mask shards"] = sum(shard.count for shard in masks)
    if len(set(counts.values())) != 1:
        got = ", ".join(f"{count} in {name}" for name, count in counts.items())
        raise FormatError(path, "the number of particles", got, "one number", "make the set again")
    label, _ = labels_of(particles.class_name, names)
    tilt = np.stack([added["tilt_low_deg"], added["tilt_high_deg"]], axis=1).astype(np.float32)
    stored = added["stored"].astype(np.int64)
    return Subtomograms(
        path, particles, label, names, tilt, spacing, size, halved, provenance, stored, shards, halves, masks
    )


def finished_set(path: Path | str, request: Mapping[str, Any]) -> Subtomograms | None:
    """The set in this folder if it is finished and its description and provenance hold all that is asked for."""
    if not (Path(path) / SET_FILE).exists():
        return None
    described = read_set_file(Path(path))
    there = {**described.get("provenance", {}), **described}
    return open_subtomograms(path) if all(there.get(key) == value for key, value in request.items()) else None


def half_name(box_name: str) -> str:
    """Name of the shard of half boxes beside a shard of boxes."""
    return box_name.replace("boxes-", "halves-")


def mask_name(box_name: str) -> str:
    """Name of the shard of masks beside a shard of boxes."""
    return box_name.replace("boxes-", "masks-")

"""An opened set of subtomograms; `tomosift.data.set_files` lists the files of a set."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.conventions import UNLABELED
from tomosift.data.class_names import encode_labels
from tomosift.data.normalization import normalize_volumes
from tomosift.data.particle_table import read_particle_table
from tomosift.data.set_files import PARTICLE_FILE, SET_FILE, half_name, list_differences, mask_name, read_set_file
from tomosift.data.shards import MASK_DTYPE, Shard, open_shard, read_rows
from tomosift.errors import FormatError
from tomosift.particles import Grid, Particles

_ROWS_AT_ONCE = 1024
_MIN_RELATIVE_DEVIATION = 0.5  # of a face, relative to that of measured faces


@dataclass(frozen=True, eq=False)
class Subtomograms:
    """An opened set: the particle table in memory, the subtomograms on disk.

    Memory holds the table (a few hundred bytes per particle) and the subtomograms of one call; nothing is cached.
    `select`, `with_labels` and `empty` return views of the same files. Sets are opened by `open_subtomograms` and made
    by `tomosift.extract`; the constructor is not called by users.

    Attributes
    ----------
    particles : Particles
        The n particles.
    label : numpy.ndarray
        (n,) index into ``class_names``, -1 where unlabeled.
    tilt_range_deg : numpy.ndarray
        (n, 2) lowest and highest tilt angle of each subtomogram.
    voxel_spacing_angstrom, box_size
        Voxel spacing, and box size in voxels.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from tomosift.data.set_writer import SubtomogramWriter
    >>> from tomosift.data.subtomogram_set import open_subtomograms
    >>> from tomosift.particles import Particles
    >>> particles = Particles.create(["TS_01"] * 4, np.zeros((4, 3)), class_name=["ribosome", "", "apoferritin", ""])
    >>> folder = tempfile.mkdtemp()
    >>> with SubtomogramWriter(folder, box_size=8, voxel_spacing_angstrom=10.0) as writer:
    ...     writer.append(np.random.default_rng(0).normal(size=(4, 8, 8, 8)), particles, (-60.0, 60.0))
    >>> subtomograms = open_subtomograms(folder)
    >>> len(subtomograms), subtomograms.class_names, subtomograms.label.tolist()
    (4, ('apoferritin', 'ribosome'), [1, -1, 0, -1])
    >>> subtomograms.volumes([3, 0]).shape
    (2, 8, 8, 8)
    >>> labeled = subtomograms.select(subtomograms.labeled_rows)
    >>> len(labeled), len(labeled.empty()), subtomograms.spaced_rows(2).tolist()
    (2, 0, [0, 3])
    >>> labeled.with_labels(["", "proteasome"]).label.tolist()
    [-1, 0]
    """

    path: Path
    particles: Particles
    label: NDArray[np.int64]
    """(n,) index into ``class_names``, -1 where unlabeled."""
    class_names: tuple[str, ...]
    tilt_range_deg: NDArray[np.float32]
    """(n, 2) lowest and highest tilt angle behind each subtomogram: its missing wedge, in the tomogram frame."""
    voxel_spacing_angstrom: float
    box_size: int
    has_halves: bool
    provenance: dict[str, Any]
    """How the set was made, as JSON values."""
    shard_row: NDArray[np.int64]
    """(n,) row of each particle's subtomogram in the concatenated shards."""
    shards: tuple[Shard, ...]
    half_shards: tuple[Shard, ...]
    mask_shards: tuple[Shard, ...] = ()

    def __len__(self) -> int:
        return len(self.shard_row)

    @property
    def tomogram_names(self) -> tuple[str, ...]:
        """Every tomogram that particles come from, once, in order of appearance."""
        return tuple(dict.fromkeys(self.particles.tomogram))

    @property
    def grids(self) -> dict[str, Grid]:
        """Voxel grid of each tomogram that the set was cut from, as far as its provenance records it."""
        tomograms = self.provenance.get("tomograms", {})
        return {
            name: Grid(tuple(entry["shape_zyx"]), float(entry["voxel_spacing_angstrom"]), aliases=_paths(entry))
            for name, entry in tomograms.items()
            if "shape_zyx" in entry
        }

    @property
    def table_spacing_angstrom(self) -> float | None:
        """Pixel size of tables in pixels; None, so that of the tomograms, where these are known."""
        return None if self.grids else self.voxel_spacing_angstrom

    @property
    def labeled_rows(self) -> NDArray[np.int64]:
        """Rows whose class is known, ascending."""
        return np.flatnonzero(self.label != UNLABELED)

    def spaced_rows(self, count: int) -> NDArray[np.int64]:
        """Return at most ``count`` rows, evenly spaced: a sample that is always the same."""
        return np.unique(np.linspace(0, len(self) - 1, min(len(self), count)).astype(np.int64))

    def volumes(self, rows: NDArray[Any] | Sequence[int]) -> NDArray[np.float32]:
        """Read subtomograms.

        Parameters
        ----------
        rows
            (b,) row indices, in any order.

        Returns
        -------
        NDArray
            ``(b, d, d, d)`` in zyx, zero mean and unit variance each, unrotated as in the tomogram.
        """
        return normalize_volumes(read_rows(self.shards, self._shard_rows(rows), (self.box_size,) * 3))

    def halves(self, rows: NDArray[Any] | Sequence[int]) -> NDArray[np.float32]:
        """Read the same subtomograms from the two half tomograms.

        Returns
        -------
        NDArray
            ``(b, 2, d, d, d)``, each of zero mean and unit variance.

        Raises
        ------
        ValueError
            The set was made without halves.
        """
        if not self.has_halves:
            raise ValueError(f"{self.path} has no half boxes; extract again from tomograms that have half tomograms")
        shape = (2, *(self.box_size,) * 3)
        return normalize_volumes(read_rows(self.half_shards, self._shard_rows(rows), shape))

    @property
    def has_masks(self) -> bool:
        """Whether the set stores which voxels belong to each particle."""
        return bool(self.mask_shards)

    def masks(self, rows: NDArray[Any] | Sequence[int]) -> NDArray[np.bool_]:
        """Read the masks ``(b, d, d, d)``: voxels of each particle, without its neighbors.

        Raises
        ------
        ValueError
            The set was made without masks.
        """
        if not self.has_masks:
            raise ValueError(f"{self.path} has no masks; simulate a set with masks")
        return read_rows(self.mask_shards, self._shard_rows(rows), (self.box_size,) * 3) > 0.5

    def whole_rows(self) -> NDArray[np.int64]:
        """Return the rows of subtomograms that do not reach beyond their tomogram.

        Extraction fills faces beyond the tomogram with the local mean. A filled face is flat but for the ends of the
        interpolation: in simulated tomograms nine in ten such faces have less than a fifth of the deviation of the
        others. Subtomograms that reach less than a voxel beyond may pass.
        """
        is_whole = np.zeros(len(self), dtype=bool)
        for start in range(0, len(self), _ROWS_AT_ONCE):
            rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(self)))
            boxes = self.volumes(rows)
            faces = [boxes.take(face, axis).std(axis=(1, 2)) for axis in (1, 2, 3) for face in (0, -1)]
            deviation = np.sort(np.stack(faces, axis=1), axis=1)
            # At most three faces of a box can be filled up, in a corner; the three largest are measured.
            is_whole[rows] = deviation[:, 0] > _MIN_RELATIVE_DEVIATION * deviation[:, 3]
        return np.flatnonzero(is_whole)

    def _shard_rows(self, rows: NDArray[Any] | Sequence[int]) -> NDArray[np.int64]:
        return np.asarray(self.shard_row[np.asarray(rows, dtype=None if len(rows) else np.int64)])

    def select(self, rows: NDArray[Any]) -> "Subtomograms":
        """Return the particles at these indices, or where this mask is true, in that order."""
        return replace(
            self,
            particles=self.particles.select(rows),
            label=self.label[rows],
            tilt_range_deg=self.tilt_range_deg[rows],
            shard_row=self.shard_row[rows],
        )

    def empty(self) -> "Subtomograms":
        """Return the same set without any particle."""
        return self.select(np.zeros(0, dtype=np.int64))

    def with_labels(
        self, class_name: NDArray[Any] | Sequence[str], class_names: Sequence[str] | None = None
    ) -> "Subtomograms":
        """Return the same subtomograms with other labels; the files keep theirs.

        Parameters
        ----------
        class_name
            (n,) names, empty where unlabeled.
        class_names
            Names of all classes in the order of their labels; None takes those present, sorted.

        Raises
        ------
        ValueError
            The number of names is not that of the particles, or a name is not among ``class_names``.
        """
        names = np.asarray(class_name, dtype=object).reshape(-1)
        if len(names) != len(self):
            raise ValueError(f"got {len(names)} class names for {len(self)} subtomograms; give one per subtomogram")
        label, all_names = encode_labels(names, class_names)
        return replace(self, particles=replace(self.particles, class_name=names), label=label, class_names=all_names)


def _paths(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return (str(entry["path"]),) if "path" in entry else ()


def open_subtomograms(path: Path | str) -> Subtomograms:
    """Open a finished set.

    Parameters
    ----------
    path
        Folder of the set.

    Returns
    -------
    Subtomograms
        Its particles, and the subtomograms on disk.

    Raises
    ------
    FormatError
        The folder holds no finished set, or a file of it is missing, cut short or of another kind.

    Examples
    --------
    See `Subtomograms`.
    """
    description = read_set_file(path := Path(path))
    try:
        size, spacing = int(description["box_size"]), float(description["voxel_spacing_angstrom"])
        names, has_halves = tuple(description["class_names"]), bool(description["has_halves"])
        files, provenance = list(description["shards"]), dict(description["provenance"])
        assert all(re.fullmatch(r"boxes-\d{5}\.npy", name) for name in files), "shards"
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise FormatError(path / SET_FILE, str(error), "missing or broken", "a value", "make the set again") from error
    cube = (size,) * 3
    kinds = {"box": tuple(open_shard(path / name, cube) for name in files)}
    if has_halves:
        kinds["half"] = tuple(open_shard(path / half_name(name), (2, *cube)) for name in files)
    if description.get("has_masks"):
        kinds["mask"] = tuple(open_shard(path / mask_name(name), cube, MASK_DTYPE) for name in files)
    particles, added = read_particle_table(path / PARTICLE_FILE)
    counts = {PARTICLE_FILE: len(particles), SET_FILE: int(description["count"])}
    counts |= {f"the {kind} shards": sum(shard.count for shard in some) for kind, some in kinds.items()}
    if len(set(counts.values())) != 1:
        got = ", ".join(f"{count} in {name}" for name, count in counts.items())
        raise FormatError(path, "the number of particles", got, "one number", "make the set again")
    return Subtomograms(
        path=path,
        particles=particles,
        label=encode_labels(particles.class_name, names)[0],
        class_names=names,
        tilt_range_deg=np.stack([added["tilt_low_deg"], added["tilt_high_deg"]], axis=1).astype(np.float32),
        voxel_spacing_angstrom=spacing,
        box_size=size,
        has_halves=has_halves,
        provenance=provenance,
        shard_row=added["stored"].astype(np.int64),
        shards=kinds["box"],
        half_shards=kinds.get("half", ()),
        mask_shards=kinds.get("mask", ()),
    )


def open_finished_set(path: Path | str, request: Mapping[str, Any]) -> Subtomograms | None:
    """Open the set in this folder if it is finished and was made by the same request; else return None.

    Parameters
    ----------
    request
        Values that the description and the provenance of the set must hold.
    """
    if not (Path(path) / SET_FILE).exists():
        return None
    description = read_set_file(Path(path))
    values = {**description.get("provenance", {}), **description}
    return None if list_differences(values, request) else open_subtomograms(path)

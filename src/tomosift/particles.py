"""The particle table: input and output of every command."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True)
class Grid:
    """The voxel grid of a tomogram, which converts pixels or centered coordinates to Angstrom."""

    shape_zyx: tuple[int, int, int]
    voxel_spacing_angstrom: float
    stated_extent_zyx_angstrom: tuple[float, float, float] | None = None
    """Edge lengths as a table of tomograms states them, in unbinned pixels; a binned volume may be rounded."""
    aliases: tuple[str, ...] = field(default=(), compare=False)
    """Other names of the tomogram, such as the path of its volume; see `tomosift.io.tomogram_names`."""

    @property
    def extent_zyx_angstrom(self) -> NDArray[np.float64]:
        """(3,) edge lengths: as stated, else size times voxel spacing."""
        if self.stated_extent_zyx_angstrom is not None:
            return np.asarray(self.stated_extent_zyx_angstrom, dtype=np.float64)
        return np.asarray(self.shape_zyx, dtype=np.float64) * self.voxel_spacing_angstrom


@dataclass(frozen=True)
class Particles:
    """A table of n particles, independent of the format of its file.

    Frames: positions count from the *center of voxel 0* of the tomogram. ``rotation`` rotates the particle's reference
    frame into the tomogram frame: a point at offset ``v`` from the particle's center in the reference lies at
    ``position + rotation @ v`` in the tomogram, with both as *zyx* column vectors.

    Parameters
    ----------
    particle_id, tomogram, position_zyx_angstrom, rotation, class_name, score, columns, tables, source
        The fields below; `create` fills those that are not known.

    Raises
    ------
    ValueError
        The fields differ in length.

    Notes
    -----
    Source: `CONVENTIONS.md` states the frames; each format is converted to them in `tomosift.io`.

    Examples
    --------
    >>> import numpy as np
    >>> from tomosift.particles import Particles
    >>> particles = Particles.create(["TS_01", "TS_01"], np.array([[10.0, 20.0, 30.0], [40.0, 50.0, 60.0]]))
    >>> len(particles), particles.particle_id.tolist()
    (2, ['TS_01/000001', 'TS_01/000002'])
    >>> particles.select(np.array([1])).position_zyx_angstrom.tolist()
    [[40.0, 50.0, 60.0]]
    """

    particle_id: NDArray[Any]
    """(n,) unique strings."""
    tomogram: NDArray[Any]
    """(n,) name of the tomogram as the file gives it."""
    position_zyx_angstrom: NDArray[np.float64]
    """(n, 3) with every shift of the file (``rlnOrigin*`` and the like) already applied."""
    rotation: NDArray[np.float64]
    """(n, 3, 3); NaN where the file gives no orientation."""
    class_name: NDArray[Any]
    """(n,) strings, empty where unlabeled."""
    score: NDArray[np.float64]
    """(n,) figure of merit of the file, NaN where it has none."""
    columns: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Every column of the input file, with its own names and values; n rows."""
    tables: Mapping[str, pd.DataFrame] = field(default_factory=lambda: MappingProxyType({}))
    """The other blocks of the input file (optics groups, general, ...), by name."""
    source: str = ""
    """Dialect the table was read from (``relion3``, ``relion31``, ``relion4``, ``relion5``, ``dynamo`` ...). A writer
    of the same dialect writes ``columns`` verbatim; empty once positions or rotations were changed."""
    notes: tuple[str, ...] = ()
    """What a reader took for granted, as sentences for the user."""
    is_named_by_file: bool = False
    """Whether the table names no tomogram, so ``tomogram`` is the name of its file."""

    def __post_init__(self) -> None:
        n = len(self.particle_id)
        shapes = {
            "tomogram": (self.tomogram.shape, (n,)),
            "position_zyx_angstrom": (self.position_zyx_angstrom.shape, (n, 3)),
            "rotation": (self.rotation.shape, (n, 3, 3)),
            "class_name": (self.class_name.shape, (n,)),
            "score": (self.score.shape, (n,)),
        }
        for name, (got, expected) in shapes.items():
            if got != expected:
                raise ValueError(f"{name} has shape {got}, expected {expected} for {n} particles")
        if len(self.columns.columns) and len(self.columns) != n:
            raise ValueError(f"columns has {len(self.columns)} rows, expected {n}")

    def __len__(self) -> int:
        return len(self.particle_id)

    @classmethod
    def create(
        cls,
        tomogram: Sequence[str] | NDArray[Any],
        position_zyx_angstrom: NDArray[Any],
        rotation: NDArray[Any] | None = None,
        class_name: Sequence[str] | NDArray[Any] | None = None,
        score: NDArray[Any] | None = None,
        particle_id: Sequence[str] | NDArray[Any] | None = None,
        columns: pd.DataFrame | None = None,
        tables: Mapping[str, pd.DataFrame] | None = None,
        source: str = "",
        is_named_by_file: bool = False,
    ) -> "Particles":
        """Return a table with defaults for absent fields.

        Parameters
        ----------
        tomogram
            (n,) names.
        position_zyx_angstrom
            (n, 3) from the center of voxel 0.
        rotation
            (n, 3, 3); None for unknown (NaN).
        class_name
            (n,); None for unlabeled (empty).
        score
            (n,); None for NaN.
        particle_id
            (n,) unique; None for ``tomogram/k``.
        columns, tables, source, is_named_by_file
            As of the class.

        Raises
        ------
        ValueError
            A field has another number of particles than ``tomogram``.
        """
        names = np.asarray(tomogram, dtype=object).reshape(-1)
        n = len(names)
        if particle_id is None:
            rank = pd.Series(names, dtype=object).groupby(names).cumcount().to_numpy() if n else np.zeros(0, int)
            particle_id = [f"{name}/{k + 1:06d}" for name, k in zip(names, rank, strict=True)]
        return cls(
            particle_id=np.asarray(particle_id, dtype=object).reshape(-1),
            tomogram=names,
            position_zyx_angstrom=np.asarray(position_zyx_angstrom, dtype=np.float64).reshape(n, 3),
            rotation=np.full((n, 3, 3), np.nan) if rotation is None else np.asarray(rotation, dtype=np.float64),
            class_name=np.full(n, "", dtype=object) if class_name is None else np.asarray(class_name, dtype=object),
            score=np.full(n, np.nan) if score is None else np.asarray(score, dtype=np.float64),
            columns=pd.DataFrame(index=range(n)) if columns is None else columns.reset_index(drop=True),
            tables=MappingProxyType(dict(tables or {})),
            source=source,
            is_named_by_file=is_named_by_file,
        )

    def select(self, rows: NDArray[Any]) -> "Particles":
        """Return the particles at these indices, or where this mask is true, in that order."""
        return replace(
            self,
            particle_id=self.particle_id[rows],
            tomogram=self.tomogram[rows],
            position_zyx_angstrom=self.position_zyx_angstrom[rows],
            rotation=self.rotation[rows],
            class_name=self.class_name[rows],
            score=self.score[rows],
            columns=self.columns.iloc[rows if rows.dtype != bool else np.flatnonzero(rows)].reset_index(drop=True),
        )

    def with_notes(self, *sentences: str) -> "Particles":
        """Return the same particles with more notes; an empty sentence is no note."""
        return replace(self, notes=(*self.notes, *(one for one in sentences if one)))

    def with_columns(self, added: Mapping[str, NDArray[Any]]) -> "Particles":
        """Return the same particles with columns added or replaced; geometry and source stay as they are."""
        return replace(self, columns=self.columns.assign(**added))

    def with_tomograms(self, tomogram: NDArray[Any]) -> "Particles":
        """Return the same particles with other names of their tomograms."""
        return replace(self, tomogram=tomogram, is_named_by_file=False)

    def with_geometry(
        self, position_zyx_angstrom: NDArray[np.float64] | None = None, rotation: NDArray[np.float64] | None = None
    ) -> "Particles":
        """Return the particles with other positions or rotations; writers then derive the coordinate columns anew."""
        return replace(
            self,
            position_zyx_angstrom=self.position_zyx_angstrom
            if position_zyx_angstrom is None
            else position_zyx_angstrom,
            rotation=self.rotation if rotation is None else rotation,
            source="",
        )

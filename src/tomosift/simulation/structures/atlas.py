"""The atlas: real complexes as a few hundred Gaussian beads each, small enough to be part of the package.

An entry is a JSON file in the folder ``atlas_entries`` beside this module. It was computed from atoms of the Protein
Data Bank (public domain, CC0) by `add_to_atlas` and agrees with them to the resolution that it states.
"""

import json
import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveFloat, PositiveInt, ValidationError
from torch import Tensor

from tomosift.errors import FormatError
from tomosift.files import written_then_renamed
from tomosift.io.structures import Structure, read_structure
from tomosift.simulation.structures.bead_models import (
    beads_density,
    default_bead_number,
    fit_beads,
    resolution_of_beads,
)
from tomosift.simulation.structures.potential import centered_atoms, require_fit

NAME_PATTERN = r"[a-z0-9][a-z0-9_-]*"

Bead = Annotated[list[FiniteFloat], Field(min_length=5, max_length=5)]


class AtlasEntry(BaseModel):
    """One complex as Gaussian beads, in the orientation of its structure file, its center of mass at the origin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=f"^{NAME_PATTERN}$")
    title: str
    """Title of the structure."""
    entry_id: str
    """Identifier in the Protein Data Bank."""
    assembly: str
    """Biological assembly, or ``asu`` for the asymmetric unit as in the file."""
    license: str
    atoms: PositiveInt
    mass_kda: PositiveFloat
    """Without hydrogens."""
    radius_angstrom: PositiveFloat
    """Distance from the center of mass to the farthest atom."""
    fsc_half_angstrom: PositiveFloat
    """Resolution at which the Fourier shell correlation with the density of all atoms falls to 0.5."""
    beads: list[Bead] = Field(min_length=1)
    """Per bead z, y, x and width (standard deviation) in Angstrom, then weight: volts times cubic Angstrom."""


def atlas_folder() -> Path:
    """Return the folder of the entries that are part of the package."""
    return Path(str(resources.files("tomosift.simulation.structures"))) / "atlas_entries"


@cache
def atlas_names(folder: Path | None = None) -> tuple[str, ...]:
    """Return the sorted names of the entries in ``folder``; by default those that are part of the package.

    Examples
    --------
    >>> from tomosift.simulation.structures.atlas import atlas_names
    >>> "ribosome-70s" in atlas_names()
    True
    """
    return tuple(sorted(path.stem for path in (folder or atlas_folder()).glob("*.json")))


def load_atlas_entry(name: str | Path, folder: Path | None = None) -> AtlasEntry:
    """Read and check an entry.

    Raises
    ------
    ValueError
        If there is no entry of that name.
    FormatError
        If the file is not a valid entry.
    """
    path = (folder or atlas_folder()) / f"{name}.json"
    if not path.exists():
        raise ValueError(f"{name} is not in the atlas; it has {', '.join(atlas_names(folder))}")
    try:
        return AtlasEntry.model_validate_json(path.read_text())
    except (ValidationError, UnicodeDecodeError) as error:
        detail = error.errors()[0] if isinstance(error, ValidationError) else {"loc": ("text",), "msg": "not UTF-8"}
        field = ".".join(str(part) for part in detail["loc"]) or "file"
        raise FormatError(
            path, field, "invalid", f"an atlas entry ({detail['msg']})", "compute the entry anew"
        ) from error


def entry_density(
    entry: AtlasEntry, voxel_spacing_angstrom: float, box_size: int, resolution_angstrom: float | None = None
) -> Float[Tensor, "d d d"]:
    """Return the density of an entry, volts, center of mass on voxel ``box_size // 2``, at the resolution of the entry.

    Raises
    ------
    ValueError
        If the complex does not fit the box.
    """
    beads = torch.tensor(entry.beads, dtype=torch.float32)
    half = (box_size // 2) * voxel_spacing_angstrom
    weight = beads[:, 4].clamp(min=0)
    outside = weight[(beads[:, :3].abs() > half).any(dim=1)].sum() / weight.sum()
    require_fit(float(outside), float(beads[:, :3].abs().max()), voxel_spacing_angstrom, box_size)
    return beads_density(beads, voxel_spacing_angstrom, box_size, resolution_angstrom)


def add_to_atlas(
    structure_path: str | Path,
    name: str,
    *,
    beads: int | None = None,
    assembly: str | int | None = None,
    title: str | None = None,
    entry_id: str | None = None,
    license: str = "",
    out_folder: str | Path | None = None,
) -> Path:
    """Compute an entry from a structure file and write it as ``<name>.json``; return its path.

    Parameters
    ----------
    name
        Name for `template`: lower-case letters, digits, ``-`` and ``_``.
    beads
        Number of Gaussians; by default one per 1.7 kDa, between 120 and 400.
    assembly
        Biological assembly to build, as for `tomosift.io.structures.read_structure`.
    title, entry_id
        Title and identifier; by default those of the file.
    license
        License of the atoms; that of the Protein Data Bank is ``CC0-1.0``.
    out_folder
        Folder of the JSON file; by default the current folder.

    Raises
    ------
    ValueError
        If the name or the number of beads cannot be used.
    FormatError
        If the structure file is broken or has no atoms.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(
            f"name is {name!r}, expected lower-case letters, digits, - and _, beginning with one of the first"
        )
    if beads is not None and beads < 1:
        raise ValueError(f"beads is {beads}, expected a positive number")
    structure = read_structure(Path(structure_path), assembly=assembly)
    computed = _compute_entry(structure, name, beads)
    texts = {"title": title, "entry_id": entry_id, "license": license}
    entry = computed.model_copy(update={key: text for key, text in texts.items() if text})
    path = Path(out_folder or ".") / f"{name}.json"
    with written_then_renamed(path) as temporary:
        temporary.write_text(_format_json(entry))
    atlas_names.cache_clear()
    return path


def _compute_entry(structure: Structure, name: str, beads: int | None) -> AtlasEntry:
    """Fit beads to the atoms of a structure; title and identifier are those of the file."""
    position, number = centered_atoms(structure)
    fitted = fit_beads(position, number, beads or default_bead_number(structure.mass_kda))
    # A tenth of an Angstrom and a unit of weight are far below what a resolution of 15 A can show.
    rounded = [[*(round(value, 1) for value in row[:4]), float(round(row[4]))] for row in fitted.tolist()]
    return AtlasEntry(
        name=name,
        title=structure.title or name,
        entry_id=structure.entry_id,
        assembly=structure.assembly,
        license="",
        atoms=len(number),
        mass_kda=round(structure.mass_kda, 1),
        radius_angstrom=round(float(np.linalg.norm(position, axis=1).max()), 1),
        fsc_half_angstrom=round(resolution_of_beads(torch.tensor(rounded), position, number), 1),
        beads=rounded,
    )


def _format_json(entry: AtlasEntry) -> str:
    """Return JSON with one bead per line and integers without ``.0``: small, and readable in a diff."""
    head = json.dumps(entry.model_dump(exclude={"beads"}), indent=1, ensure_ascii=False)
    rows = (",".join(f"{value:g}" if abs(value) < 1e5 else f"{value:.0f}" for value in bead) for bead in entry.beads)
    return head[:-2] + ',\n "beads": [\n' + ",\n".join(f"[{row}]" for row in rows) + "\n]}\n"

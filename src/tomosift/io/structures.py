"""Atomic structures: PDB and mmCIF, gzip or not, with the biological assembly built.

Files are read with gemmi. The first model's atoms are kept except waters and hydrogens: at the resolution of tomograms
their scattering is part of the solvent, or of the blur of the heavy atoms. Of alternative positions the one of highest
occupancy is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from tomosift.errors import FormatError
from tomosift.io.file_content import named_errors

ASYMMETRIC_UNIT = "asu"
SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif")
LARGE_CHAIN_ATOMS = 20_000
"""No single chain of a common template is larger; a larger one is several molecules without chain names."""
_WATERS = (b"HOH", b"WAT", b"DOD", b"H2O")


@dataclass(frozen=True)
class Structure:
    """The atoms of a complex in the coordinate system of its file, not centered."""

    path: Path
    entry_id: str
    """PDB identifier in upper case as the file gives it, or the file's own block name."""
    title: str
    assembly: str
    """Name of the biological assembly that was built, or ``asu``."""
    element: NDArray[Any]
    """(n,) symbols as in ``C``, ``Mg``."""
    atomic_number: NDArray[np.int64]
    """(n,)"""
    position_zyx_angstrom: NDArray[np.float64]
    """(n, 3)"""
    b_factor: NDArray[np.float64]
    """(n,) isotropic, in A^2."""
    number_of_chains: int
    warnings: tuple[str, ...] = ()
    """Sentences on what a user may not expect: which assembly was built, and what was left out."""

    def __len__(self) -> int:
        return len(self.element)

    @property
    def mass_kda(self) -> float:
        """Mass of the kept atoms in kDa, without hydrogens."""
        symbols, counts = np.unique(self.element, return_counts=True)
        return float(sum(gemmi.Element(str(s)).weight * c for s, c in zip(symbols, counts, strict=True))) / 1000


def read_structure(path: Path | str, *, assembly: str | int | None = None) -> Structure:
    """Read a PDB or mmCIF file and build an assembly.

    Parameters
    ----------
    path
        Ends in .pdb, .ent, .cif or .mmcif, with or without .gz.
    assembly
        Name of the biological assembly, or ``"asu"`` for the atoms as they are in the file. By default assembly 1,
        or the first listed, or the file's atoms if it lists none; ``warnings`` says where that is doubtful.

    Raises
    ------
    FormatError
        The file is missing, is no structure, is MMTF, holds no atoms, or does not list that assembly.
    """
    path = Path(path)
    with named_errors(path, "an atomic structure"):
        parsed = _parse(path)
        flat = gemmi.FlatStructure(parsed)
    chain = _text(flat.chain_ids)
    kept, warnings = _select_atoms(flat, chain)
    if not kept.any():
        raise FormatError(path, "atoms", "none", "at least one atom that is not water or hydrogen", "check the file")
    name = _assembly_name(path, parsed, assembly)
    rows, position = np.flatnonzero(kept), flat.pos[kept]
    chains = len(np.unique(chain[rows]))
    if name != ASYMMETRIC_UNIT:
        copies = list(_build_copies(next(a for a in parsed.assemblies if a.name == name), kept, flat, chain))
        if not copies:
            raise FormatError(path, f"assembly {name}", "empty", "chains that are in the file", "read assembly asu")
        rows, position = np.concatenate([copy for copy, _ in copies]), np.concatenate([xyz for _, xyz in copies])
        used = len(np.unique(chain[rows]))
        if used < chains:
            warnings.append(f"assembly {name} uses {used} of the file's {chains} chains; assembly asu uses all")
        chains = sum(len(np.unique(chain[copy])) for copy, _ in copies)
    warnings += _list_doubts(parsed, name, chains, len(rows), len(rows) / max(len(np.unique(rows)), 1))
    number = flat.elements[rows].astype(np.int64)
    present, which = np.unique(number, return_inverse=True)
    symbols = np.array([gemmi.Element(int(value)).name for value in present], dtype=object)
    return Structure(
        path=path,
        entry_id=_info(parsed, "_entry.id") or parsed.name.upper(),
        title=_info(parsed, "_struct.title"),
        assembly=name,
        element=symbols[which],
        atomic_number=number,
        position_zyx_angstrom=np.ascontiguousarray(position[:, ::-1], dtype=np.float64),
        b_factor=flat.b_iso[rows].astype(np.float64),
        number_of_chains=chains,
        warnings=tuple(warnings),
    )


def _parse(path: Path) -> Any:
    """Return gemmi's structure of the file."""
    if not path.is_file():
        raise FormatError(path, "file", "a folder" if path.is_dir() else "missing", "a structure", "check the path")
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".mmtf", ".bcif")):
        got = f"{name.rsplit('.', 1)[1]}, which is not supported"
        raise FormatError(path, "format", got, "PDB or mmCIF", "download the entry as .cif.gz")
    if not name.endswith(SUFFIXES):
        raise FormatError(path, "suffix", path.suffix or "missing", f"one of {', '.join(SUFFIXES)}", "rename the file")
    try:
        parsed = gemmi.read_structure(str(path))
    except (RuntimeError, ValueError, IndexError, OSError) as error:
        reason = "empty" if path.stat().st_size == 0 else f"unreadable ({str(error).strip()})"
        raise FormatError(path, "content", reason, "a PDB or mmCIF file", "download it again") from error
    if len(parsed) == 0 or parsed[0].count_atom_sites() == 0:
        raise FormatError(path, "atoms", "none", "ATOM records or an atom_site table", "is this a structure file?")
    parsed.setup_entities()
    return parsed


def _info(parsed: Any, key: str) -> str:
    """Return a value of the file's header, or an empty text."""
    return str(parsed.info[key]).strip() if key in parsed.info else ""


def _text(letters: Any) -> NDArray[Any]:
    """Return fixed-width character codes ``(n, 8)`` as byte strings ``(n,)``."""
    strings: NDArray[Any] = np.ascontiguousarray(letters).view("S8").reshape(-1)
    return strings


def _select_atoms(flat: Any, chain: NDArray[Any]) -> tuple[NDArray[np.bool_], list[str]]:
    """Return which atoms to keep, and warnings about the others."""
    first = flat.model_num == flat.model_num[0]
    water = (flat.entity_type == int(gemmi.EntityType.Water.value)) | np.isin(_text(flat.residue_names), _WATERS)
    kept: NDArray[np.bool_] = first & ~water & (flat.elements > 1)
    warnings = []
    if not first.all():
        warnings.append(f"the file holds {len(np.unique(flat.model_num))} models; the first was used")
    # Alternative positions of one atom share chain, residue and atom name.
    alternatives = np.flatnonzero(kept & (flat.altlocs != 0))
    best: dict[tuple[Any, ...], int] = {}
    names = _text(flat.atom_names)
    for row in alternatives:
        atom = (chain[row], int(flat.resnums[row]), int(flat.icodes[row]), names[row])
        if atom not in best or flat.occ[row] > flat.occ[best[atom]]:
            best[atom] = int(row)
    kept[alternatives] = False
    kept[list(best.values())] = True
    return kept, warnings


def _assembly_name(path: Path, parsed: Any, assembly: str | int | None) -> str:
    """Return the name of the assembly to build; `FormatError` where the file does not list it."""
    listed = [a.name for a in parsed.assemblies]
    if assembly is None:
        return ASYMMETRIC_UNIT if not listed else "1" if "1" in listed else str(listed[0])
    name = str(assembly)
    if name != ASYMMETRIC_UNIT and name not in listed:
        known = ", ".join([*listed, ASYMMETRIC_UNIT])
        raise FormatError(path, "assembly", f"{name}, which the file does not list", f"one of {known}", "name another")
    return name


def _build_copies(
    assembly: Any, kept: NDArray[np.bool_], flat: Any, chain: NDArray[Any]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Yield rows and transformed xyz positions, one pair for each operator of each generator with atoms of the file."""
    subchain = _text(flat.subchains)
    for generator in assembly.generators:
        # mmCIF names subchains (label_asym_id), PDB names chains.
        names, listed = (subchain, generator.subchains) if generator.subchains else (chain, generator.chains)
        rows = np.flatnonzero(kept & np.isin(names, [name.encode() for name in listed]))
        if not len(rows):
            continue
        for operator in generator.operators:
            rotation, shift = np.array(operator.transform.mat.tolist()), np.array(operator.transform.vec.tolist())
            yield rows, flat.pos[rows] @ rotation.T + shift


def _list_doubts(parsed: Any, name: str, chains: int, atoms: int, copies: float) -> list[str]:
    """Return warnings about the choice of assembly."""
    warnings = []
    listed = [a.name for a in parsed.assemblies]
    if copies > 1:
        warnings.append(f"assembly {name} repeats the file's atoms {copies:g} times by its symmetry operators")
    if name == ASYMMETRIC_UNIT:
        operators = max((len(g.operators) for a in parsed.assemblies for g in a.generators), default=1)
        if not listed:
            warnings.append("the file lists no biological assembly; its atoms were used as they are")
        elif operators > 1:
            warnings.append(f"the asymmetric unit is a part only: an assembly of this file has {operators} operators")
        elif len(listed) > 1:
            warnings.append(f"the asymmetric unit holds {len(listed)} assemblies, so perhaps several complexes")
    elif len(listed) > 1:
        others = ", ".join(other for other in listed if other != name)
        warnings.append(f"assembly {name} was built; the file also lists {others}")
    if chains == 1 and atoms > LARGE_CHAIN_ATOMS:
        warnings.append(f"all {atoms} atoms are in one chain: several molecules were probably merged into it")
    return warnings

"""Atomic structures: against gemmi's own assemblies, and with the traps of real entries."""

import csv
import gzip
from pathlib import Path

import gemmi
import numpy as np
import pytest
from scipy.spatial import KDTree

from tomosift.errors import FormatError
from tomosift.io.structures import read_structure

PDB = """\
HEADER    TEST                                    01-JAN-00   1ABC
TITLE     TWO RESIDUES
REMARK 350 BIOMOLECULE: 1
REMARK 350 APPLY THE FOLLOWING TO CHAINS: A
REMARK 350   BIOMT1   1  1.000000  0.000000  0.000000        0.00000
REMARK 350   BIOMT2   1  0.000000  1.000000  0.000000        0.00000
REMARK 350   BIOMT3   1  0.000000  0.000000  1.000000        0.00000
REMARK 350   BIOMT1   2  0.000000 -1.000000  0.000000       10.00000
REMARK 350   BIOMT2   2  1.000000  0.000000  0.000000       20.00000
REMARK 350   BIOMT3   2  0.000000  0.000000  1.000000       30.00000
ATOM      1  N   ALA A   1       1.000   2.000   3.000  1.00 10.00           N
ATOM      2  CA AALA A   1       4.000   5.000   6.000  0.30 20.00           C
ATOM      3  CA BALA A   1       4.500   5.500   6.500  0.70 21.00           C
ATOM      4  HA  ALA A   1       4.100   5.100   6.100  1.00 20.00           H
ATOM      5  O   ALA B   1       7.000   8.000   9.000  1.00 30.00           O
HETATM    6 MG    MG A 101      -1.000  -2.000  -3.000  1.00 40.00          MG
HETATM    7  O   HOH A 201       0.000   0.000   0.000  1.00 50.00           O
END
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "a.pdb"
    path.write_text(PDB)
    return path


def test_waters_hydrogens_and_minor_alternatives_are_dropped(small: Path) -> None:
    structure = read_structure(small, assembly="asu")
    assert structure.element.tolist() == ["N", "C", "Mg", "O"]
    assert structure.atomic_number.tolist() == [7, 6, 12, 8]
    expected_xyz = [[1, 2, 3], [4.5, 5.5, 6.5], [-1, -2, -3], [7, 8, 9]]
    np.testing.assert_allclose(structure.position_zyx_angstrom, np.array(expected_xyz)[:, ::-1])
    np.testing.assert_allclose(structure.b_factor, [10, 21, 40, 30])
    assert (structure.entry_id, structure.title, structure.assembly) == ("1ABC", "TWO RESIDUES", "asu")
    assert len(structure) == 4
    assert structure.mass_kda == pytest.approx((14.007 + 12.011 + 15.999 + 24.305) / 1000, rel=1e-4)


def test_assembly_moves_its_chains_by_every_operator(small: Path) -> None:
    structure = read_structure(small)
    assert structure.assembly == "1"
    xyz = structure.position_zyx_angstrom[:, ::-1]
    first = np.array([[1, 2, 3], [4.5, 5.5, 6.5], [-1, -2, -3]])
    moved = np.stack([10 - first[:, 1], 20 + first[:, 0], 30 + first[:, 2]], axis=1)
    np.testing.assert_allclose(xyz, np.concatenate([first, moved]))
    assert structure.number_of_chains == 2
    assert any("uses 1 of the file's 2 chains" in warning for warning in structure.warnings)
    assert any("2 times by its symmetry operators" in warning for warning in structure.warnings)


def test_asymmetric_unit_of_a_symmetric_complex_is_warned_about(small: Path) -> None:
    assert any("a part only" in warning for warning in read_structure(small, assembly="asu").warnings)


def test_assembly_is_named_by_number_or_text(small: Path) -> None:
    assert len(read_structure(small, assembly=1)) == len(read_structure(small, assembly="1")) == 6
    with pytest.raises(FormatError, match="2, which the file does not list, expected one of 1, asu"):
        read_structure(small, assembly=2)


def test_gzip_and_mmcif_give_the_same_atoms(small: Path, tmp_path: Path) -> None:
    (tmp_path / "a.pdb.gz").write_bytes(gzip.compress(small.read_bytes()))
    parsed = gemmi.read_structure(str(small))
    parsed.setup_entities()
    parsed.make_mmcif_document().write_file(str(tmp_path / "a.cif"))
    for assembly in ("asu", "1"):
        expected = read_structure(small, assembly=assembly)
        for name in ("a.pdb.gz", "a.cif"):
            found = read_structure(tmp_path / name, assembly=assembly)
            np.testing.assert_allclose(found.position_zyx_angstrom, expected.position_zyx_angstrom)
            assert found.element.tolist() == expected.element.tolist()


def test_the_first_of_several_models_is_used_with_a_warning(tmp_path: Path) -> None:
    atoms = "\n".join(line for line in PDB.splitlines() if line.startswith(("ATOM", "HETATM")))
    (tmp_path / "a.pdb").write_text(f"MODEL 1\n{atoms}\nENDMDL\nMODEL 2\n{atoms}\nENDMDL\nEND\n")
    structure = read_structure(tmp_path / "a.pdb")
    assert len(structure) == 4
    assert "the file holds 2 models; the first was used" in structure.warnings


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.pdb", b"", "content is empty|atoms is none"),
        ("a.cif", b"", "content is empty"),
        ("a.pdb", b"garbage\nmore garbage\n", "is this a structure file"),
        ("a.cif", b"garbage", "unreadable|empty"),
        ("a.cif", b"data_x\n_cell.length_a 5\n", "atoms is none"),
        ("a.pdb.gz", b"not gzip at all", "content is unreadable|atoms is none"),
        ("a.pdb", b"HETATM    7  O   HOH A 201       0.000   0.000   0.000  1.00 50.00           O\n", "atoms is none"),
        ("a.mmtf", b"\x93\x01", "mmtf, which is not supported, expected PDB or mmCIF; download the entry as .cif.gz"),
        ("a.xyz", b"1", "suffix is .xyz"),
    ],
)
def test_broken_files_are_refused_with_the_reason(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=sentence) as caught:
        read_structure(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="file is missing"):
        read_structure(tmp_path / "a.pdb")
    with pytest.raises(FormatError, match="a folder"):
        read_structure(tmp_path)


def test_real_assemblies_equal_those_of_gemmi(real_data: Path) -> None:
    for name in ("1bxn.pdb.gz", "3wip.cif.gz", "1iok.pdb.gz", "2buk.pdb.gz"):
        path = real_data / "structures" / name
        reference = gemmi.read_structure(str(path))
        reference.setup_entities()
        for listed in reference.assemblies:
            built = gemmi.make_assembly(listed, reference[0], gemmi.HowToNameCopiedChain.Dup)
            built.remove_hydrogens()
            built.remove_waters()
            sites = [site for site in built.all() if site.atom.altloc == "\0"]
            expected = np.array([site.atom.pos.tolist()[::-1] for site in sites])
            found = read_structure(path, assembly=listed.name)
            alternatives = len(found) - len(expected)
            assert 0 <= alternatives <= sum(site.atom.altloc != "\0" for site in built.all()) / 2
            distance, which = KDTree(found.position_zyx_angstrom).query(expected)
            assert distance.max() < 1e-3
            assert [found.element[row] for row in which] == [site.atom.element.name for site in sites]


def test_real_structures_have_the_atoms_and_masses_of_their_table(real_data: Path) -> None:
    with (real_data / "structures" / "STRUCTURES.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        if int(row["atoms_asm"]) > 40_000:
            continue
        structure = read_structure(real_data / "structures" / row["file"])
        hydrogens = row["file"] in ("1igt.pdb.gz", "1igy.cif.gz")
        assert (len(structure) == int(row["atoms_asm"])) != hydrogens, row["file"]
        assert structure.number_of_chains == int(row["chains_asm"])
        assert structure.mass_kda == pytest.approx(float(row["kDa_asm"]), rel=0.05)


def test_traps_of_real_entries_are_warned_about(real_data: Path) -> None:
    folder = real_data / "structures"
    assert any("9 of the file's" in warning for warning in read_structure(folder / "1mnf.pdb.gz").warnings)
    assert any("in one chain" in warning for warning in read_structure(folder / "1xnr.cif.gz").warnings)
    assert any("60 times" in warning for warning in read_structure(folder / "2buk.pdb.gz").warnings)
    assert any("60 operators" in warning for warning in read_structure(folder / "2buk.pdb.gz", assembly="asu").warnings)
    assert any("also lists 2" in warning for warning in read_structure(folder / "1iok.pdb.gz").warnings)
    assert any("also lists 2" in warning for warning in read_structure(folder / "4f5s.pdb.gz").warnings)
    assert any("2 assemblies" in warning for warning in read_structure(folder / "4f5s.pdb.gz", assembly="asu").warnings)
    with pytest.raises(FormatError, match="mmtf"):
        read_structure(folder / "4v5a.mmtf")


def test_ribosomal_subunit_has_all_its_fifty_thousand_atoms(real_data: Path) -> None:
    assert len(read_structure(real_data / "structures" / "4v4r_30S.pdb.gz")) == 51918

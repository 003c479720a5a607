"""Listing and adding structures."""

from pathlib import Path

import pytest

from tomosift.cli.main import main
from tomosift.simulation.structures.atlas import atlas_names, load_atlas_entry

ATOM = "ATOM  {n:5d}  CA  ALA A{n:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00 20.00           C\n"


@pytest.fixture
def structure(tmp_path: Path) -> Path:
    """A helix of forty carbon atoms."""
    import math

    rows = [ATOM.format(n=n + 1, x=12 * math.cos(0.4 * n), y=12 * math.sin(0.4 * n), z=1.5 * n - 30) for n in range(40)]
    path = tmp_path / "helix.pdb"
    path.write_text("".join(rows) + "END\n")
    return path


def test_every_built_in_structure_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["atlas", "list"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in atlas_names())
    assert load_atlas_entry("ribosome-70s").entry_id in printed


def test_structure_of_the_user_is_added_and_listed(
    structure: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "own"
    main(["atlas", "add", str(structure), "--name", "helix", "--beads", "6", "--title", "A helix", "--out", str(out)])
    assert len(load_atlas_entry("helix", out).beads) <= 6
    main(["atlas", "list", "--folder", str(out)])
    streams = capsys.readouterr()
    assert "A helix" in streams.out
    assert "helix.json" in streams.err


def test_wrong_name_and_empty_folder_end_in_one_sentence(
    structure: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, sentence in (
        (["add", str(structure), "--name", "My Helix", "--out", str(tmp_path)], "lower-case"),
        (["list", "--folder", str(tmp_path / "none")], "no atlas entry"),
    ):
        with pytest.raises(SystemExit) as end:
            main(["atlas", *words])
        assert end.value.code == 2
        assert sentence in capsys.readouterr().err

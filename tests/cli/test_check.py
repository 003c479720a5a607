"""The command check: findings that are printed, written and end the command."""

import json
from pathlib import Path

import numpy as np
import pytest

from tomosift.cli.main import main
from tomosift.io.particles.csv import write_particles
from tomosift.io.volumes import write_volume
from tomosift.particles import Particles


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Picks and a folder of one tomogram of noise with bright spots at them."""
    rng = np.random.default_rng(0)
    volume = rng.standard_normal((32, 64, 64)).astype(np.float32)
    centers = np.stack(np.meshgrid([8, 20], [8, 24, 40, 54], [8, 24, 40, 54], indexing="ij"), axis=-1).reshape(-1, 3)
    for z, y, x in centers:
        volume[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] += 3
    write_volume(tmp_path / "tomograms" / "TS_1.mrc", volume, 10.0)
    (tmp_path / "tomograms" / "TS_1.tlt").write_text("-50.0\n0.0\n60.0\n")
    write_particles(tmp_path / "picks.csv", Particles.create(["TS_1"] * len(centers), centers * 10.0))
    return tmp_path / "picks.csv", tmp_path / "tomograms"


def test_findings_are_printed_and_written_and_the_command_ends_well(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picks, folder = files
    main(
        ["check", str(picks), "--tomograms", str(folder), "--box-size", "8", "--json", str(tmp_path / "findings.json")]
    )
    printed = capsys.readouterr().out
    for about in ("names", "voxel spacing", "contrast", "positions"):
        assert about in printed
    findings = {one["about"]: one for one in json.loads((tmp_path / "findings.json").read_text())["findings"]}
    assert findings["contrast"]["level"] == "ok"
    assert findings["tilt range"]["measured"]["stated_deg"] == {"TS_1": [-50.0, 60.0]}
    assert not [one for one in findings.values() if one["level"] == "error"]


def test_errors_end_in_code_two_after_everything_was_printed(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = files
    outside = Particles.create(["TS_1"] * 30, np.random.default_rng(0).uniform(2000, 9000, size=(30, 3)))
    write_particles(tmp_path / "outside.csv", outside)
    with pytest.raises(SystemExit) as end:
        main(["check", str(tmp_path / "outside.csv"), "--tomograms", str(folder), "--json", str(tmp_path / "a.json")])
    assert end.value.code == 2
    streams = capsys.readouterr()
    assert "positions" in streams.out
    assert "1 of" in streams.err
    assert "Traceback" not in streams.err
    assert (tmp_path / "a.json").exists()


@pytest.mark.parametrize("option", ["--box-size", "--particle-diameter", "--voxel-spacing"])
def test_lengths_must_be_positive(files: tuple[Path, Path], option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check", str(files[0]), "--tomograms", str(files[1]), option, "0"])
    assert f"{option[2:].replace('-', ' ')} is 0" in capsys.readouterr().err


def test_stated_tilt_range_overrides_that_of_the_files(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "findings.json"
    words = ["--tomograms", str(files[1]), "--box-size", "8", "--tilt-range", "-40", "45", "--json", str(out)]
    main(["check", str(files[0]), *words])
    findings = {one["about"]: one for one in json.loads(out.read_text())["findings"]}
    assert findings["tilt range"]["measured"]["stated_deg"] == {"TS_1": [-40.0, 45.0]}

"""Descriptions of tables of tomograms, tilt series, sets, runs and centered picks."""

import json
from pathlib import Path

import numpy as np
import pytest

from tomosift.data.set_writer import SubtomogramWriter
from tomosift.errors import FormatError
from tomosift.io.particles.relion import write_particles
from tomosift.io.volumes import write_volume
from tomosift.particles import Grid, Particles
from tomosift.train.run import Run
from tomosift.workflows.inspect import describe_file

TABLE = """data_global

loop_
_rlnTomoName #1
_rlnTomoTiltSeriesStarFile #2
_rlnTomoTiltSeriesPixelSize #3
_rlnTomoSizeX #4
_rlnTomoSizeY #5
_rlnTomoSizeZ #6
_rlnTomoTomogramBinning #7
_rlnTomoHand #8
_rlnTomoReconstructedTomogram #9
TS_1 TS_1.star 5.0 80 60 40 2 -1 TS_1.mrc
TS_2 TS_2.star 5.0 80 60 40 2 -1 TS_2.mrc
"""
SERIES = """data_TS_1

loop_
_rlnTomoNominalStageTiltAngle #1
_rlnMicrographPreExposure #2
-40 6
0 0
50 3
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "tomograms.star").write_text(TABLE)
    (tmp_path / "TS_1.star").write_text(SERIES)
    write_volume(tmp_path / "TS_1.mrc", np.zeros((20, 30, 40), dtype=np.float32), 10.0)
    return tmp_path


def test_table_of_tomograms_is_described(project: Path) -> None:
    lines = dict(describe_file(project / "tomograms.star"))
    assert "2, 1 of them with a volume" in lines["Tomograms"]
    assert "20 x 30 x 40 voxels (z, y, x) of 10 A" in lines["TS_1"]
    assert "3 tilts from -40.0 to 50.0 degrees" in lines["TS_1"]
    assert "no volume on disk" in lines["TS_2"]


def test_tilt_series_are_described(project: Path) -> None:
    assert dict(describe_file(project / "TS_1.star"))["Tilt angles"].startswith("-40.00 to 50.00")
    (project / "TS_1.rawtlt").write_text("-30\n0\n30\n")
    assert dict(describe_file(project / "TS_1.rawtlt"))["Images"] == "3"
    (project / "TS_1.mdoc").write_text("Voltage = 200\n[ZValue = 0]\nTiltAngle = 3\n[ZValue = 1]\nTiltAngle = -6\n")
    assert dict(describe_file(project / "TS_1.mdoc"))["Voltage"] == "200 kV"
    (project / "TS_1.xml").write_text("<TiltSeries><Angles>-9\n0\n9</Angles></TiltSeries>")
    assert dict(describe_file(project / "TS_1.xml"))["Kind"] == "tilt series"


def test_centered_picks_are_described_without_tomograms(tmp_path: Path) -> None:
    particles = Particles.create(["TS_1"] * 3, np.array([[100.0, 150, 200]] * 3))
    write_particles(tmp_path / "p.star", particles, grids={"TS_1": Grid((20, 30, 40), 10.0)}, dialect="relion5")
    lines = dict(describe_file(tmp_path / "p.star"))
    assert lines["Position x"] == "0.0 to 0.0 A from the tomogram's center"
    assert "size" in lines["Note"]


def test_set_is_described(tmp_path: Path) -> None:
    writer = SubtomogramWriter(tmp_path / "set", 8, 10.0)
    particles = Particles.create(["TS_1", "TS_1", "TS_2"], np.zeros((3, 3)), class_name=["a", "b", ""])
    volume = np.random.default_rng(0).standard_normal((3, 8, 8, 8)).astype(np.float32)
    writer.append(volume, particles, np.array([-50.0, 60.0]))
    writer.close()
    lines = dict(describe_file(tmp_path / "set"))
    assert lines["Particles"] == "3 from 2 tomograms"
    assert lines["Classes"] == "a (1), b (1)"
    assert lines["Tilt ranges"] == "-50 to 60 degrees"
    assert lines["Unlabeled"] == "1"


def test_run_is_described(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "run", {"method": "contrastive", "seed": 1})
    run.log(event="start")
    assert dict(describe_file(run.folder))["State"].startswith("not finished")
    run.result.mkdir()
    (run.result / "model.safetensors").write_bytes(b"")
    lines = dict(describe_file(run.folder))
    assert (lines["State"], lines["method"], lines["Log"]) == ("finished", "contrastive", "1 lines")
    assert "model.safetensors" in lines["Result"]


def test_unknown_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<a/>")
    (tmp_path / "b.json").write_text(json.dumps({"x": 1}))
    for name in ("a.xml", "b.json", "none.star"):
        with pytest.raises(FormatError):
            describe_file(tmp_path / name)


def test_real_tables_of_tilts_are_described(real_data: Path) -> None:
    for name in ("relion/tilt_series.star", "relion/220728_TS_01.star", "cryocat/017.mdoc", "cryocat/017.xml"):
        assert len(describe_file(real_data / "metadata" / name)) > 3
    for name in ("Picks__job_picks__particles.star", "Refine3D__job_refine__run_it050_data.star"):
        lines = dict(describe_file(real_data / "metadata" / "relion5_cylindra" / name))
        assert "center" in lines["Position z"]

"""Tilt series of several programs, against starfile and values read off the real files."""

from pathlib import Path

import numpy as np
import pytest
import starfile

from tomosift.errors import FormatError
from tomosift.io.tilt_series import read_acquisition


@pytest.mark.parametrize(
    "name", ["cryocat/relion5_TS_01_tilt.star", "cryocat/dc02t01_ctf.star", "relion/220728_TS_01.star"]
)
def test_real_relion_tilt_series_agrees_with_starfile(real_data: Path, name: str) -> None:
    table = starfile.read(real_data / "metadata" / name)
    acquisition = read_acquisition(real_data / "metadata" / name)
    np.testing.assert_allclose(acquisition.tilt_angles_deg, table["rlnTomoYTilt"])
    np.testing.assert_allclose(acquisition.dose_e_per_A2, table["rlnMicrographPreExposure"])
    defocus = (table["rlnDefocusU"] + table["rlnDefocusV"]) / 2e4
    np.testing.assert_allclose(acquisition.defocus_um, defocus)


def test_real_mdoc_tlt_and_warp_files_of_one_series_agree(real_data: Path) -> None:
    folder = real_data / "metadata/cryocat"
    mdoc, tlt, warp = (read_acquisition(folder / f"017.{kind}") for kind in ("mdoc", "tlt", "xml"))
    assert len(mdoc.tilt_angles_deg) == len(tlt.tilt_angles_deg) == len(warp.tilt_angles_deg) == 60
    np.testing.assert_allclose(tlt.tilt_angles_deg, mdoc.tilt_angles_deg, atol=0.05)
    np.testing.assert_allclose(warp.tilt_angles_deg, mdoc.tilt_angles_deg, atol=0.05)
    # SerialEM's record starts 0.073 above zero and jumps by one exposure before the last two images.
    difference = np.sort(mdoc.dose_e_per_A2 - warp.dose_e_per_A2)
    np.testing.assert_allclose(difference[:58], 0.0728, atol=1e-3)
    assert warp.dose_e_per_A2.min() == pytest.approx(0, abs=1e-3)
    assert warp.defocus_um[0] == pytest.approx(3.409815)
    assert (warp.voltage_kv, warp.amplitude_contrast) == (300.0, 0.07)


def test_real_gzipped_warp_file_is_read(real_data: Path) -> None:
    acquisition = read_acquisition(real_data / "metadata/pytom/gs04_ts_003.xml.gz")
    assert acquisition.tilt_range_deg == (-45.99, 46.0)
    assert acquisition.defocus_um[0] == pytest.approx(5.162571)


def test_dose_without_record_is_summed_in_order_of_time(tmp_path: Path) -> None:
    sections = [("-3", "06-Jun-23  23:19:47"), ("0", "06-Jun-23  23:10:01"), ("3", "06-Jun-23  23:30:00")]
    text = "Voltage = 200\n[T = a]\n" + "".join(
        f"[ZValue = {k}]\nTiltAngle = {tilt}\nExposureDose = 2.5\nDateTime = {time}\n"
        for k, (tilt, time) in enumerate(sections)
    )
    (tmp_path / "a.mdoc").write_text(text)
    acquisition = read_acquisition(tmp_path / "a.mdoc")
    np.testing.assert_allclose(acquisition.dose_e_per_A2, [2.5, 0.0, 5.0])
    assert acquisition.voltage_kv == 200.0


def test_aretomo_tilts_are_the_tenth_number(tmp_path: Path) -> None:
    (tmp_path / "a.aln").write_text(
        "# AreTomo Alignment / Priims bprmMn\n# RawSize = 4092 5760 41\n# NumPatches = 1\n# DarkFrame = 0 0 -60.00\n"
        "# SEC ROT GMAG TX TY SMEAN SFIT SCALE BASE TILT\n"
        "1 -94.8 1.0 -9.4 2.3 1.0 1.0 1.0 0.0 -57.01\n2 -94.8 1.0 -9.4 2.3 1.0 1.0 1.0 0.0 -54.01\n"
        "# Local Alignment\n0 0 100.0 100.0 1.0 1.0 1.0\n"
    )
    np.testing.assert_allclose(read_acquisition(tmp_path / "a.aln").tilt_angles_deg, [-57.01, -54.01])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tlt", "1.0\nx\n", "tilt angles is could not convert"),
        ("a.tlt", "", "tilt angles is empty"),
        ("a.mdoc", "[ZValue = 0]\nDose = 1\n", "TiltAngle is missing"),
        ("a.aln", "# nothing\n", "TILT is empty"),
        ("a.xml", "<TiltSeries>", "XML is malformed .no element found"),
        ("a.xml", "<Other/>", "root element is <Other>"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><TiltSeries/>', "XML is with a DOCTYPE"),
        ("a.star", "data_\nloop_\n_rlnA\n1\n", "tilt series is 0 of them"),
        ("a.mrc", "", "suffix is '.mrc', expected one of"),
    ],
)
def test_a_file_without_tilts_is_refused_with_the_reason(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(FormatError, match=message):
        read_acquisition(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "angles"),
    [
        ("-60 0\n-57 3\n57 120\n", [-60, -57, 57]),
        ("1 -60\n2 0\n3 60\n", [-60, 0, 60]),
        ("-60 0 60", [-60, 0, 60]),
    ],
)
def test_a_second_column_is_no_angle(tmp_path: Path, text: str, angles: list[float]) -> None:
    (tmp_path / "a.tlt").write_text(text)
    assert read_acquisition(tmp_path / "a.tlt").tilt_angles_deg.tolist() == angles


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tlt", "-60 -30\n0 0\n60 30\n"),
        ("a.tlt", "0\n0\n0\n"),
        ("a.tlt", "-60\n0\n1.6e24\n"),
        ("a.tlt", "-60\nnan\n60\n"),
        ("a.rawtlt", "-60\n0 3\n60\n"),
        ("a.aln", "1 0 1 0 0 1 1 1 0 -60\n2 0 1 0 0 1 1 1 0\n3 0 1 0 0 1 1 1 0 60\n"),
        ("a.star", "data_a\nloop_\n_rlnTomoYTilt\n-60\n120\n"),
        ("a.mdoc", "Voltage = 300\n"),
    ],
)
def test_angles_that_no_series_has_are_refused_with_their_file(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(FormatError, match=name):
        read_acquisition(tmp_path / name)


def test_a_date_of_another_language_costs_the_dose_alone(tmp_path: Path) -> None:
    sections = "".join(
        f"[ZValue = {k}]\nTiltAngle = {angle}\nExposureDose = 3\nDateTime = 01-Mai-24  16:{k}:54\n"
        for k, angle in enumerate((-52, 0, 52))
    )
    (tmp_path / "a.mdoc").write_text(f"Voltage = 300\n{sections}")
    acquisition = read_acquisition(tmp_path / "a.mdoc")
    assert acquisition.tilt_range_deg == (-52, 52)
    assert not acquisition.dose_e_per_A2.size


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.star", "data_a\nloop_\n_rlnTomoYTilt\n"),
        ("a.star", "data_a\nloop_\n_rlnTomoProjZ\n[true,0,0.8,1]\n[0.5,0,0.8,1]\n"),
        ("a.star", 'data_a\nloop_\n_rlnTomoProjZ\n["0.1",0,0.8,1]\n[0.5,0,0.8,1]\n'),
        ("a.aln", "1 0 1 0 0 1 1 1 0 -60\n2 0 1 0 0 1 1 1 0 0\n3 0 1 0 0 1 1\n"),
        ("a.aln", "1 0 1 0 0 1 1 1 0 -60\n2 0 1 0 0 1 1 1 0 0\n3\n"),
        ("a.tomostar", "data_\nloop_\n_wrpAngleTilt\nflat\n3\n"),
        ("a.xml", "<TiltSeries><Angles>-60\nflat\n60</Angles></TiltSeries>"),
    ],
)
def test_series_without_images_or_with_damaged_rows_are_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(FormatError, match=name):
        read_acquisition(tmp_path / name)


MDOC = "[ZValue = 0]\nTiltAngle = -60\n{0}\n[ZValue = 1]\nTiltAngle = 60\n{1}\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.mdoc", MDOC.format("ExposureDose = drei\nDateTime = 01-May-24", "ExposureDose = 3\nDateTime = 01-May-24")),
        ("a.mdoc", MDOC.format("ExposureDose = 3\nDateTime =", "ExposureDose = 3\nDateTime = 01-May-24  16:00:00")),
        ("a.mdoc", MDOC.format("PriorRecordDose = x", "PriorRecordDose = 3")),
        ("a.star", "data_a\nloop_\n_rlnTomoYTilt\n_rlnMicrographPreExposure\n_rlnDefocusU\n-60 x nan\n60 3 3\n"),
        ("a.xml", "<TiltSeries><Angles>-60\n60</Angles><Dose>a b</Dose></TiltSeries>"),
        ("a.xml", "<TiltSeries><Angles>-60\n60</Angles><GridCTF><Node Z='a'/><Node Z='1'/></GridCTF></TiltSeries>"),
    ],
)
def test_dose_and_defocus_that_cannot_be_read_cost_no_angles(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    acquisition = read_acquisition(tmp_path / name)
    assert acquisition.tilt_range_deg == (-60, 60)
    assert not acquisition.dose_e_per_A2.size
    assert not acquisition.defocus_um.size

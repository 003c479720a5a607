"""Which tomogram a name means."""

import pytest

from tomosift.io.tomogram_names import canonical_name, match_names


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("TS_01.tomostar", "/data/reconstruction/TS_01_10.00Apx.mrc"),
        ("TS_01", "/data/TS_01_rec.mrc"),
        ("Tomograms/job012/rec_TS_01.mrc", "/scratch/TS_01.mrc"),
        ("TS_01.mrc.gz", "/data/TS_01_bin4_rec.mrc"),
        (r"D:\data\TS_01.rec", "/data/TS_01.mrc"),
        ("lamella_5.2", "/data/lamella_5.2.mrc"),
    ],
)
def test_programs_additions_do_not_matter(name: str, file: str) -> None:
    assert match_names([name], {"key": [file], "other": ["/data/TS_02.mrc"]}).key_of == {name: "key"}


@pytest.mark.parametrize("name", ["lamella_5.2", "TS_1", "ts_01", "TS_010", "TS_01_5", "TS", "5"])
def test_similar_names_are_other_tomograms(name: str) -> None:
    match = match_names([name], {"TS_01": ["/data/TS_01.mrc"], "lamella_5.1": ["/data/lamella_5.1.mrc"]})
    assert match.missing == [name]
    assert "no tomogram" in match.describe_fault(["TS_01", "lamella_5.1"])


def test_exact_names_come_before_versions() -> None:
    known = {"TS_01": ["/data/TS_01.mrc"], "rec_TS_01": ["/data/rec_TS_01.mrc"], "TS_01_bin8": ["/data/TS_01_bin8.mrc"]}
    match = match_names(["TS_01", "rec_TS_01.mrc", "TS_01_bin8"], known)
    assert match.key_of == {"TS_01": "TS_01", "rec_TS_01.mrc": "rec_TS_01", "TS_01_bin8": "TS_01_bin8"}


def test_versions_alone_are_ambiguous() -> None:
    match = match_names(["TS_01.tomostar"], {"TS_01_10.00Apx": [], "TS_01_5.00Apx": []})
    assert match.ambiguous == {"TS_01.tomostar": ["TS_01_10.00Apx", "TS_01_5.00Apx"]}
    assert "'TS_01_5.00Apx'" in match.describe_fault([])


def test_folders_tell_namesakes_apart() -> None:
    known = {"grid1/TS_01": ["/data/grid1/TS_01.mrc"], "grid2/TS_01": ["/data/grid2/TS_01.mrc"]}
    match = match_names(["grid2/TS_01", "old/grid1/TS_01.rec"], known)
    assert match.key_of == {"grid2/TS_01": "grid2/TS_01", "old/grid1/TS_01.rec": "grid1/TS_01"}
    assert match_names(["TS_01"], known).ambiguous


def test_namesakes_of_two_folders_never_share_a_tomogram() -> None:
    match = match_names(["grid1/TS_01", "grid2/TS_01"], {"TS_01": ["/data/grid1/TS_01.mrc"]})
    assert match.key_of == {"grid1/TS_01": "TS_01"}
    assert match.ambiguous == {"grid2/TS_01": ["TS_01"]}


def test_jobs_of_one_project_differ() -> None:
    match = match_names(["job010/tomograms/TS_01", "job011/tomograms/TS_01"], {"TS_01": ["job010/tomograms/TS_01.mrc"]})
    assert match.key_of == {"job010/tomograms/TS_01": "TS_01"}
    assert list(match.ambiguous) == ["job011/tomograms/TS_01"]


def test_other_folders_are_reported() -> None:
    match = match_names(["job012/TS_01.mrc"], {"TS_01": ["/data/TS_01.mrc"]})
    assert match.key_of == {"job012/TS_01.mrc": "TS_01"}
    assert "'job012/TS_01.mrc' is 'TS_01'" in match.describe_folders()
    assert not match_names(["data/TS_01.mrc"], {"TS_01": ["/data/TS_01.mrc"]}).describe_folders()


def test_nothing_is_left_of_a_name_that_is_all_additions() -> None:
    assert [canonical_name(name) for name in ("rec_", ".mrc", "_rec", "rec_rec_a.mrc.gz")] == [
        "rec_",
        ".mrc",
        "_rec",
        "a",
    ]

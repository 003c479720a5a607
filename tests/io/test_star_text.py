"""STAR text: values survive, malformed text ends in one sentence."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomosift.errors import FormatError
from tomosift.io.star_text import read_star, write_star

TABLE = """data_particles

loop_
_rlnImageName #1
_rlnCoordinateX #2
_rlnGroupNumber #3
_other #4
000001@a/b.mrcs 1.500000 0017 "two words"
000002@a/b.mrcs -2e-3 0018 ''
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_zero_padded_numbers_stay_text(tmp_path: Path) -> None:
    table = read_star(write(tmp_path / "a.star", TABLE))["particles"]
    assert table["rlnGroupNumber"].tolist() == ["0017", "0018"]
    assert table["rlnImageName"].tolist() == ["000001@a/b.mrcs", "000002@a/b.mrcs"]
    assert table["rlnCoordinateX"].tolist() == [1.5, -0.002]


def test_quoted_blanks_and_empty_values_are_kept(tmp_path: Path) -> None:
    table = read_star(write(tmp_path / "a.star", TABLE))["particles"]
    assert table["other"].tolist() == ["two words", ""]


def test_comments_tabs_indentation_and_line_ends_do_not_matter(tmp_path: Path) -> None:
    text = TABLE.replace("loop_", "# a comment\nloop_ ").replace(" 1.500000", "\t1.500000  ").replace("\n", "\r\n  ")
    text = text.replace('"two words"', '"two words" # behind')
    pd.testing.assert_frame_equal(
        read_star(write(tmp_path / "b.star", text))["particles"],
        read_star(write(tmp_path / "a.star", TABLE))["particles"],
    )


def test_block_without_loop_is_one_row(tmp_path: Path) -> None:
    blocks = read_star(
        write(tmp_path / "a.star", "data_general\n\n_rlnA 1\n_rlnBName 007\n\ndata_x\nloop_\n_rlnA\n3\n")
    )
    assert blocks["general"].to_dict("records") == [{"rlnA": 1, "rlnBName": "007"}]
    assert blocks["x"]["rlnA"].tolist() == [3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "data_ block is empty"),
        ("x,y,z\n1,2,3\n", "data_ block is text without one"),
        ("data_a\n\n_rlnA #1\n_rlnB #2\n1 2\n", "put loop_ above the labels"),
        ("data_a\nloop_\n1 2\n", "a loop_ without labels"),
        ("data_a\nloop_\n_rlnA\n_rlnA\n1 2\n", "column rlnA of block data_a is given twice"),
        ("data_a\nloop_\n_rlnA\n_rlnB\n1 2\n3\n", "line 6 of block data_a is 1 values; rlnB is the first column"),
        ("data_a\nloop_\n_rlnA\n_rlnB\n1\n3 4\n", "line 5 of block data_a is 1 values"),
        ("data_a\nloop_\n_rlnA\n_rlnB\n1 2\n3 4 5\n", "line 6 of block data_a is 3 values, expected 2"),
        ("data_a\nloop_\n_rlnA\n1\ndata_a\nloop_\n_rlnA\n1\n", "block data_a is given twice"),
        ("data_a\nloop_\n_rlnA\n_rlnB\n1 \"2\n3 4\n", "block data_a"),
    ],
)  # fmt: skip
def test_malformed_text_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_star(write(tmp_path / "a.star", text))


def test_cut_gzip_binary_and_absent_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.star.gz"
    path.write_bytes(gzip.compress(TABLE.encode())[:-20])
    with pytest.raises(FormatError, match="gzip stream is cut short"):
        read_star(path)
    path.write_bytes(b"\0" * 1024)
    with pytest.raises(FormatError, match="file is binary"):
        read_star(path)
    with pytest.raises(FormatError, match="No such file"):
        read_star(tmp_path / "absent.star")


WORDS = st.text(st.characters(codec="ascii", exclude_categories=["C"], exclude_characters="\"'"), max_size=12)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(WORDS, st.floats(allow_nan=True), st.integers(-(2**62), 2**62)), min_size=1, max_size=6),
)
def test_written_table_reads_back_equal(tmp_path: Path, rows: list[tuple[str, float, int]]) -> None:
    table = pd.DataFrame(rows, columns=["rlnTomoName", "number", "count"]).astype({"rlnTomoName": object})
    write_star(tmp_path / "a.star", {"particles": table})
    back = read_star(tmp_path / "a.star")["particles"]
    assert back["rlnTomoName"].tolist() == table["rlnTomoName"].tolist()
    np.testing.assert_array_equal(back["number"].to_numpy(np.float64), table["number"].to_numpy(np.float64))
    assert back["count"].tolist() == table["count"].tolist()


def test_every_real_file_survives_and_starfile_agrees(real_data: Path, tmp_path: Path) -> None:
    files = sorted((real_data / "metadata").rglob("*.star"))
    assert len(files) > 20
    for path in files:
        blocks = read_star(path)
        write_star(tmp_path / "copy.star", blocks, version="30001")
        theirs = starfile.read(tmp_path / "copy.star", always_dict=True)
        for name, table in read_star(tmp_path / "copy.star").items():
            pd.testing.assert_frame_equal(table, blocks[name])
            reference = theirs[name] if isinstance(theirs[name], pd.DataFrame) else pd.DataFrame([theirs[name]])
            assert list(reference.columns) == list(table.columns), path
            for label in table.columns[[kind.kind in "if" for kind in table.dtypes]]:
                np.testing.assert_array_equal(reference[label].to_numpy(np.float64), table[label].to_numpy(np.float64))

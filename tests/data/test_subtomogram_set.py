"""The set on disk: what goes in comes out, and broken sets say so."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tomosift.data.particle_table import read_particle_table, write_particle_table
from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.subtomogram_set import open_subtomograms
from tomosift.errors import FormatError
from tomosift.particles import Particles


def make_particles(n: int, seed: int = 0) -> Particles:
    rng = np.random.default_rng(seed)
    mixed = np.empty(n, dtype=object)
    mixed[:] = [[1, "two", 3.5, None, True, 2 + 3j, float("nan")][k % 7] for k in range(n)]
    columns = pd.DataFrame(
        {
            "rlnText": [f"text {k}" for k in range(n)],
            "rlnObjectText": pd.Series([f"text {k}" for k in range(n)], dtype=object),
            "rlnMissingText": pd.Series([None if k % 2 else "x" for k in range(n)], dtype="str"),
            "rlnMixed": mixed,
            "rlnInteger": np.arange(n, dtype=np.int32),
            "rlnNullable": pd.Series([None if k % 3 == 0 else k for k in range(n)], dtype="Int64"),
            "rlnReal": np.where(np.arange(n) % 4 == 0, np.nan, rng.normal(size=n)),
            "rlnSingle": rng.normal(size=n).astype(np.float32),
            "rlnTrue": rng.random(n) > 0.5,
            "complex": rng.normal(size=n) + 1j * rng.normal(size=n),
            "kind": pd.Categorical([["a", "b"][k % 2] for k in range(n)]),
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(n), unit="s"),
            7: np.arange(n),
        }
    )
    optics = pd.DataFrame({"rlnOpticsGroup": [1, 2], "rlnVoltage": [300.0, np.nan], "rlnName": ["a", "b"]})
    return Particles.create(
        tomogram=[f"TS_{k % 3:02d}" for k in range(n)],
        position_zyx_angstrom=rng.normal(size=(n, 3)),
        rotation=rng.normal(size=(n, 3, 3)),
        class_name=np.asarray([["", "ribosome", "proteasome"][k % 3] for k in range(n)], dtype=object),
        score=np.where(np.arange(n) % 2, rng.normal(size=n), np.nan),
        columns=columns,
        tables={"optics": optics, "general": pd.DataFrame({"rlnTomoSubTomosAre2DStacks": ["1"]})},
        source="relion5",
    )


def assert_same(got: Particles, expected: Particles) -> None:
    for name in ("particle_id", "tomogram", "class_name"):
        assert getattr(got, name).tolist() == getattr(expected, name).tolist()
    for name in ("position_zyx_angstrom", "rotation", "score"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))
    pd.testing.assert_frame_equal(got.columns, expected.columns)
    assert got.tables.keys() == expected.tables.keys()
    for name, table in expected.tables.items():
        pd.testing.assert_frame_equal(got.tables[name], table)
    assert got.source == expected.source


def boxes(n: int, size: int = 6, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(3.0, 5.0, size=(n, size, size, size)).astype(np.float32)


def z_score(volume: np.ndarray) -> np.ndarray:
    return (volume - volume.mean((-3, -2, -1), keepdims=True)) / volume.std((-3, -2, -1), keepdims=True)


def test_every_column_and_table_returns_exactly(tmp_path: Path) -> None:
    particles = make_particles(23)
    write_particle_table(tmp_path / "p.parquet", particles, {"stored": np.arange(23)})
    got, added = read_particle_table(tmp_path / "p.parquet")
    assert_same(got, particles)
    np.testing.assert_array_equal(added["stored"], np.arange(23))


def test_a_table_without_columns_or_rows_returns(tmp_path: Path) -> None:
    for n in (0, 3):
        particles = Particles.create(["a"] * n, np.zeros((n, 3)))
        write_particle_table(tmp_path / "p.parquet", particles, {})
        got, _ = read_particle_table(tmp_path / "p.parquet")
        assert_same(got, particles)


def test_columns_of_one_name_both_return(tmp_path: Path) -> None:
    columns = pd.DataFrame([[1, 2.5], [3, 4.5]], columns=["same", "same"])
    particles = Particles.create(["a", "b"], np.zeros((2, 3)), columns=columns)
    write_particle_table(tmp_path / "p.parquet", particles, {})
    got, _ = read_particle_table(tmp_path / "p.parquet")
    assert got.columns.to_numpy().tolist() == columns.to_numpy().tolist()


def test_a_set_returns_boxes_particles_and_labels(tmp_path: Path) -> None:
    particles, volume, halves = make_particles(11), boxes(11), boxes(22).reshape(11, 2, 6, 6, 6)
    writer = SubtomogramWriter(tmp_path / "set", 6, 10.0, shard_size=4, has_halves=True, provenance={"seed": 3})
    for start in (0, 5, 10):
        rows = np.arange(start, min(start + 5, 11))
        writer.append(volume[rows], particles.select(rows), np.array([-50, 60]), halves[rows])
    written = writer.close()
    for data in (written, open_subtomograms(tmp_path / "set")):
        assert_same(data.particles, particles)
        assert (len(data), data.box_size, data.voxel_spacing_angstrom, data.has_halves) == (11, 6, 10.0, True)
        assert data.class_names == ("proteasome", "ribosome")
        assert data.label.tolist() == [[-1, 1, 0][k % 3] for k in range(11)]
        assert data.tomogram_names == ("TS_00", "TS_01", "TS_02")
        assert data.provenance == {"seed": 3}
        rows = np.array([10, 0, 7, 7, 3, 4])
        np.testing.assert_allclose(data.volumes(rows), z_score(volume[rows]), atol=3e-3)
        np.testing.assert_allclose(data.halves(rows), z_score(halves[rows]), atol=3e-3)
        assert data.volumes(rows).dtype == np.float32
        np.testing.assert_allclose(data.volumes(rows).std((1, 2, 3)), 1, atol=1e-5)
        np.testing.assert_array_equal(data.tilt_range_deg[3], [-50, 60])
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == [
        *(f"boxes-0000{k}.npy" for k in range(3)),
        *(f"halves-0000{k}.npy" for k in range(3)),
        "particles.parquet",
        "set.json",
    ]
    assert np.load(tmp_path / "set" / "boxes-00002.npy").shape == (3, 6, 6, 6)


def test_order_keys_sort_the_rows_and_boxes_follow(tmp_path: Path) -> None:
    particles, volume = make_particles(6), boxes(6)
    order = np.array([4, 1, 5, 0, 3, 2])
    writer = SubtomogramWriter(tmp_path, 6, 10.0, shard_size=4)
    writer.append(volume, particles, np.array([-60, 60]), order=order)
    data = writer.close()
    rank = np.argsort(order)
    assert data.particles.particle_id.tolist() == particles.particle_id[rank].tolist()
    np.testing.assert_allclose(data.volumes(range(6)), z_score(volume[rank]), atol=3e-3)


def test_selecting_and_labeling_leave_the_files_alone(tmp_path: Path) -> None:
    writer = SubtomogramWriter(tmp_path, 6, 10.0)
    volume = boxes(5)
    writer.append(volume, make_particles(5), np.array([-60, 60]))
    data = writer.close()
    part = data.select(np.array([False, True, False, True, True]))
    np.testing.assert_allclose(part.volumes([2, 0]), z_score(volume[[4, 1]]), atol=3e-3)
    named = part.with_labels(["b", "", "a"], class_names=("b", "c", "a"))
    assert (named.label.tolist(), named.class_names) == ([0, -1, 2], ("b", "c", "a"))
    assert part.label.tolist() == [1, -1, 1]
    assert named.select(named.labeled_rows).particles.class_name.tolist() == ["b", "a"]
    assert data.volumes([]).shape == (0, 6, 6, 6)
    with pytest.raises(ValueError, match=r"\['d'\]"):
        part.with_labels(["d", "", "a"], class_names=("a",))
    with pytest.raises(ValueError, match="2 class names for 3"):
        part.with_labels(["a", "a"])
    with pytest.raises(ValueError, match="no half boxes"):
        data.halves([0])


def test_writing_resumes_after_the_last_finished_shard(tmp_path: Path) -> None:
    particles, volume = make_particles(10), boxes(10)
    killed = SubtomogramWriter(tmp_path / "a", 6, 10.0, shard_size=4)
    killed.append(volume[:7], particles.select(np.arange(7)), np.array([-60, 60]))
    with pytest.raises(FormatError, match="run the same command again to resume"):
        open_subtomograms(tmp_path / "a")
    killed.abandon()
    with pytest.raises(FormatError, match="run the same command again to resume"):
        open_subtomograms(tmp_path / "a")
    resumed = SubtomogramWriter(tmp_path / "a", 6, 10.0, shard_size=4)
    assert resumed.written_order.tolist() == [0, 1, 2, 3]
    resumed.append(volume[4:], particles.select(np.arange(4, 10)), np.array([-60, 60]))
    resumed.close()
    whole = SubtomogramWriter(tmp_path / "b", 6, 10.0, shard_size=4)
    whole.append(volume, particles, np.array([-60, 60]))
    whole.close()
    for name in ("boxes-00000.npy", "boxes-00001.npy", "boxes-00002.npy", "particles.parquet", "set.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with pytest.raises(ValueError, match="already holds a finished set"):
        SubtomogramWriter(tmp_path / "a", 6, 10.0)


def test_another_request_never_mixes_into_a_begun_set(tmp_path: Path) -> None:
    SubtomogramWriter(tmp_path, 6, 10.0, provenance={"seed": 1})
    with pytest.raises(ValueError, match="seed was 1, is 2"):
        SubtomogramWriter(tmp_path, 6, 10.0, provenance={"seed": 2})


def test_boxes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    writer = SubtomogramWriter(tmp_path, 6, 10.0)
    particles = make_particles(2)
    with pytest.raises(ValueError, match="expected \\(2, 6, 6, 6\\)"):
        writer.append(boxes(2, 5), particles, np.array([-60, 60]))
    for value in (0.0, np.nan):
        with pytest.raises(ValueError, match="constant or not numbers"):
            writer.append(np.full((2, 6, 6, 6), value, dtype=np.float32), particles, np.array([-60, 60]))
    with pytest.raises(ValueError, match="no subtomogram was written"):
        writer.close()


def test_broken_sets_are_refused_with_the_broken_file(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no folder"):
        open_subtomograms(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match="extract particles"):
        open_subtomograms(tmp_path / "empty")
    with SubtomogramWriter(tmp_path / "set", 6, 10.0) as writer:
        writer.append(boxes(2), make_particles(2), np.array([-60, 60]))
    shard, table, described = (tmp_path / "set" / name for name in ("boxes-00000.npy", "particles.parquet", "set.json"))
    content = shard.read_bytes()
    for broken, message in ((content[:-2], "length"), (b"nothing", "header")):
        shard.write_bytes(broken)
        with pytest.raises(FormatError, match=message):
            open_subtomograms(tmp_path / "set")
    shard.unlink()
    with pytest.raises(FormatError, match="missing"):
        open_subtomograms(tmp_path / "set")
    shard.write_bytes(content)
    described.write_text(json.dumps(json.loads(described.read_text()) | {"format_version": 99}))
    with pytest.raises(FormatError, match="update tomosift"):
        open_subtomograms(tmp_path / "set")
    described.write_text("{")
    with pytest.raises(FormatError, match="no JSON"):
        open_subtomograms(tmp_path / "set")
    described.write_text(json.dumps({"format_version": 1}))
    with pytest.raises(FormatError, match="box_size"):
        open_subtomograms(tmp_path / "set")
    table.write_bytes(b"PAR1")
    with pytest.raises(FormatError, match="particle table"):
        read_particle_table(table)


MEMORY_CHECK = """
import resource, sys
import numpy as np
from tomosift.data.set_writer import SubtomogramWriter
from tomosift.particles import Particles

n, chunk = 3072, 128
rng = np.random.default_rng(0)
volume = rng.normal(size=(chunk, 32, 32, 32)).astype(np.float32)
writer = SubtomogramWriter(sys.argv[1], 32, 10.0, shard_size=1536)
def part(start):
    ids = [str(k) for k in range(start, start + chunk)]
    return Particles.create(["t"] * chunk, np.zeros((chunk, 3)), particle_id=ids)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
writer.append(volume, part(0), np.array([-60, 60]))
before = peak()
for start in range(chunk, n, chunk):
    writer.append(volume, part(start), np.array([-60, 60]))
data = writer.close()
for rows in np.array_split(rng.permutation(n), n // 64):
    data.volumes(rows)
print(peak() - before)
"""


def test_memory_does_not_grow_with_the_set(tmp_path: Path) -> None:
    """192 MiB of boxes pass through; a map or a buffered shard would show as 96 MiB or more."""
    done = subprocess.run([sys.executable, "-c", MEMORY_CHECK, str(tmp_path / "set")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 48

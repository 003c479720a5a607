"""A million particles: the page opens at once and memory stays small."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from tomosift.data.particle_table import write_particle_table
from tomosift.files import write_json
from tomosift.particles import Particles

COUNT, EDGE, PER_SHARD = 1_000_000, 32, 4096
SECONDS, MEGABYTES = 3.0, 1000
MARGIN = 3.0
"""Machines that run tests for many people are slower than the one a person sits at."""


@pytest.fixture
def million(tmp_path: Path) -> Path:
    """A set whose table is real and whose boxes are holes in files, which read as zeros."""
    folder = tmp_path / "million"
    folder.mkdir()
    names = []
    for start in range(0, COUNT, PER_SHARD):
        count = min(PER_SHARD, COUNT - start)
        names.append(f"boxes-{len(names):05d}.npy")
        with (folder / names[-1]).open("wb") as stream:
            header = {"descr": "<f2", "fortran_order": False, "shape": (count, EDGE, EDGE, EDGE)}
            np.lib.format.write_array_header_1_0(stream, header)
            stream.truncate(stream.tell() + count * EDGE**3 * 2)
    position = np.random.default_rng(0).uniform(0, 5000, (COUNT, 3))
    particles = Particles.create([f"TS_{row // 10_000:03d}" for row in range(COUNT)], position)
    tilt = {"tilt_low_deg": np.full(COUNT, -60.0), "tilt_high_deg": np.full(COUNT, 60.0)}
    write_particle_table(folder / "particles.parquet", particles, {"stored": np.arange(COUNT), **tilt})
    described = {
        "format_version": 1,
        "count": COUNT,
        "box_size": EDGE,
        "voxel_spacing_angstrom": 10.0,
        "class_names": ["ribosome", "groel"],
        "has_halves": False,
        "shards": names,
        "provenance": {},
    }
    write_json(folder / "set.json", described)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_million_boxes_open_within_seconds_in_less_than_a_gigabyte(million: Path, tmp_path: Path) -> None:
    code = "import sys; from tomosift.cli.main import main; main(sys.argv[1:])"
    words = ["label", million, "--store", tmp_path / "labels.sqlite", "--no-browser"]
    before = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stderr is not None
        address = next(line.split()[1] for line in process.stderr if line.startswith("open "))
        base, token = address.split("/#token=")
        headers = {"Authorization": f"Bearer {token}"}

        def ask(path: str) -> tuple[bytes, float]:
            start = time.monotonic()
            with urllib.request.urlopen(urllib.request.Request(f"{base}{path}", headers=headers)) as answer:
                return answer.read(), time.monotonic() - start

        ask("/api/next?annotator=ada&count=8")
        opened = time.monotonic() - before
        times = {
            path: ask(path)[1]
            for path in ("/api/state?annotator=ada", "/api/box/999999", "/api/search?text=ts_099/009999")
        }
        time.sleep(10)  # while boxes are embedded
        times["next, while learning"] = ask("/api/next?annotator=ada&count=8")[1]
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1000
        process.send_signal(signal.SIGKILL)
    told = ", ".join(f"{path} {1000 * seconds:.0f} ms" for path, seconds in times.items())
    print(f"\nfirst question after {opened:.1f} s, peak memory {peak:.0f} MB; {told}")
    assert opened < MARGIN * SECONDS
    assert peak < MEGABYTES
    assert max(times.values()) < MARGIN

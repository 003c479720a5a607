"""How long the labeling page of a large set takes to open, and how much memory its server needs.

    ./dev bench annotation_page --count 1000000

The set has a real particle table; its subtomograms are holes in files, which read as zeros. Printed are the seconds
from the start of the command to its first query, the time of single requests at the start and while the model embeds,
and the peak memory of the process. Only for Linux, where memory is read from /proc.
"""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import tyro

from tomosift.data.particle_table import write_particle_table
from tomosift.files import write_json
from tomosift.particles import Particles

SUBTOMOGRAMS_PER_SHARD = 4096
REQUESTS = {
    "next": "/api/next?annotator=ada&count=8",
    "state": "/api/state?annotator=ada",
    "subtomogram": "/api/subtomogram/0",
    "search": "/api/search?text=ts_099/009999",
}


@dataclass(frozen=True)
class Options:
    """What to measure."""

    count: int = 1_000_000
    """Subtomograms of the set."""
    box_size: int = 32
    """Edge in voxels."""
    seconds: float = 20.0
    """How long the model embeds before the last requests."""


def write_sparse_set(folder: Path, count: int, box_size: int) -> None:
    """Write a set whose subtomograms take no space on the disk."""
    folder.mkdir()
    shards = []
    for start in range(0, count, SUBTOMOGRAMS_PER_SHARD):
        length = min(SUBTOMOGRAMS_PER_SHARD, count - start)
        shards.append(f"boxes-{len(shards):05d}.npy")
        with (folder / shards[-1]).open("wb") as stream:
            header = {"descr": "<f2", "fortran_order": False, "shape": (length, box_size, box_size, box_size)}
            np.lib.format.write_array_header_1_0(stream, header)
            stream.truncate(stream.tell() + length * box_size**3 * 2)
    position = np.random.default_rng(0).uniform(0, 5000, (count, 3))
    particles = Particles.create([f"TS_{row // 10_000:03d}" for row in range(count)], position)
    tilt = {"tilt_low_deg": np.full(count, -60.0), "tilt_high_deg": np.full(count, 60.0)}
    write_particle_table(folder / "particles.parquet", particles, {"stored": np.arange(count), **tilt})
    description = {
        "format_version": 1,
        "count": count,
        "box_size": box_size,
        "voxel_spacing_angstrom": 10.0,
        "class_names": ["ribosome", "groel"],
        "has_halves": False,
        "shards": shards,
        "provenance": {},
    }
    write_json(folder / "set.json", description)


@dataclass(frozen=True)
class Page:
    """A running server."""

    process_id: int
    address: str
    token: str

    def get(self, path: str) -> bytes:
        """Return the answer to a request."""
        request = urllib.request.Request(f"{self.address}{path}", headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request) as answer:
            content: bytes = answer.read()
        return content

    def time(self, path: str) -> float:
        """Return the seconds of a request."""
        start = time.monotonic()
        self.get(path)
        return time.monotonic() - start

    def peak_megabytes(self) -> float:
        """Return the peak memory of the server so far."""
        status = Path(f"/proc/{self.process_id}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1000


@contextmanager
def open_page(subtomograms: Path, store: Path) -> Iterator[Page]:
    """Run the command in a process of its own, which is killed at the end."""
    code = "import sys; from tomosift.cli.main import main; main(sys.argv[1:])"
    words = ["label", subtomograms, "--store", store, "--no-browser"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            assert process.stderr is not None
            url = next(line.split()[1] for line in process.stderr if line.startswith("open "))
            address, token = url.split("/#token=")
            yield Page(process.pid, address, token)
        finally:
            process.kill()


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Write the set, open its page, and print what it takes."""
    with TemporaryDirectory() as folder:
        subtomograms = Path(folder) / "set"
        write_sparse_set(subtomograms, options.count, options.box_size)
        started = time.monotonic()
        with open_page(subtomograms, Path(folder) / "labels.sqlite") as page:
            page.get(REQUESTS["next"])
            print(f"{options.count} subtomograms: first query after {time.monotonic() - started:.1f} s")
            for moment in ("at the start", "while embedding"):
                times = ", ".join(f"{name} {1000 * page.time(path):.0f} ms" for name, path in REQUESTS.items())
                print(f"{moment}: {times}", flush=True)
                time.sleep(options.seconds if moment == "at the start" else 0)
            print(f"peak memory {page.peak_megabytes():.0f} MB")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

"""Damaged files of every format: each is read as it is or refused with one sentence that names it.

    ./dev bench fuzz --count 3000 --seed 0

A valid file of each format is written, copied and mutated: cut short, bytes flipped, numbers replaced by NaN,
infinities or 300 digits, lines doubled, brackets nested a thousand deep, other encodings, blanks and null bytes. Each
mutated file is described as `tomosift inspect` does, in a process of its own with limits of time and memory. What reads
is compared with an independent reader where one is installed: starfile, mrcfile and tifffile.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import gemmi
import numpy as np

from tomosift.data.set_writer import SubtomogramWriter
from tomosift.io.particles import write_particles
from tomosift.io.volumes import write_volume
from tomosift.particles import Particles
from tomosift.workflows.inspect import describe_file

SECONDS, MEMORY_BYTES = 20, 2 << 30
OUTCOMES = ("read", "refused", "unnamed", "traceback", "hang", "memory", "disagrees")
"""The first two are right; unnamed is a sentence without the name of the file."""


def write_seeds(folder: Path) -> dict[str, Path]:
    """Write a valid file of each format; return them by the name of the format."""
    rng = np.random.default_rng(0)
    picks = Particles.create(["TS_01"] * 6, rng.uniform(50, 900, (6, 3)), class_name=["a", "b", "a", "b", "a", "b"])
    one = Particles.create(["TS_01"] * 6, picks.position_zyx_angstrom)
    for name in ("star", "csv", "tsv", "tbl", "em", "mod", "xml", "ndjson"):
        write_particles(folder / f"picks.{name}", one if name == "ndjson" else picks, voxel_spacing_angstrom=10.0)
    write_particles(folder / "pytom.xml", picks, voxel_spacing_angstrom=10.0, format="pytom")
    write_particles(folder / "picks.txt", one, voxel_spacing_angstrom=10.0)
    volume = rng.normal(size=(8, 9, 10)).astype(np.float32)
    for name in ("volume.mrc", "volume.mrc.gz", "volume.em", "volume.tif", "volume.zarr"):
        write_volume(folder / name, volume, 10.0)
    texts = {
        "copick.json": '{"pickable_object_name": "a", "points": [{"location": {"x": 1, "y": 2, "z": 3}}]}',
        "tilts.tlt": "-60\n-30\n0\n30\n60\n",
        "tilts.aln": "# AreTomo\n1 0 1 0 0 1 1 1 0 -60\n2 0 1 0 0 1 1 1 0 60\n",
        "tilts.mdoc": "Voltage = 300\n[ZValue = 0]\nTiltAngle = -60\n[ZValue = 1]\nTiltAngle = 60\n",
        "tilts.xml": "<TiltSeries><Angles>-60\n0\n60</Angles><Dose>1\n2\n3</Dose></TiltSeries>",
        "tilts.tomostar": "data_\n\nloop_\n_wrpMovieName #1\n_wrpAngleTilt #2\n_wrpDose #3\na.eer -60 1\nb.eer 60 2\n",
        "tomograms.star": "data_global\n\nloop_\n_rlnTomoName\n_rlnTomoSizeX\n_rlnTomoSizeY\n_rlnTomoSizeZ\n"
        "_rlnTomoTiltSeriesPixelSize\nTS_01 100 100 50 10\n\n"
        "data_TS_01\n\nloop_\n_rlnTomoProjZ\n[0.5,0,0.8,1]\n[-0.5,0,0.8,1]\n",
        "structure.pdb": "ATOM      1  CA  ALA A   1      11.104   6.134  -6.504  1.00  0.00           C\n"
        "ATOM      2  CA  GLY A   2      13.104   6.134  -6.504  1.00  0.00           C\nEND\n",
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text)
    gemmi.read_structure(str(folder / "structure.pdb")).make_mmcif_document().write_file(str(folder / "structure.cif"))
    with SubtomogramWriter(folder / "set", 8, 10.0) as writer:
        writer.append(rng.normal(size=(6, 8, 8, 8)), picks, (-60.0, 60.0))
    (folder / "run").mkdir()
    (folder / "run" / "config.json").write_text('{"method": "supervised", "config": {"steps": 3}, "seed": 0}')
    (folder / "run" / "log.jsonl").write_text('{"event": "step", "step": 1}\n{"event": "step", "step": 2}\n')
    return {path.name: path for path in sorted(folder.iterdir()) if path.suffix != ".doc"}


def flip(content: bytes, rng: np.random.Generator) -> bytes:
    """Change a few bytes."""
    data = bytearray(content)
    for place in rng.integers(0, max(len(data), 1), size=rng.integers(1, 8)):
        if data:
            data[place % len(data)] = int(rng.integers(256))
    return bytes(data)


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    """Keep the beginning."""
    return content[: int(rng.integers(0, len(content) + 1))]


def replace_number(content: bytes, rng: np.random.Generator) -> bytes:
    """Put another value in place of a number of the text."""
    values = (b"nan", b"inf", b"-1e308", b"9" * 310, b"1e999", b"-0", b"0x10", b"", b"None", b"12345678901234567890")
    words = content.split(b" ")
    numeric = [k for k, word in enumerate(words) if any(48 <= byte <= 57 for byte in word)]
    if numeric:
        words[int(rng.choice(numeric))] = values[int(rng.integers(len(values)))]
    return b" ".join(words)


def double_line(content: bytes, rng: np.random.Generator) -> bytes:
    """Repeat or remove a line."""
    lines = content.split(b"\n")
    k = int(rng.integers(len(lines)))
    return b"\n".join(lines[:k] + ([lines[k]] * int(rng.choice([0, 2, 500]))) + lines[k + 1 :])


def nest(content: bytes, rng: np.random.Generator) -> bytes:
    """Put deep brackets or elements into the text."""
    deep = (b"[" * 3000, b'{"a":' * 3000, b"<a>" * 3000, b"(" * 3000)[int(rng.integers(4))]
    k = int(rng.integers(len(content) + 1))
    return content[:k] + deep + content[k:]


def encode(content: bytes, rng: np.random.Generator) -> bytes:
    """Write the text in another encoding, or put foreign bytes into it."""
    kind = int(rng.integers(5))
    if kind == 0:
        return content.decode("latin-1").encode("utf-16")
    if kind == 1:
        return b"\xef\xbb\xbf" + content
    k = int(rng.integers(len(content) + 1))
    return (
        content[:k] + (b"\xe9\xff", b"\0" * 64, b"\x1b[2J", b" " * 100_000)[kind - 2 if kind < 5 else 3] + content[k:]
    )


MUTATIONS: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "cut": cut, "flip": flip, "number": replace_number, "line": double_line, "nest": nest, "encode": encode,
}  # fmt: skip


def mutate(path: Path, rng: np.random.Generator) -> str:
    """Mutate a file, or one file of a folder; return the kind of mutation."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    file = files[int(rng.integers(len(files)))]
    kind = list(MUTATIONS)[int(rng.integers(len(MUTATIONS)))]
    file.write_bytes(MUTATIONS[kind](file.read_bytes(), rng))
    return kind


def read(path: Path) -> str:
    """Read a file in this process; return the outcome."""
    try:
        lines = dict(describe_file(path))
    except MemoryError:
        return "memory"
    except ValueError as error:
        text = str(error)
        return "refused" if path.name in text or path.parent.name in text else f"unnamed: {text[:150]}"
    except Exception as error:
        return f"traceback: {type(error).__name__}: {str(error)[:150]}"
    return compare(path, lines)


def compare(path: Path, lines: dict[str, str]) -> str:
    """Compare what was read with an independent reader that reads the file as well."""
    try:
        expected = count_independently(path)
    except Exception:  # it is stricter, or not installed
        return "read"
    got = lines.get("Particles") or lines.get("Size (z, y, x)") or ""
    return "read" if expected in ("", got) else f"disagrees: {got} against {expected}"


def count_independently(path: Path) -> str:
    """Number of particles, or size of a volume, by another program's reader; empty for other formats."""
    if path.name == "picks.star":
        import starfile

        tables = starfile.read(path, always_dict=True)
        return str(len(next(table for name, table in tables.items() if "rlnTomoName" in table or name == "particles")))
    if path.name == "volume.mrc":
        import mrcfile

        with mrcfile.open(path, permissive=False) as volume:
            return " x ".join(map(str, volume.data.shape)) if volume.data.ndim == 3 else ""
    if path.name == "volume.tif":
        import tifffile

        return " x ".join(map(str, tifffile.imread(path).shape))
    return ""


def read_in_process(path: Path) -> str:
    """Read a file in a child with limits of time and memory."""
    source, target = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(source)
        signal.alarm(SECONDS)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        outcome = read(path)
        os.write(target, outcome.encode("utf-8", "replace"))
        os._exit(0)
    os.close(target)
    with os.fdopen(source, "rb") as stream:
        outcome = stream.read().decode()
    _, status, usage = os.wait4(child, 0)
    if usage.ru_maxrss * 1024 > MEMORY_BYTES:
        return f"memory: {usage.ru_maxrss >> 10} MiB"
    if outcome:
        return outcome
    return "hang" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM else f"traceback: status {status}"


def run(count: int, seed: int, only: str = "") -> dict[str, Counter[str]]:
    """Mutate and read; return the outcomes by format, and print whatever is not right."""
    table: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "seeds").mkdir()
        seeds = write_seeds(folder / "seeds")
        for path in seeds.values():
            assert read(path) == "read", f"{path.name} is no valid seed: {read(path)}"
        chosen = [path for path in seeds.values() if only in path.name]
        for k in range(count):
            rng = np.random.default_rng([seed, k])
            seed_path = chosen[k % len(chosen)]
            path = folder / "case" / seed_path.name
            shutil.rmtree(folder / "case", ignore_errors=True)
            path.parent.mkdir()
            (shutil.copytree if seed_path.is_dir() else shutil.copy)(seed_path, path)
            kind = mutate(path, rng)
            outcome = read_in_process(path)
            table.setdefault(seed_path.name, Counter())[outcome.split(":")[0]] += 1
            if outcome not in ("read", "refused"):
                print(f"case {k} of {seed_path.name} ({kind}): {outcome}", flush=True)
    return table


def main() -> None:
    """Print one line per format."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="formats whose file name holds this text")
    arguments = parser.parse_args()
    start = time.monotonic()
    table = run(arguments.count, arguments.seed, arguments.only)
    print(f"{'':18}" + "".join(f"{one:>11}" for one in OUTCOMES))
    for name, counts in table.items():
        print(f"{name:18}" + "".join(f"{counts[one]:11}" for one in OUTCOMES))
    total = sum(table.values(), Counter[str]())
    print(f"{'all':18}" + "".join(f"{total[one]:11}" for one in OUTCOMES))
    print(json.dumps({"seed": arguments.seed, "count": arguments.count, "seconds": round(time.monotonic() - start)}))
    sys.exit(any(total[one] for one in OUTCOMES[2:]))


if __name__ == "__main__":
    main()

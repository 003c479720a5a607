"""Damaged files of every format are read as they are, or refused with one sentence that names them."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"


def test_mutated_files_are_read_or_refused() -> None:
    words = [sys.executable, str(SCRIPT), "--count", "156", "--seed", "7"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert done.stdout.count("picks.") >= 9

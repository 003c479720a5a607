"""How long the command line takes to start: processor seconds of `tomosift --help` and of `import tomosift`.

    ./dev bench startup

Each line is the median and the range of nine runs in new processes, user and system time of the child. Half a second
is the aim on a machine with nothing else to do.
"""

import os
import statistics
import subprocess
import sys

RUNS = 9
STATEMENTS = {
    "tomosift --help": (sys.executable, "-c", "from tomosift.cli.main import main; main(['--help'])"),
    "import tomosift": (sys.executable, "-c", "import tomosift"),
    "python -c pass": (sys.executable, "-c", "pass"),
}


def measure_seconds(command: tuple[str, ...]) -> float:
    """Return the processor time of one run of a command."""
    before = os.times()
    subprocess.run(command, capture_output=True, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    """Print one line per statement."""
    for name, command in STATEMENTS.items():
        seconds = [measure_seconds(command) for _ in range(RUNS)]
        print(f"{name}: {statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")


if __name__ == "__main__":
    main()

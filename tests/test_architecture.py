"""The building itself: floors, tables that equal files, a fast start, and nothing dangerous inside."""

import ast
import importlib
import io
import os
import re
import statistics
import subprocess
import sys
from contextlib import redirect_stdout
from importlib import metadata
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from tomosift.cli import COMMANDS
from tomosift.cli import main as cli
from tomosift.io.particles import FORMATS
from tomosift.methods import METHODS
from tomosift.models.encoders import _BUILDERS, ENCODERS

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "tomosift"
FILES = sorted(SOURCE.rglob("*.py"))
SCRIPTS = Path(sys.executable).parent
LONGEST_FILE = 350
START_SECONDS = 0.5
MARGIN = 2.0
"""Machines that run tests for many people are slower than the one a person sits at."""


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def defined(path: Path) -> set[str]:
    """Names of the functions, classes and plain assignments at the top of a file."""
    names: set[str] = set()
    for node in tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def test_imports_go_down() -> None:
    done = subprocess.run(
        [SCRIPTS / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_files_and_arrays_are_read_without_torch() -> None:
    for path in (SOURCE / "io").glob("*.py"):
        assert "torch" not in imported(path), path.name


def imported(path: Path) -> set[str]:
    """First words of everything that a file imports, wherever it does so."""
    names: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def test_table_of_methods_is_the_files_of_the_room() -> None:
    assert set(METHODS) == {path.stem for path in (SOURCE / "methods").glob("*.py")} - {"__init__"}


def test_table_of_formats_is_the_files_that_read_and_write_particles() -> None:
    both = {"read_particles", "write_particles"}
    room = {path.stem for path in (SOURCE / "io").glob("*.py") if both <= defined(path)}
    assert set(FORMATS) == room - {"formats"}


def test_table_of_commands_is_the_files_that_define_one() -> None:
    room = {path.stem for path in (SOURCE / "commands").glob("*.py") if "command" in defined(path)}
    assert set(COMMANDS) == room


def test_table_of_encoders_is_what_can_be_built() -> None:
    assert set(ENCODERS) == set(_BUILDERS)


@pytest.mark.parametrize("table", [METHODS, FORMATS, COMMANDS, ENCODERS])
def test_every_entry_of_a_table_is_a_sentence(table: dict[str, str]) -> None:
    for name, sentence in table.items():
        assert re.fullmatch(r"[a-z0-9_]+", name)
        assert sentence[0].isupper()
        assert sentence.endswith(".")


def help_pages() -> list[tuple[str, ...]]:
    """Every command, and every subcommand of those that have some."""
    pages: list[tuple[str, ...]] = [()]
    for name in COMMANDS:
        command = importlib.import_module(f"tomosift.cli.{name}").command
        pages += [(name,), *((name, more) for more in (command if isinstance(command, dict) else ()))]
    return pages


@pytest.mark.parametrize("words", help_pages(), ids=" ".join)
def test_every_help_page_answers(words: tuple[str, ...]) -> None:
    said, code = io.StringIO(), None
    with redirect_stdout(said):
        try:
            cli.main([*words, "--help"])
        except SystemExit as stopped:
            code = stopped.code
    assert not code
    assert "usage: tomosift" in said.getvalue()


def test_overview_imports_nothing_heavy() -> None:
    code = (
        "import sys; from tomosift import cli; cli.main(['--help']);"
        "print([name for name in ('torch', 'numpy', 'pandas', 'scipy', 'tyro') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_overview_comes_within_half_a_second() -> None:
    # Processor time of the child, median of five: other work on the machine does not count, twice the limit is allowed.
    seconds = []
    for _ in range(5):
        before = os.times()
        subprocess.run([SCRIPTS / "tomosift", "--help"], capture_output=True, check=True)
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert statistics.median(seconds) < MARGIN * START_SECONDS


def needed(name: str, seen: set[str]) -> set[str]:
    """Installed distributions that this one needs without extras, and what those need."""
    try:
        requirements = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return seen
    seen.add(name)
    for requirement in map(Requirement, requirements):
        wanted = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)
        )
        key = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if wanted and key not in seen:
            needed(key, seen)
    return seen


def test_core_needs_no_torchvision_and_no_test_package() -> None:
    core = needed("tomosift", set())
    assert "torch" in core
    assert not core & {"torchvision", "torchaudio", "pytest", "hypothesis", "beartype"}


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch was built for CUDA and brings its libraries")
def test_machine_without_gpu_gets_no_cuda_packages() -> None:
    assert not [name for name in needed("tomosift", set()) if name.startswith("nvidia-")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_file_runs_nothing_that_it_reads(path: Path) -> None:
    assert not imported(path) & {"pickle", "dill", "joblib", "shelve", "marshal"}
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}
        called = ast.unparse(node.func)
        assert called not in {"torch.load", "os.system", "os.popen", "yaml.load"}
        assert not any(word.arg == "shell" for word in node.keywords)
        assert not any(word.arg == "allow_pickle" and ast.unparse(word.value) != "False" for word in node.keywords)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_file_is_short_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_FILE
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "no docstring"


def test_source_does_not_print() -> None:
    for path in FILES:
        calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
        assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"], path

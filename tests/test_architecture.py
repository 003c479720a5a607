"""The architecture: floors, sizes, tables that equal files, a documented public API, a light start, and safety."""

import ast
import importlib
import importlib.util
import inspect
import io
import re
import subprocess
import sys
from contextlib import redirect_stdout
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
import torch
from packaging.requirements import Requirement

import tomosift
from tomosift.cli import COMMANDS
from tomosift.cli import main as cli
from tomosift.io.particles import FORMATS
from tomosift.methods import METHODS
from tomosift.models.encoders import ENCODERS

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "tomosift"
FILES = sorted(SOURCE.rglob("*.py"))
ROOMS = sorted(path.parent for path in SOURCE.rglob("__init__.py"))
SCRIPTS = Path(sys.executable).parent
MAX_FILE_LINES = 300
MAX_METHOD_LINES = 150
MAX_FUNCTION_LINES = 60
MAX_MODULES = 15
HEAVY = ("torch", "numpy", "pandas", "scipy", "sklearn", "matplotlib", "tyro")


def source_name(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def top_level_names(path: Path) -> set[str]:
    """Names of the functions, classes and plain assignments at the top of a file."""
    names: set[str] = set()
    for node in parse(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring: documentation of many parameters is no reason to split it."""
    first = function.body[0]
    is_documented = ast.get_docstring(function) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if is_documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def imported_packages(path: Path) -> set[str]:
    """First words of everything that a file imports, wherever it does so."""
    names: set[str] = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def load_floors() -> ModuleType:
    """The script docs/generate/floors.py as a module."""
    spec = importlib.util.spec_from_file_location("floors", ROOT / "docs" / "generate" / "floors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Floors


def test_imports_go_down() -> None:
    process = subprocess.run(
        [SCRIPTS / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stdout


@pytest.mark.parametrize("room", ["io", "learning"])
def test_files_and_statistics_are_free_of_torch(room: str) -> None:
    for path in (SOURCE / room).rglob("*.py"):
        assert "torch" not in imported_packages(path), source_name(path)


def test_every_room_and_module_stands_on_a_floor() -> None:
    floors = load_floors()
    drawn = {name for floor in floors.read_floors(floors.read_contracts(ROOT / "pyproject.toml")) for name in floor}
    modules = {path.stem for path in FILES if path.parent == SOURCE and path.name != "__init__.py"}
    rooms = {room.name for room in ROOMS if room.parent == SOURCE}
    assert drawn == modules | rooms


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_drawing_of_the_floors_follows_the_contracts(page: str) -> None:
    floors = load_floors()
    text = (ROOT / page).read_text()
    assert ROOT / page in floors.PAGES
    assert floors.replace_drawing(text, floors.draw_floors()) == text, "run docs/generate/floors.py"


def test_drawing_needs_both_markers() -> None:
    floors = load_floors()
    assert floors.replace_drawing(f"a\n{floors.BEGIN}\nold\n{floors.END}\nb\n", "new") == (
        f"a\n{floors.BEGIN}\nnew\n{floors.END}\nb\n"
    )
    with pytest.raises(ValueError, match="needs one <!-- floors:begin -->"):
        floors.replace_drawing(f"{floors.BEGIN}\n", "new")


# Sizes


@pytest.mark.parametrize("path", FILES, ids=source_name)
def test_file_is_short_and_has_a_docstring(path: Path) -> None:
    text = path.read_text()
    is_method = path.parent.name == "methods" and path.stem in METHODS
    assert len(text.splitlines()) <= (MAX_METHOD_LINES if is_method else MAX_FILE_LINES)
    assert ast.get_docstring(ast.parse(text)), "no docstring"


@pytest.mark.parametrize("path", FILES, ids=source_name)
def test_functions_fit_a_screen(path: Path) -> None:
    functions = [node for node in ast.walk(parse(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {f"{node.name} (line {node.lineno})": code_lines(node) for node in functions}
    assert not {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES}


@pytest.mark.parametrize("room", ROOMS, ids=source_name)
def test_room_is_small_or_its_docstring_gives_the_reason(room: Path) -> None:
    modules = [path for path in room.glob("*.py") if path.name != "__init__.py"]
    docstring = ast.get_docstring(parse(room / "__init__.py")) or ""
    assert len(modules) <= MAX_MODULES or "because" in docstring, f"{len(modules)} modules"


# Tables


def test_table_of_methods_equals_the_files_of_the_room() -> None:
    assert set(METHODS) == {path.stem for path in (SOURCE / "methods").glob("*.py")} - {"__init__"}


def test_table_of_formats_equals_the_files_that_read_and_write_particles() -> None:
    both = {"read_particles", "write_particles"}
    files = {path.stem for path in (SOURCE / "io" / "particles").glob("*.py") if both <= top_level_names(path)}
    assert set(FORMATS) == files - {"__init__"}


def test_table_of_commands_equals_the_files_that_define_one() -> None:
    files = {path.stem for path in (SOURCE / "cli").glob("*.py") if "command" in top_level_names(path)}
    assert set(COMMANDS) == files


def test_table_of_encoders_equals_the_files_that_define_one() -> None:
    files = {path.stem for path in (SOURCE / "models" / "encoders").glob("*.py") if "ENCODER" in top_level_names(path)}
    assert set(ENCODERS) == files


@pytest.mark.parametrize("table", [METHODS, FORMATS, COMMANDS, ENCODERS])
def test_every_entry_of_a_table_is_a_sentence(table: dict[str, str]) -> None:
    for name, sentence in table.items():
        assert re.fullmatch(r"[a-z0-9_]+", name)
        assert sentence[0].isupper()
        assert sentence.endswith(".")


# Public API


def public_functions(value: object) -> list[tuple[str, object]]:
    """A function, or the public methods that a class itself defines."""
    if not inspect.isclass(value):
        return [("", value)]
    return [(name, member) for name, member in vars(value).items() if inspect.isfunction(member) and name[0] != "_"]


def has_section(docstring: str, name: str) -> bool:
    return re.search(rf"^{name}\n-{{{len(name)}}}$", docstring, re.MULTILINE) is not None


def test_public_api_is_a_short_list_of_names_that_exist() -> None:
    names = tomosift.__all__
    assert len(set(names)) == len(names)
    assert 10 <= len(names) <= 20
    assert all(getattr(tomosift, name) is not None for name in names)
    assert set(names) <= set(dir(tomosift))


@pytest.mark.parametrize("name", getattr(tomosift, "__all__", ()))
def test_public_name_has_the_sections_of_numpydoc(name: str) -> None:
    value = getattr(tomosift, name)
    docstring = inspect.getdoc(value) or ""
    assert has_section(docstring, "Examples"), "no Examples"
    if inspect.isclass(value):
        assert has_section(docstring, "Parameters") or has_section(docstring, "Attributes"), "no Parameters"
    for method, function in public_functions(value):
        text = inspect.getdoc(function) or ""
        signature = inspect.signature(function)  # type: ignore[arg-type]
        parameters = [key for key in signature.parameters if key not in {"self", "cls"}]
        returns = signature.return_annotation not in {None, "None"}
        assert text, f"{name}.{method} has no docstring"
        if not inspect.isclass(value):
            assert not parameters or has_section(text, "Parameters"), "no Parameters"
            assert not returns or has_section(text, "Returns") or has_section(text, "Yields"), "no Returns"
            missing = [key for key in parameters if not re.search(rf"^\*{{0,2}}(\w+, )*{key}\b", text, re.MULTILINE)]
            assert not missing, f"Parameters lacks {missing}"


# Start


def read_help(*words: str) -> str:
    output, code = io.StringIO(), None
    with redirect_stdout(output):
        try:
            cli.main([*words, "--help"])
        except SystemExit as error:
            code = error.code
    assert not code
    return output.getvalue()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_page_answers(name: str) -> None:
    command = importlib.import_module(f"tomosift.cli.{name}").command
    assert f"usage: tomosift {name}" in read_help(name)
    for subcommand in command if isinstance(command, dict) else ():
        assert f"usage: tomosift {name} {subcommand}" in read_help(name, subcommand)


def test_overview_names_every_command() -> None:
    assert set(COMMANDS) <= set(read_help().split())


@pytest.mark.parametrize("statement", ["from tomosift.cli import main; main.main(['--help'])", "import tomosift"])
def test_start_imports_nothing_heavy(statement: str) -> None:
    code = f"import sys; {statement}; print([name for name in {HEAVY} if name in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.splitlines()[-1] == "[]"


# Dependencies


def required_distributions(name: str, known: set[str]) -> set[str]:
    """Installed distributions that this one requires without extras, and what those require; ``known`` grows."""
    try:
        requirements = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return known
    known.add(name)
    for requirement in map(Requirement, requirements):
        is_required = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)
        )
        key = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if is_required and key not in known:
            required_distributions(key, known)
    return known


def test_core_needs_no_torchvision_and_no_test_package() -> None:
    core = required_distributions("tomosift", set())
    assert "torch" in core
    assert not core & {"torchvision", "torchaudio", "pytest", "hypothesis", "beartype"}


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch was built for CUDA and brings its libraries")
def test_machine_without_gpu_gets_no_cuda_packages() -> None:
    assert not [name for name in required_distributions("tomosift", set()) if name.startswith("nvidia-")]


# Safety


@pytest.mark.parametrize("path", FILES, ids=source_name)
def test_file_runs_nothing_that_it_reads(path: Path) -> None:
    assert not imported_packages(path) & {"pickle", "dill", "joblib", "shelve", "marshal"}
    for node in ast.walk(parse(path)):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}
        assert ast.unparse(node.func) not in {"torch.load", "os.system", "os.popen", "yaml.load"}
        assert not any(word.arg == "shell" for word in node.keywords)
        assert not any(word.arg == "allow_pickle" and ast.unparse(word.value) != "False" for word in node.keywords)


def test_source_does_not_print() -> None:
    for path in FILES:
        calls = [node for node in ast.walk(parse(path)) if isinstance(node, ast.Call)]
        assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"], path

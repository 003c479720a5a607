"""The documentation is correct: its Python runs, its commands and options exist, its links have targets."""

import importlib
import importlib.util
import io
import re
import shlex
import xml.etree.ElementTree as ElementTree
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import pytest

from tomosift.cli import COMMANDS
from tomosift.cli import main as cli
from tomosift.io.particles import SUFFIXES
from tomosift.methods import METHODS
from tomosift.models.encoders import ENCODERS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONVENTIONS.md", "CONTRIBUTING.md")] + sorted(ROOT.glob("docs/*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in BLOCK.findall(page.read_text()) if language in languages]


def commands(page: Path) -> list[str]:
    """Return the lines of shell blocks that call tomosift, without prompts, each continued line as one."""
    lines = "\n".join(blocks(page, "sh", "bash", "console")).replace("\\\n", " ").splitlines()
    return [line for text in lines if (line := text.removeprefix("$ ").strip()).startswith("tomosift ")]


COMMAND_LINES = [(page.name, line) for page in PAGES for line in commands(page)]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_of_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for text in blocks(page, "python"):
        exec(compile(text, page.name, "exec"), names)


@cache
def options(words: tuple[str, ...]) -> frozenset[str]:
    """Return the long options of a command, from its full help page."""
    output, code = io.StringIO(), None
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output):
        patch.setenv("COLUMNS", "250")
        try:
            cli.main([*words, "--help-all"])
        except SystemExit as stopped:
            code = stopped.code
    assert not code
    return frozenset(re.findall(r"(?<!\S)--[A-Za-z][\w.-]*", output.getvalue()))


@pytest.mark.parametrize(("page", "line"), COMMAND_LINES)
def test_command_line_of_the_page_exists_with_its_options(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    words = words[: words.index("--")] if "--" in words else words  # another command follows
    if words[0].startswith("-"):
        assert words[0] in {"--help", "--help-all", "--version"}
        return
    assert words[0] in COMMANDS
    path = (words[0],)
    found = importlib.import_module(f"tomosift.cli.{words[0]}").command
    if isinstance(found, dict):
        assert words[1] in found
        path = (words[0], words[1])
    given = {word.split("=")[0] for word in words if word.startswith("--")}
    assert given <= options(path), f"{sorted(given - options(path))} are no options of tomosift {' '.join(path)}"


def test_pages_show_a_command_line_of_every_command() -> None:
    shown = {line.split()[1] for _, line in COMMAND_LINES}
    assert set(COMMANDS) - {"quickstart"} <= shown  # ./dev quickstart runs that one
    assert {"check", "sort"} <= {line.split()[1] for line in commands(ROOT / "README.md")}


def test_options_named_in_the_text_exist() -> None:
    known = {"--torch-index", "--help", "--help-all", "--version", "--no-name"}  # the last stands for any name
    for name in COMMANDS:
        found = importlib.import_module(f"tomosift.cli.{name}").command
        for path in [(name, more) for more in found] if isinstance(found, dict) else [(name,)]:
            known |= options(path)
    for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))):
        quoted = re.findall(r"`[^`\n]*`", page.read_text())
        named = {word for text in quoted for word in re.findall(r"(?<!\S)--[a-z][\w.-]*", text.strip("`"))}
        assert named <= known, f"{page.name}: {sorted(named - known)}"


def test_reference_of_the_command_line_is_what_the_commands_generate() -> None:
    spec = importlib.util.spec_from_file_location(
        "command_reference", ROOT / "docs" / "generate" / "command_reference.py"
    )
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    page = generator.render_page()
    assert generator.PAGE.read_text() == page, "run docs/generate/command_reference.py"
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 400
    assert not [row for row in rows if row.endswith("|  |")], "options without a meaning"


def test_tasks_of_dev_exist() -> None:
    tasks = set(re.findall(r"^\./dev (\w+)", (ROOT / "dev").read_text(), re.MULTILINE))
    for page in PAGES:
        for options_of_dev, task in re.findall(r"\./dev (--torch-index \S+ )?([a-z]\w*)", page.read_text()):
            assert task in tasks, f"{page.name}: ./dev {options_of_dev}{task}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_targets_of_links_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
    for target in re.findall(r'^--8<-- "(.+)"$', page.read_text(), re.MULTILINE):
        assert (ROOT / target).exists(), target


def test_picture_is_plain_svg_with_a_description() -> None:
    picture = (ROOT / "docs" / "data-flow.svg").read_text()
    root = ElementTree.fromstring(picture)
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert {"title", "desc"} <= names
    assert not names & {"script", "image", "foreignObject"}
    assert "url(http" not in picture


def test_pages_name_every_method_format_and_encoder() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text()
    assert all(f"## train {name}\n" in reference for name in METHODS)
    formats = (ROOT / "docs" / "formats.md").read_text()
    assert not [suffix for suffix in (*SUFFIXES, ".json", ".xml") if f"`{suffix}`" not in formats]
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert all(f"`{name}`" in changes for name in (*METHODS, *ENCODERS, *COMMANDS))


def test_changelog_keeps_a_heading_for_numbers() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text()
    for version in re.split(r"^## ", changes, flags=re.MULTILINE)[1:]:
        assert "### Numerics" in version, version.splitlines()[0]


def test_navigation_of_the_site_names_every_page_and_loads_nothing_from_elsewhere() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    named = set(re.findall(r": (\w+\.md)$", text, re.MULTILINE))
    assert named == {page.name for page in ROOT.glob("docs/*.md")}
    assert "font: false" in text
    assert "https://" not in text


def test_python_of_the_pages_needs_no_network() -> None:
    for page in PAGES:
        for text in blocks(page, "python"):
            assert not re.search(r"https?://|urllib|requests", text), page.name

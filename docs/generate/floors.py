"""Write the drawing of the floors into CONTRIBUTING.md and docs/architecture.md, from the contracts of import-linter.

    .venv/bin/python docs/generate/floors.py

The order of the floors comes from pyproject.toml, the sentence of each room from the first paragraph of its docstring.
The drawing stands between two markers; everything else on the page stays as it is. `tests/test_architecture.py` fails
while a page and the contracts differ.
"""

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "tomosift"
PAGES = (ROOT / "CONTRIBUTING.md", ROOT / "docs" / "architecture.md")
BEGIN, END = "<!-- floors:begin -->", "<!-- floors:end -->"


def read_contracts(pyproject: Path) -> list[dict[str, Any]]:
    """Return the import-linter contracts of a pyproject.toml."""
    contracts: list[dict[str, Any]] = tomllib.loads(pyproject.read_text())["tool"]["importlinter"]["contracts"]
    return contracts


def read_floors(contracts: list[dict[str, Any]]) -> list[list[str]]:
    """Return the rooms of each floor, the highest floor first."""
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[room.strip(" ()") for room in re.split(r"[|:]", layer)] for layer in layers]


def describe_room(path: Path) -> str:
    """Return the first paragraph of the docstring of a package or module, on one line.

    Raises
    ------
    ValueError
        The room has no file or no docstring.
    """
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text())) if file.exists() else None
    if not text:
        raise ValueError(f"{file.relative_to(SOURCE.parent)} has no docstring; say in one sentence what the room is")
    return " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")


def find_rooms(name: str) -> list[Path]:
    """Return the folder of a room and the rooms inside it, or the path of a module without its suffix."""
    folder = SOURCE / name
    inner = sorted(file.parent for file in folder.rglob("__init__.py") if file.parent != folder)
    return [folder, *inner]


def describe_rule(contract: dict[str, Any]) -> str:
    """Return one sentence on a contract that forbids imports."""
    sources, forbidden = (
        ", ".join(f"`{name.removeprefix('tomosift.')}`" for name in contract[key])
        for key in ("source_modules", "forbidden_modules")
    )
    return f"*{contract['name']}*: {sources} may not import {forbidden}."


def draw_floors() -> str:
    """Return the drawing: a table of floors and rooms, then the rules that forbid single imports."""
    contracts = read_contracts(ROOT / "pyproject.toml")
    floors = read_floors(contracts)
    lines = ["| floor | room | contents |", "|---|---|---|"]
    for number, floor in zip(reversed(range(len(floors))), floors, strict=True):
        for room in (room for name in floor for room in find_rooms(name)):
            lines.append(f"| {number} | `{room.relative_to(SOURCE).as_posix()}` | {describe_room(room)} |")
    rules = [describe_rule(contract) for contract in contracts if contract["type"] == "forbidden"]
    return "\n".join([*lines, "", *rules])


def replace_drawing(text: str, drawing: str) -> str:
    """Return the text of a page with ``drawing`` between the markers.

    Raises
    ------
    ValueError
        The page lacks a marker or has several.
    """
    counts = (text.count(BEGIN), text.count(END))
    if counts != (1, 1):
        raise ValueError(f"the page needs one {BEGIN} and one {END}, got {counts[0]} and {counts[1]}")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{drawing}\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Write the drawing into every page."""
    for page in PAGES:
        page.write_text(replace_drawing(page.read_text(), draw_floors()))
        print(page)


if __name__ == "__main__":
    main()

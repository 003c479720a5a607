"""Names, labels, units, contrast and tilt angles: one function decides each, and every command asks it."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "tomosift"
COMMANDS = {"workflows.check", "workflows.extract", "workflows.sort", "workflows.pick"}

DECISIONS = {
    # the checks of picks and tomograms, for every command that takes them
    "data.checks.preflight.run_preflight": {"workflows.inputs"},
    "workflows.inputs": COMMANDS | {f"cli.{name}" for name in ("check", "extract", "scan")},
    # contrast
    "data.checks.contrast.decide_contrast": {"data.checks.preflight"},
    "data.checks.contrast.decide_contrast_of_boxes": {"workflows.extract"},
    # the particle of a label
    "data.checks.label_matching.find_labeled_rows": {"data.labels", "data.checks.label_counts"},
    # the values that are no class
    "io.particles.class_values.clean_class_names": {"io.particles", "data.labels"},
    # tilt angles
    "acquisition.find_tilt_fault": {"io.tilt_series"},
    "acquisition.check_tilt_range": {"data.extraction.tomogram_sources", "workflows.extract"},
}
"""Function or module -> the modules that import it."""
NO_OTHER_RULE = {
    "io.tomogram_names": ("canonical_name", "match_names"),
    "io.particles.pixel_size": ("PixelSize", "check_no_fractions"),
}
"""Module -> names that no other module may define."""


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Modules and names that a file imports from the package."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tomosift"):
            module = (node.module or "").removeprefix("tomosift").removeprefix(".")
            names |= {module, *(f"{module}.{alias.name}".lstrip(".") for alias in node.names)}
    return names


IMPORTS = {module_of(path): imported(path) for path in SOURCE.rglob("*.py")}


@pytest.mark.parametrize("decision", DECISIONS)
def test_each_decision_is_taken_by_one_function_that_these_modules_ask(decision: str) -> None:
    assert {name for name, names in IMPORTS.items() if decision in names} == DECISIONS[decision]


@pytest.mark.parametrize("module", NO_OTHER_RULE)
def test_rules_are_defined_once(module: str) -> None:
    for path in SOURCE.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        if module_of(path) != module:
            assert not defined & set(NO_OTHER_RULE[module]), path

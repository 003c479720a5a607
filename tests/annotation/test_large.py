"""The labeling page of a million particles: its memory does not grow with the set."""

import importlib.util
import json
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

COUNT, BOX_SIZE, MAX_MEGABYTES = 1_000_000, 32, 1000
BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "annotation_page.py"


@pytest.fixture
def annotation_page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark of the page, which measures how fast it is."""
    spec = importlib.util.spec_from_file_location(BENCHMARK.stem, BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, BENCHMARK.stem, module)  # dataclasses need their module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_the_page_of_a_million_subtomograms_needs_less_than_a_gigabyte(annotation_page: Any, tmp_path: Path) -> None:
    annotation_page.write_sparse_set(tmp_path / "set", COUNT, BOX_SIZE)
    with annotation_page.open_page(tmp_path / "set", tmp_path / "labels.sqlite") as page:
        for path in ("/api/next?annotator=ada&count=8", "/api/subtomogram/999999", "/api/search?text=ts_099/009999"):
            assert page.get(path)
        while json.loads(page.get("/api/state?annotator=ada"))["learning"]["done"] < 256:
            time.sleep(0.2)
        assert len(json.loads(page.get("/api/next?annotator=ada&count=8"))["next"]) == 8
        assert page.peak_megabytes() < MAX_MEGABYTES

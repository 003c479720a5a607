"""The folder of a run: one configuration, complete files, and existing files of others stay."""

import json
from pathlib import Path

import pytest

from tomosift.errors import FormatError
from tomosift.train.run import Run, environment, read_json

CONFIG = {"method": "contrastive", "seed": 1, "config": {"training": {"steps": 10}, "ranges": (0.0, 1.0)}}


def test_new_run_writes_its_configuration_and_environment(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "deep" / "run", CONFIG)
    stored = json.loads((run.folder / "config.json").read_text())
    assert stored == json.loads(json.dumps(CONFIG))
    assert json.loads((run.folder / "environment.json").read_text()) == json.loads(json.dumps(environment()))
    assert not run.checkpoint.exists()
    assert not run.result.exists()


def test_environment_holds_the_versions_that_can_change_a_number() -> None:
    versions = environment()
    assert {"torch", "numpy", "scipy"} <= versions["packages"].keys()
    assert versions["python"].startswith("3.")


def test_same_configuration_reopens_the_run_also_with_tuples(tmp_path: Path) -> None:
    first = Run.open(tmp_path / "run", CONFIG)
    first.log(step=1)
    assert Run.open(tmp_path / "run", CONFIG) == first
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 1


def test_another_configuration_is_refused_by_the_innermost_difference(tmp_path: Path) -> None:
    Run.open(tmp_path / "run", CONFIG)
    other = {**CONFIG, "config": {**CONFIG["config"], "training": {"steps": 20}}}
    with pytest.raises(FormatError) as caught:
        Run.open(tmp_path / "run", other)
    message = str(caught.value)
    assert "steps = 10" in message
    assert "steps = 20 as requested now" in message
    assert "give another --out" in message
    assert read_json(tmp_path / "run" / "config.json")["config"]["training"] == {"steps": 10}


def test_missing_and_added_keys_count_as_differences(tmp_path: Path) -> None:
    Run.open(tmp_path / "run", CONFIG)
    for other in ({**CONFIG, "more": 1}, {k: v for k, v in CONFIG.items() if k != "seed"}):
        with pytest.raises(FormatError, match="give another --out"):
            Run.open(tmp_path / "run", other)


def test_run_of_an_earlier_version_is_the_same_under_the_new_names(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "run", {**CONFIG, "config": {"training": {"epochs": 10}, "boxes": 4}})
    new = {**CONFIG, "config": {"training": {"steps": 10}, "subtomograms": 4}}
    names = {"config.training.epochs": "config.training.steps", "config.boxes": "config.subtomograms"}
    stored = (run.folder / "config.json").read_text()
    assert Run.open(run.folder, new, renamed=names) == run
    assert (run.folder / "config.json").read_text() == stored
    with pytest.raises(FormatError, match="give another --out"):
        Run.open(run.folder, new)
    other = {**new, "config": {**new["config"], "subtomograms": 5}}
    with pytest.raises(FormatError, match="subtomograms = 4, expected subtomograms = 5 as requested now"):
        Run.open(run.folder, other, renamed=names)


def test_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(FormatError, match="not empty and not a run"):
        Run.open(tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_empty_folder_becomes_the_run(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert Run.open(tmp_path / "empty", CONFIG).folder == tmp_path / "empty"


@pytest.mark.parametrize(("content", "sentence"), [("{", "no JSON"), ("[1]", "a JSON list"), (None, "missing")])
def test_damaged_json_is_refused_in_one_sentence(content: str | None, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(FormatError, match=sentence):
        read_json(path)


def test_log_is_one_json_object_per_line_with_its_time(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "run", CONFIG)
    run.log(step=1, loss=0.5)
    run.log(event="resumed")
    first, second = map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
    assert (first["step"], first["loss"], second["event"]) == (1, 0.5, "resumed")
    assert first["time"] <= second["time"]

"""The store: confirmed answers are never lost, events are never changed, several processes can write at once."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tomosift.annotation.consensus import ConsensusTracker
from tomosift.annotation.store import Store
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.errors import FormatError

WRITER = """
import sys
from pathlib import Path
import numpy as np
from tomosift.annotation.store import Store
path, who, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
store = Store(path, "set", np.array([str(k) for k in range(count)], dtype=object))
store.add_class("ribosome", who)
for row in range(count):
    store.add_answer(who, f"{who}-request-{row}", [row], "label", "ribosome")
    print(row, flush=True)
"""


def annotations(store: Store) -> dict[int, dict[str, str]]:
    return ConsensusTracker(store).update().annotations


def test_the_newest_answer_of_each_annotator_counts(store: Store) -> None:
    store.add_answer("ada", "request-1", [5], "label", "groel")
    store.add_answer("bob", "request-2", [5], "label", "apoferritin")
    store.add_answer("ada", "request-3", [5], "junk")
    assert annotations(store) == {5: {"ada": "junk", "bob": "apoferritin"}}


def test_undo_restores_the_answer_before(store: Store) -> None:
    store.add_answer("ada", "request-1", [5], "label", "groel")
    store.add_answer("ada", "request-2", [5], "unsure")
    assert annotations(store) == {}
    assert store.undo("ada", "undo-1") == [5]
    assert annotations(store) == {5: {"ada": "groel"}}
    assert store.undo("ada", "undo-2") == [5]
    assert store.undo("ada", "undo-3") == []
    assert annotations(store) == {}


def test_one_action_is_undone_as_a_whole_and_only_by_its_annotator(store: Store) -> None:
    store.add_answer("ada", "request-1", [1, 2, 3], "label", "groel")
    store.add_answer("bob", "request-2", [2], "label", "groel")
    assert store.undo("ada", "undo-1") == [1, 2, 3]
    assert annotations(store) == {2: {"bob": "groel"}}


def test_a_repeated_request_writes_nothing(store: Store) -> None:
    assert store.add_answer("ada", "request-1", [1], "label", "groel") == 1
    assert store.add_answer("ada", "request-1", [1], "label", "groel") == 0
    store.add_answer("ada", "request-2", [2], "label", "groel")
    assert store.undo("ada", "undo-1") == [2]
    assert store.undo("ada", "undo-1") == [2]
    assert len(store.read_events()) == 3
    assert annotations(store) == {1: {"ada": "groel"}}


def test_events_cannot_be_changed_or_removed(store: Store) -> None:
    store.add_answer("ada", "request-1", [1], "label", "groel")
    with sqlite3.connect(store.path) as other:
        for statement in ("update events set class_name = 'x'", "delete from events"):
            with pytest.raises(sqlite3.IntegrityError, match="events stay"):
                other.execute(statement)
    other.close()


@pytest.mark.parametrize(
    ("rows", "kind", "name", "sentence"),
    [
        ([240], "label", "groel", "from 0 to 239"),
        ([-1], "label", "groel", "from 0 to 239"),
        ([1, 1], "label", "groel", "must be different"),
        ([], "label", "groel", "must be different"),
        ([1], "label", "proteasome", "there is no class 'proteasome'"),
        ([1], "label", "", "a label needs a class"),
        ([1], "junk", "groel", "no other answer has one"),
    ],
)
def test_invalid_answers_are_refused(store: Store, rows: list[int], kind: str, name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        store.add_answer("ada", "request-1", rows, kind, name)  # type: ignore[arg-type]
    assert not store.read_events()


def test_classes_keep_their_order_and_color_and_are_added_once(store: Store) -> None:
    store.add_class("proteasome", "bob")
    store.add_class("groel", "bob")
    assert [(entry.name, entry.color, entry.created_by) for entry in store.read_classes()] == [
        ("ribosome-70s", 0, "ada"),
        ("groel", 1, "ada"),
        ("apoferritin", 2, "ada"),
        ("proteasome", 3, "bob"),
    ]


@pytest.mark.parametrize("name", ["", "two words", "it's", "unknown", "junk"])
def test_class_names_that_no_table_can_hold_are_refused(store: Store, name: str) -> None:
    with pytest.raises(ValueError, match="class"):
        store.add_class(name, "ada")


def test_store_of_another_set_is_refused_in_one_sentence(store: Store, subtomograms: Subtomograms) -> None:
    with pytest.raises(FormatError, match=r"labels\.sqlite: the set is .*, expected other, .*choose another --store"):
        Store(store.path, "other", subtomograms.particles.particle_id)


def test_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    path.write_text("these are no labels, " * 100)
    with pytest.raises(FormatError, match="no store"):
        Store(path, "set", np.array(["a"], dtype=object))


def test_a_reopened_store_is_unchanged(open_store: Callable[[], Store]) -> None:
    first = open_store()
    first.add_class("groel", "ada")
    first.add_answer("ada", "request-1", [1], "label", "groel", guess="groel")
    first.close()
    again = open_store()
    assert annotations(again) == {1: {"ada": "groel"}}
    assert again.read_events()[0].guess == "groel"
    assert again.read_classes()[0].name == "groel"


def test_confirmed_labels_survive_a_killed_process(tmp_path: Path) -> None:
    for attempt, written in enumerate((1, 20, 57)):
        path = tmp_path / f"{attempt}.sqlite"
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, path, "ada", "5000"], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            confirmed = [int(writer.stdout.readline()) for _ in range(written)]
            writer.send_signal(signal.SIGKILL)
            confirmed += [int(line) for line in writer.stdout.read().splitlines()]
        store = Store(path, "set", np.array([str(k) for k in range(5000)], dtype=object))
        assert set(confirmed) <= set(annotations(store))
        assert store.add_answer("bob", "after-the-kill", [0], "label", "ribosome") == 1
        store.close()


def test_two_processes_write_at_once_without_loss(tmp_path: Path) -> None:
    path, count = tmp_path / "labels.sqlite", 150
    command = [sys.executable, "-c", WRITER, path]
    writers = [
        subprocess.Popen([*command, who, str(count)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for who in ("ada", "bob")
    ]
    ended = [(writer.communicate()[1], writer.returncode) for writer in writers]
    assert ended == [("", 0), ("", 0)]
    store = Store(path, "set", np.array([str(k) for k in range(count)], dtype=object))
    assert annotations(store) == {row: {"ada": "ribosome", "bob": "ribosome"} for row in range(count)}
    store.close()

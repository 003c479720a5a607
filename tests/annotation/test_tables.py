"""Labels out into particle tables and back."""

from pathlib import Path

import numpy as np
import pytest

from tomosift.annotation.consensus import ConsensusTracker
from tomosift.annotation.store import Store
from tomosift.annotation.tables import take_labels, write_labels
from tomosift.data.labels import transfer_labels
from tomosift.data.subtomograms import Subtomograms
from tomosift.io.particles import read_particles

GIVEN = {3: "groel", 7: "apoferritin", 100: "junk", 239: "ribosome-70s"}


@pytest.fixture
def filled(store: Store) -> Store:
    for row, name in GIVEN.items():
        kind, class_name = ("junk", "") if name == "junk" else ("label", name)
        store.answer("ada", f"request-{row}", [row], kind, class_name)  # type: ignore[arg-type]
    store.answer("ada", "request-a", [50], "label", "groel")
    store.answer("bob", "request-b", [50], "label", "apoferritin")
    store.answer("ada", "request-c", [60], "unsure")
    return store


@pytest.mark.parametrize("name", ["labels.star", "labels.csv"])
def test_table_holds_what_has_a_majority_and_counts_the_rest(
    filled: Store, boxes: Subtomograms, tmp_path: Path, name: str
) -> None:
    made = write_labels(tmp_path / name, ConsensusTracker(filled), boxes, {})
    assert made.counts == {"groel": 1, "apoferritin": 1, "junk": 1, "ribosome-70s": 1}
    assert made.left_out == 1
    found = transfer_labels(boxes.particles, read_particles(tmp_path / name))
    assert {int(row): found[row] for row in np.flatnonzero(found != "")} == GIVEN


def test_table_that_is_taken_over_twice_counts_once(filled: Store, boxes: Subtomograms, tmp_path: Path) -> None:
    write_labels(tmp_path / "labels.star", ConsensusTracker(filled), boxes, {})
    other = Store(tmp_path / "other.sqlite", "set", boxes.particles.particle_id)
    table = read_particles(tmp_path / "labels.star")
    assert take_labels(other, boxes, table, "eve") == len(GIVEN)
    assert take_labels(other, boxes, table, "eve") == 0
    assert ConsensusTracker(other).answers().majority == GIVEN
    assert {one.name for one in other.classes()} == set(GIVEN.values()) - {"junk"}
    other.close()


def test_nothing_labeled_is_one_sentence(store: Store, boxes: Subtomograms, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no particle has a label yet"):
        write_labels(tmp_path / "labels.star", ConsensusTracker(store), boxes, {})
    assert not (tmp_path / "labels.star").exists()

"""Export of labels into particle tables, and import."""

from pathlib import Path

import numpy as np
import pytest

from tomosift.annotation.consensus import ConsensusTracker
from tomosift.annotation.store import Store
from tomosift.annotation.tables import import_labels, write_labels
from tomosift.data.labels import transfer_labels
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.io.particles import read_particles

LABELS = {3: "groel", 7: "apoferritin", 100: "junk", 239: "ribosome-70s"}


@pytest.fixture
def labeled_store(store: Store) -> Store:
    for row, name in LABELS.items():
        kind, class_name = ("junk", "") if name == "junk" else ("label", name)
        store.add_answer("ada", f"request-{row}", [row], kind, class_name)  # type: ignore[arg-type]
    store.add_answer("ada", "request-a", [50], "label", "groel")
    store.add_answer("bob", "request-b", [50], "label", "apoferritin")
    store.add_answer("ada", "request-c", [60], "unsure")
    return store


@pytest.mark.parametrize("name", ["labels.star", "labels.csv"])
def test_table_holds_majorities_and_counts_ties(
    labeled_store: Store, subtomograms: Subtomograms, tmp_path: Path, name: str
) -> None:
    summary = write_labels(tmp_path / name, ConsensusTracker(labeled_store), subtomograms, {})
    assert summary.counts == {"groel": 1, "apoferritin": 1, "junk": 1, "ribosome-70s": 1}
    assert summary.ties == 1
    names = transfer_labels(subtomograms.particles, read_particles(tmp_path / name))
    assert {int(row): names[row] for row in np.flatnonzero(names != "")} == LABELS


def test_a_table_that_is_imported_twice_counts_once(
    labeled_store: Store, subtomograms: Subtomograms, tmp_path: Path
) -> None:
    write_labels(tmp_path / "labels.star", ConsensusTracker(labeled_store), subtomograms, {})
    other = Store(tmp_path / "other.sqlite", "set", subtomograms.particles.particle_id)
    table = read_particles(tmp_path / "labels.star")
    assert import_labels(other, subtomograms, table, "eve") == len(LABELS)
    assert import_labels(other, subtomograms, table, "eve") == 0
    assert ConsensusTracker(other).update().majority == LABELS
    assert {entry.name for entry in other.read_classes()} == set(LABELS.values()) - {"junk"}
    other.close()


def test_export_without_labels_is_refused_in_one_sentence(
    store: Store, subtomograms: Subtomograms, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no particle has a label yet"):
        write_labels(tmp_path / "labels.star", ConsensusTracker(store), subtomograms, {})
    assert not (tmp_path / "labels.star").exists()

"""Labels that come in a file of their own find their particles."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomosift.data.labels import (
    apply_pseudo_labels,
    choose_unlabeled_rows,
    count_classes,
    is_member,
    label_subtomograms,
    read_labels,
    transfer_labels,
)
from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.io.particles import write_particles
from tomosift.particles import Particles


def particles(count: int = 6, seed: int = 0) -> Particles:
    """Particles at least 50 A apart, alternating between two tomograms."""
    rng = np.random.default_rng(seed)
    position = np.stack([np.arange(count) * 100.0, rng.uniform(0, 50, count), rng.uniform(0, 50, count)], axis=1)
    return Particles.create([f"TS_{k % 2 + 1:02d}" for k in range(count)], position)


def labels_at(found: Particles, rows: list[int], names: list[str], offset: float = 0.0) -> Particles:
    chosen = found.select(np.array(rows))
    moved = chosen.position_zyx_angstrom + np.array([0.0, offset, 0.0])
    return Particles.create(chosen.tomogram, moved, class_name=names)


def named(found: Particles, names: list[str], column: str = "rlnTomoParticleName") -> Particles:
    return replace(found, columns=pd.DataFrame({column: names}))


@given(st.permutations(range(6)), st.integers(1, 6), st.integers(0, 100))
def test_labels_find_their_particles_in_any_order(order: list[int], count: int, seed: int) -> None:
    found = particles(seed=seed)
    rows = order[:count]
    classes = transfer_labels(found, labels_at(found, rows, [f"class {row}" for row in rows], offset=3.0))
    assert classes.tolist() == [f"class {row}" if row in rows else "" for row in range(6)]


def test_rows_without_a_class_label_nothing() -> None:
    found = particles()
    assert transfer_labels(found, labels_at(found, [0, 1, 2], ["", "b", ""])).tolist() == ["", "b", "", "", "", ""]


def test_names_decide_among_close_particles() -> None:
    found = named(particles().with_geometry(np.arange(18.0).reshape(6, 3)), [f"TS/{k}" for k in range(6)])
    labels = named(labels_at(found, [0], ["a"]), ["TS/4"])
    assert transfer_labels(found, labels).tolist() == ["", "", "", "", "a", ""]


def test_names_that_belong_to_other_positions_are_passed_over_and_noted() -> None:
    found = named(particles(), [f"TS/{k}" for k in range(6)])
    labels = named(labels_at(found, [0, 3], ["a", "b"]), ["TS/4", "TS/3"])
    notes: list[str] = []
    assert transfer_labels(found, labels, report=notes.append).tolist() == ["a", "", "", "b", "", ""]
    assert "1 of 2 labels have the name of a particle at another place" in notes[0]


def test_names_and_positions_that_contradict_each_other_are_refused() -> None:
    found = named(particles(), [f"TS/{k}" for k in range(6)])
    labels = named(labels_at(found, [0], ["a"], offset=40.0), ["TS/4"])
    with pytest.raises(ValueError, match="name of a particle at another place, and 1 of 1 labels belong"):
        transfer_labels(found, labels)


def test_a_pick_beside_its_particle_keeps_its_label() -> None:
    found = named(particles(), [f"TS/{k}" for k in range(6)])
    labels = named(labels_at(found, [2], ["a"], offset=40.0), ["TS/2"])
    assert transfer_labels(found, labels).tolist() == ["", "", "a", "", "", ""]


def test_names_decide_where_positions_are_unknown() -> None:
    found = named(particles().with_geometry(np.full((6, 3), np.nan)), list("uvwxyz"))
    assert transfer_labels(found, named(labels_at(particles(), [0], ["a"]), ["w"])).tolist()[2] == "a"


@pytest.mark.parametrize("column", ["rlnTomoParticleName", "rlnImageName", "tomosiftParticleId"])
def test_any_of_the_name_columns_matches(column: str) -> None:
    found = named(particles().with_geometry(np.zeros((6, 3))), list("uvwxyz"), column)
    assert transfer_labels(found, named(labels_at(found, [5], ["a"]), ["z"], column)).tolist()[-1] == "a"


def test_names_that_are_not_unique_are_ignored() -> None:
    found = named(particles(), ["same"] * 6)
    labels = named(labels_at(found, [2], ["a"]), ["same"])
    assert transfer_labels(found, labels).tolist() == ["", "", "a", "", "", ""]


def test_names_of_other_files_are_ignored() -> None:
    found = named(particles(), list("uvwxyz"))
    labels = named(labels_at(found, [2], ["a"]), ["elsewhere"])
    assert transfer_labels(found, labels).tolist() == ["", "", "a", "", "", ""]


def test_names_decide_with_a_tomogram_spelled_differently() -> None:
    found = named(particles(), list("uvwxyz"))
    labels = named(replace(labels_at(found, [2], ["a"]), tomogram=np.array(["other"], dtype=object)), ["w"])
    assert transfer_labels(found, labels).tolist() == ["", "", "a", "", "", ""]


@pytest.mark.parametrize("spelling", ["TS_01.mrc", "TS_01_10.00Apx.mrc", "TS_01.tomostar"])
def test_suffixes_of_tomogram_names_do_not_matter(spelling: str) -> None:
    found = particles()
    labels = replace(labels_at(found, [2], ["a"]), tomogram=np.array([spelling], dtype=object))
    assert transfer_labels(found, labels).tolist()[2] == "a"


def test_tolerance_includes_its_own_length() -> None:
    found = particles()
    labels = labels_at(found, [3], ["a"], offset=30.0)
    assert transfer_labels(found, labels, 30.0 + 1e-9).tolist()[3] == "a"
    with pytest.raises(ValueError, match=r"1 of 1 labels belong to no particle within 29 A.*30 A away"):
        transfer_labels(found, labels, 29.0)


def test_particles_of_other_tomograms_are_not_near() -> None:
    found = particles()
    labels = replace(labels_at(found, [0], ["a"]), tomogram=np.array(["TS_07"], dtype=object))
    with pytest.raises(ValueError, match="1 of 1 labels lie in TS_07, of which there is no particle"):
        transfer_labels(found, labels)


def test_labels_without_a_tomogram_lie_in_the_only_one() -> None:
    found = particles().select(np.array([0, 2, 4]))
    labels = replace(labels_at(found, [1], ["a"]), tomogram=np.array(["picks"], dtype=object), is_named_by_file=True)
    assert transfer_labels(found, labels).tolist() == ["", "a", ""]
    with pytest.raises(ValueError, match="names no tomogram"):
        transfer_labels(particles(), labels)


def test_namesakes_in_two_folders_keep_their_labels() -> None:
    position = np.zeros((2, 3))
    found = Particles.create(["grid1/TS_01", "grid2/TS_01"], position)
    labels = Particles.create(["grid2/TS_01"], position[:1], class_name=["a"])
    assert transfer_labels(found, labels).tolist() == ["", "a"]
    with pytest.raises(ValueError, match="ambiguous"):
        transfer_labels(found, replace(labels, tomogram=np.array(["TS_01"], dtype=object)))


def test_positions_that_are_unknown_are_refused() -> None:
    found = particles()
    labels = labels_at(found, [0], ["a"])
    with pytest.raises(ValueError, match="belong to no particle"):
        transfer_labels(found, labels.with_geometry(np.full((1, 3), np.nan)))


def test_two_classes_for_one_particle_are_refused_and_named() -> None:
    found = particles()
    with pytest.raises(ValueError, match=r"TS_01/000001 is labeled a and b; keep one of the two"):
        transfer_labels(found, labels_at(found, [0, 0], ["a", "b"]))


def test_the_same_class_twice_is_fine() -> None:
    found = particles()
    assert transfer_labels(found, labels_at(found, [0, 0], ["a", "a"])).tolist() == ["a", "", "", "", "", ""]


def test_files_without_classes_are_refused_with_the_column_to_add() -> None:
    found = particles()
    with pytest.raises(ValueError, match=r"names no class; add a column tomosiftClass \(STAR\) or class \(CSV\)"):
        transfer_labels(found, labels_at(found, [0], [""]))


@pytest.fixture
def boxes(tmp_path: Path) -> Subtomograms:
    """Twelve boxes of three classes in turn."""
    found = replace(particles(12), class_name=np.array(list("abc") * 4, dtype=object))
    writer = SubtomogramWriter(tmp_path / "set", 4, 10.0)
    writer.append(np.random.default_rng(0).normal(size=(12, 4, 4, 4)).astype(np.float32), found, np.array([-60, 60]))
    return writer.close()


def test_particles_take_pseudo_labels_and_labeled_ones_keep_theirs(boxes: Subtomograms) -> None:
    labeled = boxes.select(np.arange(3))
    label = np.where(np.arange(12) % 2, 0, -1)
    given, rows = apply_pseudo_labels(boxes, label, labeled)
    assert rows.tolist() == [0, 1, 2, 3, 5, 7, 9, 11]
    assert given.label.tolist() == [0, 1, 2, 0, 0, 0, 0, 0]
    assert given.class_names == labeled.class_names
    assert label[0] == -1


def test_only_particles_of_the_same_set_are_members(boxes: Subtomograms) -> None:
    assert is_member(boxes, boxes.select(np.array([3, 5]))).nonzero()[0].tolist() == [3, 5]
    assert not is_member(boxes, replace(boxes, path=boxes.path / "other")).any()


def test_labeled_particles_are_chosen_and_held_out_ones_are_not(boxes: Subtomograms) -> None:
    labeled, held_out = boxes.select(np.array([0, 7])), boxes.select(np.array([1, 2, 7]))
    assert choose_unlabeled_rows(labeled, boxes, held_out, 100).tolist() == [0, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    few = choose_unlabeled_rows(labeled, boxes, held_out, 3)
    assert {0, 7} <= set(few)
    assert len(few) <= 5


def test_a_set_takes_labels_from_a_file_or_a_table_and_no_others(boxes: Subtomograms, tmp_path: Path) -> None:
    labels = replace(particles(12), class_name=np.array(["", "z", *[""] * 10], dtype=object))
    labels = labels.with_columns({"other": np.array(["y", *[""] * 11], dtype=object)})
    write_particles(tmp_path / "labels.csv", labels.select(np.array([1])))
    for source in (labels, tmp_path / "labels.csv"):
        labeled = label_subtomograms(boxes, source)
        assert labeled.class_names == ("z",)
        assert labeled.labeled_rows.tolist() == [1]
    assert label_subtomograms(boxes, labels, column="other").labeled_rows.tolist() == [0]
    with pytest.raises(ValueError, match="has no column absent"):
        label_subtomograms(boxes, tmp_path / "labels.csv", column="absent")


def test_reading_labels_reports_what_is_doubtful(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("tomogram,x_angstrom,y_angstrom,z_angstrom,class,n\nA,1,2,3,a ,1\nA,4,5,6,a,0\nA,7,8,9,b,2\n")
    notes: list[str] = []
    assert count_classes(read_labels(path, None, None, {}, notes.append)) == {"a": 2, "b": 1}
    assert any("b has one label only" in note for note in notes)
    assert count_classes(read_labels(path, "n", None, {})) == {"0": 1, "1": 1, "2": 1}


def test_labels_without_any_class_are_refused_with_their_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("tomogram,x_angstrom,y_angstrom,z_angstrom,class\nA,1,2,3,nan\nA,4,5,6,\n")
    with pytest.raises(ValueError, match=r"labels.csv names no class among 2 particles"):
        read_labels(path, None, None, {})


def test_numbers_of_classes_come_from_their_column(tmp_path: Path) -> None:
    path = tmp_path / "labels.star"
    labels = particles().with_columns({"rlnClassNumber": np.array([0, 2, 7, 2, 0, 0])})
    write_particles(path, labels, voxel_spacing_angstrom=10.0)
    assert count_classes(read_labels(path, "rlnClassNumber", None, {})) == {"2": 2, "7": 1}

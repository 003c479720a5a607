"""Splits by tomogram, few labels, and the sets that methods train on."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomosift.conventions import check_same_spacing
from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.splits import sample_labels, split_by_tomogram, split_target
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.particles import Particles


def some_particles(n: int, tomograms: int, classes: int = 3, seed: int = 0) -> Particles:
    rng = np.random.default_rng(seed)
    names = [f"t{k}" for k in np.concatenate([np.arange(tomograms), rng.integers(0, tomograms, n - tomograms)])]
    kinds = np.asarray(["", *"abcdefgh"][: classes + 1], dtype=object)[rng.integers(0, classes + 1, n)]
    return Particles.create(names, np.zeros((n, 3)), class_name=kinds)


def some_set(path: Path, particles: Particles, size: int = 4, spacing: float = 10.0) -> Subtomograms:
    writer = SubtomogramWriter(path, size, spacing)
    volume = np.random.default_rng(0).normal(size=(len(particles), size, size, size)).astype(np.float32)
    writer.append(volume, particles, np.array([-60, 60]))
    return writer.close()


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 12), st.integers(1, 4), st.integers(0, 9))
def test_no_tomogram_is_in_two_parts_and_nothing_is_lost(tomograms: int, parts: int, seed: int) -> None:
    particles = some_particles(60, tomograms, seed=seed)
    split = split_by_tomogram(particles, [0.6, 0.2, 0.1, 0.1][:parts], seed)
    assert sorted(np.concatenate(split.parts).tolist()) == list(range(60))
    assert all(len(part) for part in split)
    assert split.by_tomogram is (tomograms >= parts)
    assert bool(split.notice) is not split.by_tomogram
    if split.by_tomogram:
        owners = [set(particles.tomogram[part]) for part in split]
        assert sum(map(len, owners)) == len(set(particles.tomogram))
    again = split_by_tomogram(particles, [0.6, 0.2, 0.1, 0.1][:parts], seed)
    assert all(np.array_equal(one, other) for one, other in zip(split, again, strict=True))


def test_parts_get_their_share_of_every_class() -> None:
    particles = some_particles(4000, 60)
    split = split_by_tomogram(particles, [0.7, 0.2, 0.1])
    for name in ("", "a", "b", "c"):
        shares = [np.mean(np.isin(np.flatnonzero(particles.class_name == name), part)) for part in split.parts]
        np.testing.assert_allclose(shares, [0.7, 0.2, 0.1], atol=0.03)


def test_one_tomogram_is_split_by_particle_with_a_notice() -> None:
    particles = some_particles(100, 1)
    split = split_by_tomogram(particles, [0.8, 0.2])
    assert not split.by_tomogram
    assert "1 tomogram cannot fill 2 parts" in split.notice
    assert len(split[0]) == 80
    for name in ("a", "b", "c"):
        members = np.flatnonzero(particles.class_name == name)
        assert np.isin(members, split[1]).mean() == pytest.approx(0.2, abs=0.05)


def test_impossible_splits_are_refused_with_a_reason() -> None:
    with pytest.raises(ValueError, match="positive"):
        split_by_tomogram(some_particles(9, 3), [0.5, 0.0])
    with pytest.raises(ValueError, match="1 particles"):
        split_by_tomogram(some_particles(1, 1), [0.5, 0.5])


def test_sampled_labels_are_nested_and_even(tmp_path: Path) -> None:
    names = np.asarray(["a"] * 9 + ["b"] * 2 + [""] * 5, dtype=object)
    data = some_set(tmp_path, Particles.create(["t"] * 16, np.zeros((16, 3)), class_name=names))
    few, more = sample_labels(data, 1, seed=3), sample_labels(data, 4, seed=3)
    assert set(few) < set(more)
    assert np.bincount(data.label[few]).tolist() == [1, 1]
    assert np.bincount(data.label[more]).tolist() == [4, 2]
    with pytest.raises(ValueError, match="at least 1"):
        sample_labels(data, 0)
    with pytest.raises(ValueError, match="label at least one"):
        sample_labels(data.select(np.arange(11, 16)), 1)


def test_every_tenth_target_subtomogram_is_held_out_and_filled_ones_are_left_out(tmp_path: Path) -> None:
    particles = some_particles(42, 3)
    volume = np.random.default_rng(0).normal(size=(42, 8, 8, 8)).astype(np.float32)
    volume[[5, 17], 0] = 0.0  # filled beyond the tomogram
    writer = SubtomogramWriter(tmp_path / "set", 8, 10.0)
    writer.append(volume, particles, np.array([-60, 60]))
    target = writer.close()
    training, held_out = split_target(target)
    assert (len(training), len(held_out)) == (36, 4)
    names = [*training.particles.particle_id, *held_out.particles.particle_id]
    assert sorted(names) == sorted(np.delete(target.particles.particle_id, [5, 17]))


def test_training_sets_agree_on_box_spacing_and_classes(tmp_path: Path) -> None:
    particles = some_particles(12, 3)
    data = some_set(tmp_path / "a", particles)
    nothing = data.empty()
    sets = TrainingSets(data, nothing, data)
    assert (sets.box_size, sets.voxel_spacing_angstrom, sets.class_names) == (4, 10.0, data.class_names)
    with pytest.raises(ValueError, match="all empty"):
        TrainingSets(nothing, nothing, nothing)
    with pytest.raises(ValueError, match="one --box-size"):
        TrainingSets(data, some_set(tmp_path / "b", particles, size=5), data)
    with pytest.raises(ValueError, match=r"13\.33 A.*10\.00 A"):
        TrainingSets(data, some_set(tmp_path / "c", particles, spacing=13.33), data)
    with pytest.raises(ValueError, match="same class names"):
        TrainingSets(data, data, data.with_labels(["z"] * 12))


def test_training_sets_without_validation_keep_the_class_names(tmp_path: Path) -> None:
    data = some_set(tmp_path / "a", some_particles(12, 3))
    sets = TrainingSets.from_labels(data.select(np.arange(3)), data)
    assert (len(sets.labeled), len(sets.unlabeled), len(sets.validation)) == (3, 12, 0)
    assert sets.validation.class_names == data.class_names
    target = some_set(tmp_path / "b", some_particles(6, 2))
    domains = TrainingSets.from_domains(data, target)
    assert not len(domains.unlabeled.labeled_rows)
    assert domains.unlabeled.class_names == data.class_names


@pytest.mark.parametrize(("spacing", "is_refused"), [(10.09, False), (9.91, False), (10.2, True)])
def test_spacings_within_one_percent_are_used_together(spacing: float, is_refused: bool) -> None:
    if not is_refused:
        check_same_spacing(spacing, 10.0, "set", "model was trained at")
        return
    sentence = "voxel spacing of set is 10.20 A but model was trained at 10.00 A; extract with --voxel-spacing 10"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        check_same_spacing(spacing, 10.0, "set", "model was trained at")

"""Multireference alignment keeps the labels of people, corrects others, and holds some particles out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tomosift.averaging import multireference_alignment
from tomosift.averaging.alignment_input import prepare_alignment
from tomosift.averaging.class_averages import AVERAGES_PER_CLASS, ClassAverages
from tomosift.averaging.multireference_alignment import (
    MAX_HELD_OUT,
    MIN_MEMBERS,
    compute_class_averages,
    lowers_accuracy,
    refine_labels,
    select_held_out,
)
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference.model_files import shipped_decoder
from tomosift.models.embedder import Embedder

pytestmark = pytest.mark.usefixtures("few_rotations")

SIZE, CLASSES = 16, 3


def uniform(count: int) -> NDArray[np.float64]:
    return np.full((count, CLASSES), -np.log(CLASSES))


def test_averages_have_a_lower_accuracy_only_where_they_lose_two_or_more_labeled_particles(
    averages: ClassAverages, queries: Subtomograms, embedder: Embedder
) -> None:
    spectra = prepare_alignment(embedder, queries, averages.weight).spectra
    exchanged = ClassAverages(CLASSES, SIZE)
    exchanged.density = averages.density.roll(1, 0)
    right = np.log(np.where(np.arange(CLASSES) == queries.label[:, None], 0.5, 0.25))
    assert lowers_accuracy(exchanged, spectra, queries.label, right)
    assert not lowers_accuracy(averages, spectra, queries.label, uniform(len(queries)))
    one = torch.arange(1)
    assert not lowers_accuracy(exchanged, spectra.select(one), queries.label[:1], right[:1])
    none = spectra.select(torch.arange(0))
    assert not lowers_accuracy(exchanged, none, queries.label[:0], right[:0])


def test_labels_of_people_stay_and_wrong_pseudo_labels_are_corrected(labeled: Subtomograms, embedder: Embedder) -> None:
    is_labeled = np.arange(len(labeled)) < 2 * CLASSES
    label, wrong = labeled.label.copy(), np.arange(0, len(labeled), 5)
    label[wrong] = (label[wrong] + 1) % CLASSES  # among them two labels of people
    calls: list[tuple[int, int]] = []
    result = refine_labels(
        labeled,
        prepare_alignment(embedder, labeled),
        label,
        is_labeled,
        uniform(len(label)),
        shipped_decoder(),
        lambda done, total, note="": calls.append((done, total)),
    )
    assert result.averages.has_average.all()
    np.testing.assert_array_equal(result.label[is_labeled], label[is_labeled])
    before, after = ((one == labeled.label)[~is_labeled].mean() for one in (label, result.label))
    assert after > before + 0.05
    assert set(result.label) <= {-1, *range(CLASSES)}
    assert calls == [(k + 1, 2 * CLASSES) for k in range(2 * CLASSES)]


def test_where_people_labeled_all_particles_averages_are_computed_once(
    labeled: Subtomograms, embedder: Embedder
) -> None:
    calls: list[tuple[int, int]] = []
    is_labeled = np.ones(len(labeled), dtype=bool)
    result = refine_labels(
        labeled,
        prepare_alignment(embedder, labeled),
        labeled.label,
        is_labeled,
        uniform(len(labeled)),
        shipped_decoder(),
        lambda done, total, note="": calls.append((done, total)),
    )
    np.testing.assert_array_equal(result.label, labeled.label)
    np.testing.assert_array_equal(result.is_held_out, select_held_out(labeled.label, is_labeled))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert result.averages.has_average.all()


def test_averages_are_of_the_most_confident_particles(
    labeled: Subtomograms, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multireference_alignment, "MAX_MEMBERS", MIN_MEMBERS)
    confidence = np.random.default_rng(0).permutation(len(labeled)).astype(float)
    rank = [
        int((confidence[labeled.label == own] > mine).sum())
        for own, mine in zip(labeled.label, confidence, strict=True)
    ]
    label = np.where(np.array(rank) < MIN_MEMBERS, labeled.label, -1)
    alignment, decoder = prepare_alignment(embedder, labeled), shipped_decoder()
    of_most, of_all = (
        compute_class_averages(labeled, alignment, some, confidence, CLASSES, decoder)
        for some in (label, labeled.label)
    )
    assert of_most.has_average.all()
    assert torch.equal(of_most.density, of_all.density)
    assert torch.equal(of_most.mask, of_all.mask)


def test_a_quarter_of_the_labeled_particles_is_held_out_where_enough_are_left() -> None:
    label = np.repeat(np.arange(5), [100, 16, 11, 9, 40])
    is_labeled = np.ones(len(label), dtype=bool)
    is_labeled[np.flatnonzero(label == 4)[3:]] = False  # three labels, the others pseudo-labels
    held_out = select_held_out(label, is_labeled)
    assert [int(held_out[label == k].sum()) for k in range(5)] == [MAX_HELD_OUT, 4, 1, 0, 3]
    assert not held_out[~is_labeled].any()
    assert not select_held_out(np.full(3, -1), np.zeros(3, dtype=bool)).any()


def test_of_held_out_particles_averages_use_no_more_than_a_mask(
    labeled: Subtomograms, embedder: Embedder, write_subtomograms: Callable[..., Subtomograms], tmp_path: Path
) -> None:
    is_held_out = np.zeros(len(labeled), dtype=bool)
    is_held_out[np.flatnonzero(labeled.label == 0)[:AVERAGES_PER_CLASS]] = True
    volume = labeled.volumes(np.arange(len(labeled)))
    replaced = np.where(is_held_out[:, None, None, None], volume[::-1], volume)
    sets = [
        write_subtomograms(tmp_path / name, some, labeled.label, labeled.class_names)
        for name, some in (("same", volume), ("other", replaced))
    ]
    alignment, decoder, confidence = (
        prepare_alignment(embedder, labeled),
        shipped_decoder(),
        np.where(is_held_out, 0.0, 1.0),
    )
    first, second = (
        compute_class_averages(
            subtomograms, alignment, labeled.label, confidence, CLASSES, decoder, is_held_out=is_held_out
        )
        for subtomograms in sets
    )
    assert first.has_average.all()
    assert torch.equal(first.density, second.density)
    of_all = compute_class_averages(sets[0], alignment, labeled.label, confidence, CLASSES, decoder)
    assert not torch.equal(first.density[0], of_all.density[0])


def test_without_members_there_is_no_average(labeled: Subtomograms, embedder: Embedder) -> None:
    alignment, label = prepare_alignment(embedder, labeled), np.full(len(labeled), -1)
    averages = compute_class_averages(labeled, alignment, label, np.ones(len(label)), CLASSES, shipped_decoder())
    assert not averages.has_average.any()


def test_a_decoder_can_be_trained_after_it_predicted_masks_of_averages() -> None:
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(1, 18, 18, 18, generator=generator)  # of a size that no other test has used before
    with torch.inference_mode():
        shipped_decoder().decode_centered(volume)
    decoder = shipped_decoder().requires_grad_(True)
    decoder.decode_centered(volume).sum().backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())

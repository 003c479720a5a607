"""Averages of classes: what a few named particles teach about the rest, and what such averages must never change."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tomosift.averaging import class_averages as averages
from tomosift.averaging import multireference_alignment as averaging
from tomosift.averaging.alignment_input import AlignmentInput, prepare_alignment
from tomosift.averaging.class_averages import AVERAGES_PER_CLASS, ClassAverages
from tomosift.averaging.multireference_alignment import (
    MAX_HELD_OUT,
    MIN_MEMBERS,
    compute_class_averages,
    lower_accuracy,
    refine_labels,
    select_held_out,
)
from tomosift.inference.class_average_classifier import attach_class_averages
from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.model_files import load_classifier, save_classifier, shipped_decoder
from tomosift.inference.prediction import MASK_THRESHOLD, ClassPosterior, apply_class_averages, predict, predict_masks
from tomosift.inference.prototypes import enroll_classes
from tomosift.models.encoder import Encoder
from tomosift.models.encoders import build_encoder
from tomosift.physics.rotation import random_rotations, rotate_upsampled, upsample
from tomosift.physics.wedge import apply_mask, wedge_mask

pytestmark = pytest.mark.usefixtures("few_rotations")

SIZE, CLASSES, EACH, ASKED_EACH = 16, 3, 14, 8
PLACES = (
    [[0, 0, 3], [0, 3, -1], [-2, -2, -2]],
    [[0, 0, 4], [0, 0, 1], [0, 0, -3]],
    [[0, 0, 1], [0, 1, 0], [1, 0, 0]],
)
"""Of three balls each of three particles: a bent one, a rod and a lump."""


def particle(places: list[list[int]]) -> Tensor:
    axis = torch.arange(SIZE) - SIZE // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    balls = [torch.exp(-((z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2) / (2 * 1.3**2)) for a, b, c in places]
    return sum(weight * ball for weight, ball in enumerate(balls, 1))  # type: ignore[return-value]


@dataclass(frozen=True)
class Boxes:
    """Particles of all classes in turn, each in its own pose, as they are measured."""

    volume: NDArray[np.float32]
    label: NDArray[np.int64]
    is_particle: NDArray[np.bool_]
    """Which voxels are the particle's."""

    @property
    def tilt_range_deg(self) -> NDArray[np.float32]:
        return np.tile(np.float32([-60, 60]), (len(self.label), 1))

    def volumes(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.volume[rows]

    def look(self, encoder: Encoder, weight: Tensor | None = None) -> AlignmentInput:
        return prepare_alignment(self.volumes, self.tilt_range_deg, encoder, weight)

    def select(self, rows: NDArray[np.int64]) -> "Boxes":
        return Boxes(self.volume[rows], self.label[rows], self.is_particle[rows])


def drawn(each: int, seed: int, snr: float = 0.5) -> Boxes:
    generator, label = torch.Generator().manual_seed(seed), torch.arange(each * CLASSES) % CLASSES
    shapes = torch.stack([particle(places) for places in PLACES])
    turned = rotate_upsampled(upsample(shapes)[label], 2, random_rotations(len(label), generator))
    strength = (turned.var(dim=(1, 2, 3)) / snr).sqrt()[:, None, None, None]
    noise = torch.randn(turned.shape, generator=generator)
    made = apply_mask(turned + strength * noise, wedge_mask(SIZE, torch.tensor([[-60.0, 60.0]])))
    made = (made - made.mean((1, 2, 3), keepdim=True)) / made.std((1, 2, 3), keepdim=True)
    return Boxes(made.numpy(), label.numpy(), (turned > 0.3).numpy())


@pytest.fixture(scope="module")
def encoder(given: Boxes) -> Encoder:
    torch.manual_seed(0)
    made = build_encoder("radial").eval()
    made.prepare(torch.from_numpy(given.volume))
    return made


@pytest.fixture(scope="module")
def given() -> Boxes:
    return drawn(EACH, 0)


@pytest.fixture(scope="module")
def asked() -> Boxes:
    return drawn(ASKED_EACH, 1)


@pytest.fixture(scope="module")
def found(few_rotations: None, given: Boxes, encoder: Encoder) -> ClassAverages:
    """What the true labels of all boxes give."""
    return averages_of(given, given.label, encoder)


def averages_of(boxes: Boxes, label: NDArray[np.int64], encoder: Encoder) -> ClassAverages:
    surety = np.ones(len(label))
    return compute_class_averages(
        boxes.volumes, boxes.tilt_range_deg, boxes.look(encoder), label, surety, CLASSES, shipped_decoder()
    )


def unsure(count: int) -> NDArray[np.float64]:
    return np.full((count, CLASSES), -np.log(CLASSES))


def any_odds(count: int, seed: int = 5) -> NDArray[np.float64]:
    logits = np.random.default_rng(seed).normal(size=(count, CLASSES))
    return np.asarray(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))


def test_averages_of_named_boxes_name_others_of_which_nothing_is_known(
    found: ClassAverages, asked: Boxes, encoder: Encoder
) -> None:
    assert found.known.tolist() == [True] * CLASSES
    said = found.reconsidered(unsure(len(asked.label)), asked.look(encoder, found.weight).spectra)
    assert (said.argmax(1) == asked.label).mean() > 0.9


def test_averages_of_noisy_boxes_name_other_noisy_boxes(encoder: Encoder) -> None:
    labeled, asked = drawn(EACH, 2, snr=0.15), drawn(ASKED_EACH, 3, snr=0.15)
    made = averages_of(labeled, labeled.label, encoder)
    said = made.reconsidered(unsure(len(asked.label)), asked.look(encoder, made.weight).spectra)
    assert (said.argmax(1) == asked.label).mean() > 2 / CLASSES


def test_an_average_shows_its_own_particle(found: ClassAverages, given: Boxes, encoder: Encoder) -> None:
    assert found.density.shape == (CLASSES, averages.STARTS, SIZE, SIZE, SIZE)
    assert found.pictures(2 * SIZE).shape == (CLASSES, *3 * (2 * SIZE,))
    assert ((found.outline >= 0) & (found.outline <= 1)).all()
    # Poses are free, but how far out density lies is not: the lump ends before the rod does.
    axis = torch.arange(SIZE) - SIZE // 2
    squared = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    share = found.density.clamp(min=0)
    extent = (share * squared).sum((2, 3, 4)) / share.sum((2, 3, 4))
    assert (extent[2] < extent[1]).all()


def test_what_is_reconsidered_are_logarithms_of_probabilities(
    found: ClassAverages, asked: Boxes, encoder: Encoder
) -> None:
    said = found.reconsidered(any_odds(len(asked.label)), asked.look(encoder, found.weight).spectra)
    assert said.shape == (len(asked.label), CLASSES)
    assert np.isfinite(said).all()
    np.testing.assert_allclose(np.exp(said).sum(axis=1), 1)


def mean_confidence(log_probability: NDArray[np.float64]) -> float:
    return float(np.exp(log_probability.max(axis=1)).mean())


def test_probabilities_are_as_sure_as_spared_particles_are_right(
    found: ClassAverages, asked: Boxes, encoder: Encoder
) -> None:
    spectra, before = asked.look(encoder, found.weight).spectra, any_odds(len(asked.label))
    # Of labels that are wrong for half of the particles, half is met.
    half = np.where(np.arange(len(asked.label)) % 2, asked.label, (asked.label + 1) % CLASSES)
    for label, least, most in ((asked.label, 0.85, 1.0), (half, 0.4, 0.6)):
        made = ClassAverages(CLASSES, SIZE)
        made.load_state_dict(found.state_dict())
        right = int((made.reconsidered(before, spectra).argmax(1) == label).sum())
        made.calibrate(before, spectra, label, spectra, before)
        after = made.reconsidered(before, spectra)
        assert mean_confidence(after) == pytest.approx((right + 1) / (len(label) + 2), abs=0.01)
        assert least < mean_confidence(after) < most
        np.testing.assert_array_equal(after.argmax(1), found.reconsidered(before, spectra).argmax(1))


@pytest.mark.parametrize("sure", [None, 0.7])
def test_one_label_each_is_trusted_as_far_as_averages_and_embeddings_say(
    found: ClassAverages, asked: Boxes, encoder: Encoder, sure: float | None
) -> None:
    made = ClassAverages(CLASSES, SIZE)
    made.load_state_dict(found.state_dict())
    spectra, before = asked.look(encoder, found.weight).spectra, any_odds(len(asked.label))
    one_each = np.arange(CLASSES)
    made.calibrate(before, spectra, asked.label[one_each], spectra.select(torch.from_numpy(one_each)), None, sure)
    alone, both = (found.reconsidered(odds, spectra) for odds in (unsure(len(asked.label)), before))
    agreed, consistent = ((alone.argmax(1) == said.argmax(1)).mean() for said in (before, both))
    named = ((alone.argmax(1) == asked.label)[one_each].sum() + 1) / (CLASSES + 2)
    placed = agreed if sure is None else sure**2 / (sure**2 + (1 - sure) ** 2)
    expected = max(1 / CLASSES, placed * min(1.0, named / consistent))
    assert mean_confidence(made.reconsidered(before, spectra)) == pytest.approx(expected, abs=0.02)
    assert mean_confidence(made.reconsidered(before, spectra)) < mean_confidence(both)


def test_averages_of_guessed_labels_make_nobody_sure(encoder: Encoder) -> None:
    boxes, asked = drawn(EACH, 6, snr=0.02), drawn(ASKED_EACH, 7, snr=0.02)
    guessed = np.random.default_rng(0).permutation(boxes.label)
    is_spared = select_held_out(guessed, np.ones(len(guessed), dtype=bool))
    model = Classifier(encoder, ModelCard("radial", 10.0, SIZE, ("bent", "rod", "lump"))).eval()
    surety = np.ones(len(guessed))
    made = compute_class_averages(
        boxes.volumes,
        boxes.tilt_range_deg,
        boxes.look(encoder),
        guessed,
        surety,
        CLASSES,
        shipped_decoder(),
        is_spared=is_spared,
    )
    spectra, even = asked.look(encoder, made.weight).spectra, unsure(len(asked.label))
    before = mean_confidence(made.reconsidered(even, spectra))
    known = boxes.select(np.flatnonzero(is_spared))
    attach_class_averages(model, made, asked, known, known.label, unsure(len(known.label)))
    assert model.averages is made
    assert before > 0.6
    assert mean_confidence(made.reconsidered(even, spectra)) < before - 0.05


def test_without_labels_to_ask_averages_are_kept_as_they_are(
    found: ClassAverages, asked: Boxes, encoder: Encoder
) -> None:
    model = Classifier(encoder, ModelCard("radial", 10.0, SIZE, ("bent", "rod", "lump"))).eval()
    none = asked.empty()
    assert attach_class_averages(model, found, asked, none, none.label, None) == ""
    assert model.averages is found
    assert float(found.temperature) == 1.0
    few = ClassAverages(CLASSES, SIZE)
    few.density[:1] = found.density[:1]
    assert "fewer than 2 classes" in attach_class_averages(model, few, asked, asked, asked.label, None)
    assert model.averages is found


@pytest.mark.parametrize("known", [0, 1])
def test_fewer_than_two_averages_change_nothing(
    known: int, found: ClassAverages, asked: Boxes, encoder: Encoder
) -> None:
    few = ClassAverages(CLASSES, SIZE)
    few.density[:known] = found.density[:known]
    before = any_odds(len(asked.label))
    said = few.reconsidered(before, asked.look(encoder, found.weight).spectra)
    np.testing.assert_array_equal(said, before)


def test_averages_name_fewer_right_only_where_two_or_more_labeled_particles_say_so(
    found: ClassAverages, asked: Boxes, encoder: Encoder
) -> None:
    spectra = asked.look(encoder, found.weight).spectra
    exchanged = ClassAverages(CLASSES, SIZE)
    exchanged.density = found.density.roll(1, 0)
    right = np.log(np.where(np.arange(CLASSES) == asked.label[:, None], 0.5, 0.25))
    assert lower_accuracy(exchanged, spectra, asked.label, right)
    assert not lower_accuracy(found, spectra, asked.label, unsure(len(asked.label)))
    one = torch.arange(1)
    assert not lower_accuracy(exchanged, spectra.select(one), asked.label[:1], right[:1])
    none = spectra.select(torch.arange(0))
    assert not lower_accuracy(exchanged, none, asked.label[:0], right[:0])


def test_no_boxes_are_reconsidered_as_none(found: ClassAverages, asked: Boxes, encoder: Encoder) -> None:
    spectra = asked.look(encoder, found.weight).spectra.select(torch.zeros(0, dtype=torch.int64))
    assert found.reconsidered(any_odds(0), spectra).shape == (0, CLASSES)


def test_a_class_of_few_has_no_average_and_keeps_its_odds_against_the_best_fitting(
    given: Boxes, asked: Boxes, encoder: Encoder
) -> None:
    label = given.label.copy()
    label[np.flatnonzero(label == 1)[MIN_MEMBERS - 1 :]] = -1
    made = averages_of(given, label, encoder)
    assert made.known.tolist() == [True, False, True]
    assert not made.density[1].any()
    assert not made.outline[1].any()
    before = any_odds(len(asked.label))
    said = made.reconsidered(before, asked.look(encoder, made.weight).spectra)
    gained = said - before
    np.testing.assert_allclose(gained[:, 1], gained[:, [0, 2]].max(axis=1))
    assert (gained[:, 1] > gained[:, [0, 2]].min(axis=1) + 0.1).mean() > 0.5


def test_classes_that_are_not_tried_gain_nothing(
    found: ClassAverages, asked: Boxes, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, spectra = any_odds(len(asked.label)), asked.look(encoder, found.weight).spectra
    monkeypatch.setattr(averages, "CANDIDATES", 1)
    np.testing.assert_allclose(found.reconsidered(before, spectra), before, atol=1e-9)
    monkeypatch.setattr(averages, "CANDIDATES", 2)
    gained = found.reconsidered(before, spectra) - before
    ranked = np.take_along_axis(gained, np.argsort(-before, axis=1), axis=1)
    np.testing.assert_allclose(ranked[:, 2], ranked[:, :2].min(axis=1))
    assert (np.ptp(ranked[:, :2], axis=1) > 0.1).mean() > 0.5


def test_a_box_is_reconsidered_alone_as_among_others(
    found: ClassAverages, asked: Boxes, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 3
    some, before = asked.select(np.arange(count)), any_odds(count)
    together = found.reconsidered(before, some.look(encoder, found.weight).spectra)
    one_by_one = [
        found.reconsidered(before[[k]], some.select(np.array([k])).look(encoder, found.weight).spectra)
        for k in range(count)
    ]
    np.testing.assert_allclose(np.concatenate(one_by_one), together, rtol=1e-4, atol=1e-3)
    monkeypatch.setattr(averages, "_AT_ONCE", 2)
    parts = found.reconsidered(before, some.look(encoder, found.weight).spectra)
    np.testing.assert_allclose(parts, together, rtol=1e-4, atol=1e-3)


def test_labels_that_were_given_stay_and_wrong_ones_are_corrected(given: Boxes, encoder: Encoder) -> None:
    is_given = np.arange(len(given.label)) < 2 * CLASSES
    label, wrong = given.label.copy(), np.arange(0, len(given.label), 5)
    label[wrong] = (label[wrong] + 1) % CLASSES  # among them two of those that were given
    told: list[tuple[int, int]] = []
    said = refine_labels(
        given.volumes,
        given.tilt_range_deg,
        given.look(encoder),
        label,
        is_given,
        unsure(len(label)),
        shipped_decoder(),
        lambda done, total: told.append((done, total)),
    )
    after = said.label
    assert said.averages.known.all()
    np.testing.assert_array_equal(after[is_given], label[is_given])
    assert (after == given.label)[~is_given].mean() > (label == given.label)[~is_given].mean() + 0.05
    assert set(after) <= {-1, *range(CLASSES)}
    assert told == [(k + 1, 2 * CLASSES) for k in range(2 * CLASSES)]


def test_where_all_labels_were_given_averages_are_made_once(given: Boxes, encoder: Encoder) -> None:
    told: list[tuple[int, int]] = []
    every = np.ones(len(given.label), dtype=bool)
    said = refine_labels(
        given.volumes,
        given.tilt_range_deg,
        given.look(encoder),
        given.label,
        every,
        unsure(len(every)),
        shipped_decoder(),
        lambda done, total: told.append((done, total)),
    )
    np.testing.assert_array_equal(said.label, given.label)
    np.testing.assert_array_equal(said.is_spared, select_held_out(given.label, every))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert said.averages.known.all()


def test_averages_are_of_the_surest_particles(given: Boxes, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(averaging, "MOST_MEMBERS", MIN_MEMBERS)
    surety = np.random.default_rng(0).permutation(len(given.label)).astype(float)
    rank = [int((surety[given.label == own] > mine).sum()) for own, mine in zip(given.label, surety, strict=True)]
    label = np.where(np.array(rank) < MIN_MEMBERS, given.label, -1)
    seen, decoder = given.look(encoder), shipped_decoder()
    of_most, of_all = (
        compute_class_averages(given.volumes, given.tilt_range_deg, seen, some, surety, CLASSES, decoder)
        for some in (label, given.label)
    )
    assert of_most.known.all()
    assert torch.equal(of_most.density, of_all.density)
    assert torch.equal(of_most.outline, of_all.outline)


def test_a_quarter_of_the_labeled_particles_is_spared_where_enough_are_left() -> None:
    label = np.repeat(np.arange(5), [100, 16, 11, 9, 40])
    is_given = np.ones(len(label), dtype=bool)
    is_given[np.flatnonzero(label == 4)[3:]] = False  # three labels, the others only found
    left = select_held_out(label, is_given)
    assert [int(left[label == k].sum()) for k in range(5)] == [MAX_HELD_OUT, 4, 1, 0, 3]
    assert not left[~is_given].any()
    assert not select_held_out(np.full(3, -1), np.zeros(3, dtype=bool)).any()


def test_of_spared_particles_averages_take_no_more_than_an_outline(given: Boxes, encoder: Encoder) -> None:
    is_spared = np.zeros(len(given.label), dtype=bool)
    is_spared[np.flatnonzero(given.label == 0)[:AVERAGES_PER_CLASS]] = True
    other = replace(given, volume=np.where(is_spared[:, None, None, None], given.volume[::-1], given.volume))
    seen, decoder, surety = given.look(encoder), shipped_decoder(), np.where(is_spared, 0.0, 1.0)
    made = [
        compute_class_averages(
            boxes.volumes, given.tilt_range_deg, seen, given.label, surety, CLASSES, decoder, is_spared=is_spared
        )
        for boxes in (given, other)
    ]
    assert made[0].known.all()
    assert torch.equal(made[0].density, made[1].density)
    all_in = compute_class_averages(given.volumes, given.tilt_range_deg, seen, given.label, surety, CLASSES, decoder)
    assert not torch.equal(made[0].density[0], all_in.density[0])


def test_where_no_particle_has_a_class_no_average_is_made(given: Boxes, encoder: Encoder) -> None:
    assert not averages_of(given, np.full(len(given.label), -1), encoder).known.any()


def test_the_middle_of_a_particle_is_looked_for_before_its_spectra_are_taken(asked: Boxes, encoder: Encoder) -> None:
    some = asked.select(np.arange(4))
    moved = replace(some, volume=np.roll(some.volume, 2, axis=1))
    seen = moved.look(encoder)
    torch.testing.assert_close(seen.offset_zyx_voxels, encoder.offset(torch.from_numpy(moved.volume)))
    assert len(seen.spectra) == 4


def test_what_outlined_an_average_can_be_trained_afterwards() -> None:
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(1, 18, 18, 18, generator=generator)  # of a size that no other test has used before
    with torch.inference_mode():
        shipped_decoder().centered(volume)
    decoder = shipped_decoder().requires_grad_(True)
    decoder.centered(volume).sum().backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())


@pytest.fixture
def classifier(encoder: Encoder, found: ClassAverages) -> Classifier:
    """A model of which only the averages know something."""
    made = Classifier(encoder, ModelCard("radial", 10.0, SIZE, ("bent", "rod", "lump"), temperature=2.0)).eval()
    made.decoder, made.card = shipped_decoder(), replace(made.card, decoder="unet")
    made.keep(found)
    return made


def test_a_model_that_keeps_averages_is_saved_and_loaded_with_them(
    classifier: Classifier, asked: Boxes, tmp_path: Path
) -> None:
    said = predict(classifier, asked.volumes, len(asked.label))
    done: list[tuple[int, int]] = []
    after = apply_class_averages(
        classifier, said, asked.volumes, asked.tilt_range_deg, lambda count, total: done.append((count, total))
    )
    assert done == [(0, len(asked.label)), (len(asked.label), len(asked.label))]
    assert (after.probabilities.argmax(1) == asked.label).mean() > 0.9
    np.testing.assert_allclose(after.probabilities.sum(1), 1)
    tempered = np.exp(after.logits / 2.0)
    np.testing.assert_allclose(tempered / tempered.sum(1, keepdims=True), after.probabilities, atol=1e-9)
    np.testing.assert_array_equal(after.similarity, said.similarity)
    save_classifier(tmp_path / "kept", classifier)
    loaded = load_classifier(tmp_path / "kept")
    assert loaded.card == classifier.card
    assert loaded.card.averages
    again = apply_class_averages(
        loaded, predict(loaded, asked.volumes, len(asked.label)), asked.volumes, asked.tilt_range_deg
    )
    np.testing.assert_array_equal(again.probabilities, after.probabilities)


def test_comparing_changes_nothing_without_averages_or_without_boxes(
    classifier: Classifier, encoder: Encoder, asked: Boxes
) -> None:
    plain = Classifier(encoder, replace(classifier.card, averages=False)).eval()
    said = predict(plain, asked.volumes, 5)
    assert apply_class_averages(plain, said, asked.volumes, asked.tilt_range_deg[:5]) is said
    none = predict(classifier, asked.volumes, 0)
    assert apply_class_averages(classifier, none, asked.volumes, asked.tilt_range_deg[:0]) is none


def test_boxes_of_another_size_are_refused(classifier: Classifier) -> None:
    larger = np.random.default_rng(0).normal(size=(2, 20, 20, 20)).astype(np.float32)
    said, tilts = predict(classifier, larger.__getitem__, 2), np.tile(np.float32([-60, 60]), (2, 1))
    with pytest.raises(ValueError, match=r"boxes have 20 voxels .* made of 16; extract with --box-size 16"):
        apply_class_averages(classifier, said, larger.__getitem__, tilts)
    with pytest.raises(ValueError, match=r"boxes have 20 voxels .* made of 16; extract with --box-size 16"):
        next(predict_masks(classifier, larger.__getitem__, 2, named=ClassPosterior(said.probabilities, tilts)))


def test_enrolling_drops_averages_of_the_classes_that_there_were(classifier: Classifier, given: Boxes) -> None:
    examples = predict(classifier, given.volumes, CLASSES).embeddings
    names = ("ring", "cube", "plate")
    base = Classifier(classifier.encoder, replace(classifier.card, class_names=(), averages=False))
    first = enroll_classes(base, names, examples, np.arange(3), examples)
    first.keep(ClassAverages(3, SIZE))
    later = enroll_classes(first, ("cone",), examples[:1], np.zeros(1, dtype=np.int64), examples)
    assert first.card.averages
    assert not later.card.averages
    assert later.averages is None


def masks(classifier: Classifier, boxes: Boxes, probability: NDArray[np.float64] | None) -> NDArray[np.float32]:
    named = None if probability is None else ClassPosterior(probability, boxes.tilt_range_deg)
    return np.concatenate(list(predict_masks(classifier, boxes.volumes, len(boxes.label), batch_size=3, named=named)))


def test_outlines_of_averages_come_in_as_far_as_classes_are_sure(classifier: Classifier, asked: Boxes) -> None:
    some = asked.select(np.arange(5))
    alone, sure = masks(classifier, some, None), np.eye(CLASSES)[some.label]
    named = masks(classifier, some, sure)
    assert named.shape == alone.shape
    assert named.min() >= 0
    assert named.max() <= 1
    assert (np.abs(named - alone).max(axis=(1, 2, 3)) > 0.05).all()
    np.testing.assert_allclose(masks(classifier, some, 0 * sure), alone, atol=1e-6)
    np.testing.assert_allclose(masks(classifier, some, 0.5 * sure), named, atol=1e-6)


def test_a_class_without_an_average_leaves_its_share_of_an_outline_to_the_box(
    classifier: Classifier, found: ClassAverages, asked: Boxes
) -> None:
    few = ClassAverages(CLASSES, SIZE)
    few.load_state_dict(found.state_dict())
    few.density[2] = 0
    classifier.keep(few)
    some = asked.select(np.flatnonzero(asked.label < 2)[:4])
    sure, unknown = np.eye(CLASSES)[some.label], np.eye(CLASSES)[np.full(4, 2)]
    alone, named = masks(classifier, some, None), masks(classifier, some, sure)
    np.testing.assert_allclose(masks(classifier, some, unknown), alone, atol=1e-6)
    np.testing.assert_allclose(masks(classifier, some, (sure + unknown) / 2), (named + alone) / 2, atol=1e-5)


def test_outlines_by_averages_are_nearer_to_the_particle_than_those_of_noisy_boxes(
    classifier: Classifier, asked: Boxes
) -> None:
    some = asked.select(np.arange(12))
    dice = [
        2 * (found & some.is_particle).sum() / (found.sum() + some.is_particle.sum())
        for found in (masks(classifier, some, told) > MASK_THRESHOLD for told in (None, np.eye(CLASSES)[some.label]))
    ]
    assert dice[1] > dice[0]


def test_outlines_without_names_are_those_of_a_model_without_averages(
    classifier: Classifier, encoder: Encoder, asked: Boxes
) -> None:
    plain = Classifier(encoder, replace(classifier.card, averages=False)).eval()
    plain.decoder = classifier.decoder
    some = asked.select(np.arange(3))
    np.testing.assert_array_equal(masks(plain, some, np.eye(CLASSES)[some.label]), masks(classifier, some, None))

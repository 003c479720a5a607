"""Averages of what a few examples name: examples of the set, of another set, and of boxes of another size."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tomosift.averaging.multireference_alignment import AlignmentResult
from tomosift.data.labels import find_rows
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference import class_average_classifier as recognition
from tomosift.inference.class_average_classifier import SupportSet, add_class_averages
from tomosift.inference.classifier import Classifier
from tomosift.inference.model_files import GENERAL, load_classifier
from tomosift.inference.prediction import apply_class_averages, classify_embeddings, embed
from tomosift.inference.prototypes import enroll_classes
from tomosift.models.encoder import ReportDone
from tomosift.physics.imaging import lab_protocol
from tomosift.simulation.subtomograms import SubtomogramSetConfig, simulate_subtomograms

pytestmark = pytest.mark.usefixtures("few_rotations")

CLASSES, EACH = ("apoferritin", "groel", "ribosome-70s"), 20
IMAGING = replace(lab_protocol(), shift_voxels=(-1.0, 1.0), snr=(0.5, 0.5))
CONFIG = SubtomogramSetConfig(
    CLASSES, EACH, box_size=24, ranges=IMAGING, voxel_spacing_angstrom=16.0, max_neighbors=0, seed=3
)


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Subtomograms:
    return simulate_subtomograms(CONFIG, tmp_path_factory.mktemp("set") / "boxes")


@pytest.fixture(scope="module")
def model(boxes: Subtomograms) -> Classifier:
    made = load_classifier(GENERAL)
    made.encoder.prepare(torch.from_numpy(boxes.volumes(np.arange(len(boxes)))))
    return made


@pytest.fixture(scope="module")
def embedding(boxes: Subtomograms, model: Classifier) -> NDArray[np.float32]:
    return embed(model.encoder, boxes.volumes, len(boxes))


def of_each(boxes: Subtomograms, count: int) -> Subtomograms:
    return boxes.select(np.concatenate([np.flatnonzero(boxes.label == k)[:count] for k in range(len(CLASSES))]))


def shown(
    model: Classifier, boxes: Subtomograms, embedding: NDArray[np.float32], given: Subtomograms
) -> tuple[Classifier, SupportSet]:
    """A classifier of these examples, and what is known of them."""
    seen = embed(model.encoder, given.volumes, len(given))
    made = enroll_classes(model, given.class_names, seen, given.label, embedding)
    return made, SupportSet(given, seen, given.label, find_rows(given, boxes))


def test_examples_of_the_set_lead_to_averages_that_name_the_others(
    boxes: Subtomograms, model: Classifier, embedding: NDArray[np.float32]
) -> None:
    told: list[tuple[str, str]] = []

    @contextmanager
    def phase(name: str, unit: str) -> Iterator[ReportDone]:
        told.append((name, unit))
        yield lambda done, total: None

    classifier, examples = shown(model, boxes, embedding, of_each(boxes, 2))
    assert (examples.row >= 0).all()
    assert add_class_averages(classifier, boxes, embedding, examples, phase) == ""
    assert told == [("look at boxes", "boxes"), ("averages", "classes")]
    said = apply_class_averages(
        classifier, classify_embeddings(classifier, embedding), boxes.volumes, boxes.tilt_range_deg
    )
    assert (said.probabilities.argmax(1) == boxes.label).mean() > 0.9


def test_examples_of_another_set_are_no_particles_of_this_one_though_they_are_called_the_same(
    boxes: Subtomograms, model: Classifier, embedding: NDArray[np.float32], tmp_path: Path
) -> None:
    other = simulate_subtomograms(replace(CONFIG, per_class=2, seed=4), tmp_path / "other")
    assert set(other.particles.particle_id) <= set(boxes.particles.particle_id)
    classifier, examples = shown(model, boxes, embedding, other)
    assert (examples.row == -1).all()
    assert add_class_averages(classifier, boxes, embedding, examples) == ""
    # All of them may say how far averages are to be trusted, as none is in one.
    assert classifier.averages is not None
    assert float(classifier.averages.temperature) != 1.0


def test_boxes_of_another_size_say_what_classes_are_but_not_how_far_averages_are_to_be_trusted(
    boxes: Subtomograms, model: Classifier, embedding: NDArray[np.float32], tmp_path: Path
) -> None:
    larger = simulate_subtomograms(replace(CONFIG, per_class=2, box_size=28, seed=4), tmp_path / "larger")
    classifier, examples = shown(model, boxes, embedding, larger)
    assert add_class_averages(classifier, boxes, embedding, examples) == ""
    assert classifier.averages is not None
    assert float(classifier.averages.temperature) == 1.0


def test_averages_are_of_examples_and_of_no_more_particles_than_are_looked_at(
    boxes: Subtomograms, model: Classifier, embedding: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recognition, "MOST_TO_AVERAGE", 20)
    totals: dict[str, int] = {}

    @contextmanager
    def phase(name: str, unit: str) -> Iterator[ReportDone]:
        yield lambda done, total: totals.update({unit: total})

    classifier, examples = shown(model, boxes, embedding, of_each(boxes, 2))
    # Some eight of each class are too few for an average.
    assert "fewer than 2 classes have 10" in add_class_averages(classifier, boxes, embedding, examples, phase)
    assert classifier.averages is None
    assert totals["boxes"] == len(np.union1d(boxes.spaced_rows(20), examples.row))


def test_averages_that_name_fewer_examples_right_are_not_kept(
    boxes: Subtomograms, model: Classifier, embedding: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier, examples = shown(model, boxes, embedding, of_each(boxes, 2))
    averages = recognition.told_by_averages

    def exchanged(*given: object) -> AlignmentResult:
        told = averages(*given)  # type: ignore[arg-type]
        told.averages.density = told.averages.density.roll(1, 0)  # each class has the average of another
        return told

    monkeypatch.setattr(recognition, "told_by_averages", exchanged)
    assert "name fewer of the labeled particles right" in add_class_averages(classifier, boxes, embedding, examples)
    assert classifier.averages is None


def test_noise_alone_gives_no_averages(
    boxes: Subtomograms, model: Classifier, embedding: NDArray[np.float32], tmp_path: Path
) -> None:
    noisy = replace(CONFIG, ranges=replace(IMAGING, snr=(1e-4, 1e-4)))
    noise = simulate_subtomograms(noisy, tmp_path / "noise")
    other = simulate_subtomograms(replace(noisy, per_class=1, seed=4), tmp_path / "other")
    classifier, examples = shown(model, noise, embed(model.encoder, noise.volumes, len(noise)), other)
    add_class_averages(classifier, noise, embed(model.encoder, noise.volumes, len(noise)), examples)
    said = classify_embeddings(classifier, embedding)
    after = apply_class_averages(classifier, said, boxes.volumes, boxes.tilt_range_deg)
    assert np.isfinite(after.probabilities).all()

"""Class averages from a set that a few examples classify: examples of that set, of another, or of another box size."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tomosift.averaging.multireference_alignment import LOWER_ACCURACY, AlignmentResult
from tomosift.data.labels import find_rows
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference import class_average_classifier
from tomosift.inference.class_average_classifier import SupportSet, add_class_averages
from tomosift.inference.classifier import Classifier
from tomosift.inference.model_files import GENERAL, load_classifier
from tomosift.inference.prediction import apply_class_averages, classify_embeddings, embed
from tomosift.inference.prototypes import enroll_classes
from tomosift.physics.imaging import lab_protocol
from tomosift.progress import Monitor, Progress, ignore_progress
from tomosift.simulation.subtomograms import SubtomogramSetConfig, simulate_subtomograms

pytestmark = pytest.mark.usefixtures("few_rotations", "fast_recentering")

CLASSES, EACH = ("apoferritin", "groel", "ribosome-70s"), 20
IMAGING = replace(lab_protocol(), shift_voxels=(-1.0, 1.0), snr=(0.5, 0.5))
CONFIG = SubtomogramSetConfig(
    CLASSES, EACH, box_size=24, ranges=IMAGING, voxel_spacing_angstrom=16.0, max_neighbors=0, seed=3
)


class RecordingMonitor(Monitor):
    """Records the stages and the totals of their units."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, str]] = []
        self.totals: dict[str, int] = {}

    @contextmanager
    def stage(self, name: str, unit: str) -> Iterator[Progress]:
        self.stages.append((name, unit))

        def record(done: int, total: int, note: str = "") -> None:
            self.totals[unit] = total
            ignore_progress(done, total, note)

        yield record


@pytest.fixture(scope="module")
def subtomograms(tmp_path_factory: pytest.TempPathFactory) -> Subtomograms:
    return simulate_subtomograms(CONFIG, tmp_path_factory.mktemp("set") / "set")


@pytest.fixture(scope="module")
def model(subtomograms: Subtomograms) -> Classifier:
    return load_classifier(GENERAL).adapt_to(subtomograms)


@pytest.fixture(scope="module")
def embedding(subtomograms: Subtomograms, model: Classifier) -> NDArray[np.float32]:
    return embed(model.embedder, subtomograms)


def first_of_each(subtomograms: Subtomograms, count: int) -> Subtomograms:
    rows = [np.flatnonzero(subtomograms.label == k)[:count] for k in range(len(CLASSES))]
    return subtomograms.select(np.concatenate(rows))


def enroll(
    model: Classifier, subtomograms: Subtomograms, embedding: NDArray[np.float32], examples: Subtomograms
) -> tuple[Classifier, SupportSet]:
    """A classifier of these examples, and its support set."""
    support = embed(model.embedder, examples)
    classifier = enroll_classes(model, examples.class_names, support, examples.label, embedding)
    return classifier, SupportSet(examples, support, examples.label, find_rows(examples, subtomograms))


def test_examples_of_the_set_give_averages_that_classify_the_others(
    subtomograms: Subtomograms, model: Classifier, embedding: NDArray[np.float32]
) -> None:
    monitor = RecordingMonitor()
    classifier, support = enroll(model, subtomograms, embedding, first_of_each(subtomograms, 2))
    assert (support.row >= 0).all()
    attached = add_class_averages(classifier, subtomograms, embedding, support, monitor)
    assert attached.reason == ""
    assert monitor.stages == [("prepare alignment", "subtomograms"), ("class averages", "classes")]
    by_embeddings = classify_embeddings(attached.classifier, embedding)
    prediction = apply_class_averages(attached.classifier, by_embeddings, subtomograms)
    assert (prediction.probabilities.argmax(1) == subtomograms.label).mean() > 0.9


def test_examples_of_another_set_are_not_taken_for_particles_of_the_same_name(
    subtomograms: Subtomograms, model: Classifier, embedding: NDArray[np.float32], tmp_path: Path
) -> None:
    other = simulate_subtomograms(replace(CONFIG, per_class=2, seed=4), tmp_path / "other")
    assert set(other.particles.particle_id) <= set(subtomograms.particles.particle_id)
    classifier, support = enroll(model, subtomograms, embedding, other)
    assert (support.row == -1).all()
    attached = add_class_averages(classifier, subtomograms, embedding, support)
    assert attached.reason == ""
    # Averages are calibrated on all of them, as none is a member.
    assert attached.classifier.class_averages is not None
    assert float(attached.classifier.class_averages.temperature) != 1.0


def test_examples_of_another_box_size_enroll_classes_but_do_not_calibrate_averages(
    subtomograms: Subtomograms, model: Classifier, embedding: NDArray[np.float32], tmp_path: Path
) -> None:
    larger = simulate_subtomograms(replace(CONFIG, per_class=2, box_size=28, seed=4), tmp_path / "larger")
    classifier, support = enroll(model, subtomograms, embedding, larger)
    attached = add_class_averages(classifier, subtomograms, embedding, support)
    assert attached.reason == ""
    assert attached.classifier.class_averages is not None
    assert float(attached.classifier.class_averages.temperature) == 1.0


def test_members_of_averages_are_the_examples_and_a_limited_number_of_other_particles(
    subtomograms: Subtomograms, model: Classifier, embedding: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_average_classifier, "MAX_TO_AVERAGE", 20)
    monitor = RecordingMonitor()
    classifier, support = enroll(model, subtomograms, embedding, first_of_each(subtomograms, 2))
    # Some eight of each class are too few for an average.
    attached = add_class_averages(classifier, subtomograms, embedding, support, monitor)
    assert "fewer than 2 classes have 10" in attached.reason
    assert attached.classifier.class_averages is None
    assert monitor.totals["subtomograms"] == len(np.union1d(subtomograms.spaced_rows(20), support.row))


def test_averages_that_classify_fewer_examples_right_are_not_attached(
    subtomograms: Subtomograms, model: Classifier, embedding: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier, support = enroll(model, subtomograms, embedding, first_of_each(subtomograms, 2))
    refine_labels = class_average_classifier.refine_labels

    def exchange_averages(*arguments: object) -> AlignmentResult:
        result = refine_labels(*arguments)  # type: ignore[arg-type]
        result.averages.density = result.averages.density.roll(1, 0)  # each class has the average of another
        return result

    monkeypatch.setattr(class_average_classifier, "refine_labels", exchange_averages)
    attached = add_class_averages(classifier, subtomograms, embedding, support)
    assert attached.reason == LOWER_ACCURACY
    assert "classify fewer labeled particles right" in attached.reason
    assert attached.classifier.class_averages is None


def test_averages_of_noise_keep_probabilities_finite(
    subtomograms: Subtomograms, model: Classifier, embedding: NDArray[np.float32], tmp_path: Path
) -> None:
    noisy = replace(CONFIG, ranges=replace(IMAGING, snr=(1e-4, 1e-4)))
    noise = simulate_subtomograms(noisy, tmp_path / "noise")
    other = simulate_subtomograms(replace(noisy, per_class=1, seed=4), tmp_path / "other")
    noise_embedding = embed(model.embedder, noise)
    classifier, support = enroll(model, noise, noise_embedding, other)
    attached = add_class_averages(classifier, noise, noise_embedding, support)
    by_embeddings = classify_embeddings(attached.classifier, embedding)
    prediction = apply_class_averages(attached.classifier, by_embeddings, subtomograms)
    assert np.isfinite(prediction.probabilities).all()

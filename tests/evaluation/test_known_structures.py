"""Clusters of simulated complexes are told which they are, and strangers that they are none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tomosift.data.subtomograms import Subtomograms
from tomosift.evaluation.known_structures import KnownStructures, embed_known_structures, match_clusters
from tomosift.evaluation.report.cluster_section import Suggestions
from tomosift.inference.classifier import Classifier, ModelCard, load_classifier
from tomosift.inference.prediction import embed
from tomosift.learning.clustering import standardize_for_clustering
from tomosift.models.encoders import build_encoder
from tomosift.physics.imaging import lab_protocol
from tomosift.simulate.subtomograms import SubtomogramSetConfig, simulate_subtomograms

KNOWN = ("ribosome-70s", "groel", "apoferritin", "rubisco", "stnv-capsid")
THERE = (*KNOWN[:4], "clpb")


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Subtomograms:
    imaging = replace(lab_protocol(), snr=(0.3, 0.3), shift_voxels=(-2.0, 2.0))
    return simulate_subtomograms(SubtomogramSetConfig(THERE, 20, ranges=imaging, seed=3), tmp_path_factory.mktemp("b"))


def test_clusters_are_named_by_what_was_simulated(boxes: Subtomograms, tmp_path: Path) -> None:
    model = load_classifier(Path("general"))
    known = embed_known_structures(model, KNOWN, boxes, tmp_path)
    assert known.names == KNOWN
    places = standardize_for_clustering(embed(model.encoder, boxes.volumes, len(boxes)), model.plda)
    told = match_clusters(places, boxes.label, len(THERE), known)
    np.testing.assert_allclose(told.sum(axis=1), 1)
    names = [(*KNOWN, "none")[k] for k in told.argmax(axis=1)]
    assert names == [*THERE[:4], "none"]
    one = Suggestions.of(known, told, ("groel",))
    assert [one.best(c)[0] for c in range(5)] == ["", "groel", "", "", ""]
    np.testing.assert_allclose(one.probability.sum(axis=1), 1)


def test_the_same_direction_is_sure_and_the_opposite_one_is_none() -> None:
    mean = np.array([[1.0, 0.0], [-1.0, 0.0]])
    known = KnownStructures(("here", "there"), mean)
    told = match_clusters(np.repeat(3 * mean, 5, axis=0), np.repeat([0, 1], 5), 2, known)
    assert told[0, 0] > 0.95
    assert told[1, 1] > 0.95
    beside = np.array([[0.0, 1.0], [0.0, -1.0]])
    assert (match_clusters(np.repeat(beside, 5, axis=0), np.repeat([0, 1], 5), 2, known)[:, 2] > 0.95).all()


def test_a_model_without_a_discriminant_knows_no_complexes(boxes: Subtomograms, tmp_path: Path) -> None:
    plain = Classifier(build_encoder("radial"), ModelCard("radial", 10.0, 32))
    with pytest.raises(ValueError, match="no discriminant"):
        embed_known_structures(plain, KNOWN, boxes, tmp_path)

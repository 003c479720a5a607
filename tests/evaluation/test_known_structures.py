"""Clusters of simulated structures are matched to the known ones, and an absent structure to none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tomosift.data.subtomogram_set import Subtomograms
from tomosift.evaluation.cluster_matches import ClusterMatches, KnownStructures, match_clusters
from tomosift.evaluation.known_structures import embed_known_structures
from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.model_files import load_classifier
from tomosift.inference.prediction import embed
from tomosift.learning.clustering import standardize_for_clustering
from tomosift.models.embedder import Embedder
from tomosift.models.encoders import build_encoder
from tomosift.models.recentering import Recentering
from tomosift.physics.imaging import lab_protocol
from tomosift.simulation.subtomograms import SubtomogramSetConfig, simulate_subtomograms

KNOWN = ("ribosome-70s", "groel", "apoferritin", "rubisco", "stnv-capsid")
PRESENT = (*KNOWN[:4], "clpb")


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Subtomograms:
    imaging = replace(lab_protocol(), snr=(0.3, 0.3), shift_voxels=(-2.0, 2.0))
    return simulate_subtomograms(
        SubtomogramSetConfig(PRESENT, 20, ranges=imaging, seed=3), tmp_path_factory.mktemp("b")
    )


def test_clusters_match_the_structures_they_were_simulated_from(boxes: Subtomograms, tmp_path: Path) -> None:
    model = load_classifier(Path("general"))
    known = embed_known_structures(model, KNOWN, boxes, tmp_path)
    assert known.names == KNOWN
    embeddings = standardize_for_clustering(embed(model.embedder, boxes), model.plda)
    probability = match_clusters(embeddings, boxes.label, len(PRESENT), known)
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    names = [(*KNOWN, "none")[k] for k in probability.argmax(axis=1)]
    assert names == [*PRESENT[:4], "none"]
    one = ClusterMatches.select(known, probability, ("groel",))
    assert [one.best(c)[0] for c in range(5)] == ["", "groel", "", "", ""]
    np.testing.assert_allclose(one.probability.sum(axis=1), 1)


def test_the_same_direction_is_probable_and_another_one_is_none() -> None:
    mean = np.array([[1.0, 0.0], [-1.0, 0.0]])
    known = KnownStructures(("here", "there"), mean)
    probability = match_clusters(np.repeat(3 * mean, 5, axis=0), np.repeat([0, 1], 5), 2, known)
    assert probability[0, 0] > 0.95
    assert probability[1, 1] > 0.95
    beside = np.array([[0.0, 1.0], [0.0, -1.0]])
    assert (match_clusters(np.repeat(beside, 5, axis=0), np.repeat([0, 1], 5), 2, known)[:, 2] > 0.95).all()


def test_a_model_without_plda_head_is_refused(boxes: Subtomograms, tmp_path: Path) -> None:
    plain = Classifier(Embedder(build_encoder("radial"), Recentering()), ModelCard("radial", 10.0, 32))
    with pytest.raises(ValueError, match="no PLDA head"):
        embed_known_structures(plain, KNOWN, boxes, tmp_path)

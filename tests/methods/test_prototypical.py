"""Prototypical networks: training on episodes carries over to classes that no episode had."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tomosift import methods
from tomosift.data.episodes import Episodes
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.heads import AttentionHead, PLDAHead
from tomosift.inference.model_files import load_classifier
from tomosift.inference.prediction import classify_embeddings, embed
from tomosift.inference.prototypes import enroll_classes
from tomosift.methods.prototypical import Config
from tomosift.models.embedder import Embedder
from tomosift.models.encoders import build_encoder
from tomosift.models.recentering import Recentering
from tomosift.objectives.prototypical import EpisodeObjective
from tomosift.physics.augmentation import ViewRanges
from tomosift.train.loop import Training
from tomosift.train.schedule import step_generator

SIZE, EACH = 16, 24
WIDTHS = [(3, 3, 3), (1, 5, 5), (1, 1, 6), (2, 2, 5), (1.5, 3, 5), (4, 4, 4), (2, 4, 4), (1.5, 1.5, 3)]
SMALL = Config(ways=3, shots=2, queries=4, training=Training(steps=4, checkpoint_every=2), evaluate_every=2)


@pytest.fixture(scope="module")
def ellipsoids(
    tmp_path_factory: pytest.TempPathFactory, write_subtomograms: Callable[..., Subtomograms]
) -> Subtomograms:
    """Eight ellipsoids in random poses, SNR 0.25."""
    rng = np.random.default_rng(0)
    axis = np.arange(SIZE) - SIZE // 2
    coordinates = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).astype(float)
    volume, label = [], np.arange(len(WIDTHS) * EACH) % len(WIDTHS)
    for shape in label:
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        density = np.exp(-0.5 * (((coordinates @ rotation) / WIDTHS[shape]) ** 2).sum(-1))
        volume.append(density / density.std() + rng.normal(size=density.shape) * 2)
    folder = tmp_path_factory.mktemp("ellipsoids") / "set"
    names = [f"ellipsoid-{shape}" for shape in range(len(WIDTHS))]
    return write_subtomograms(folder, np.stack(volume).astype(np.float32), label, names, tilt_range_deg=(-90.0, 90.0))


@pytest.fixture(scope="module")
def sets(ellipsoids: Subtomograms) -> TrainingSets:
    """Five classes to train on and three others to validate on."""
    return TrainingSets(ellipsoids.select(ellipsoids.label < 5), ellipsoids, ellipsoids.select(ellipsoids.label >= 5))


def accuracy(model: Classifier, others: Subtomograms) -> float:
    """Accuracy on classes that are with_classes by their first three particles."""
    names = tuple(sorted({others.class_names[k] for k in others.label}))
    label = np.array([names.index(others.class_names[k]) for k in others.label])
    embeddings = embed(model.embedder, others)
    support = np.concatenate([np.flatnonzero(label == k)[:3] for k in range(len(names))])
    with_classes = enroll_classes(model, names, embeddings[support], label[support], embeddings)
    predicted = classify_embeddings(with_classes, embeddings).logits.argmax(1)
    query = np.setdiff1d(np.arange(len(label)), support)
    return float((predicted[query] == label[query]).mean())


def test_loss_is_that_of_squared_distances_to_the_means(sets: TrainingSets) -> None:
    torch.manual_seed(0)
    embedder = Embedder(build_encoder("radial"), Recentering())
    model = Classifier(embedder, ModelCard("radial", 10.0, SIZE, head="euclidean"))
    still = ViewRanges(rotation_max_deg=0.0, shift_voxels=0.0, noise_std=(0.0, 0.0))
    objective, episode = EpisodeObjective(model, still).eval(), Episodes(sets.labeled, 3, 2, 4, 0).batch(0)
    generator = step_generator(0, 0)
    with torch.inference_mode():
        losses = objective(episode, generator)
        generator = step_generator(0, 0)
        support, query = (objective.embed_views(part, generator) for part in (episode.support, episode.query))
    mean = support.reshape(3, 2, -1).mean(1)
    distance = (query[:, None] - mean).square().sum(2)
    expected = -torch.log_softmax(-distance, dim=1)[torch.arange(12), torch.arange(3).repeat_interleave(4)].mean()
    assert float(losses["loss"]) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("head", ["euclidean", "attention"])
def test_resumed_training_ends_in_the_weights_of_an_uninterrupted_one(
    head: str, sets: TrainingSets, tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def stop(step: int, steps: int, note: str = "") -> None:
        if step == 3:
            raise Stop

    config = replace(SMALL, head=head)
    whole = methods.train("prototypical", config, sets, tmp_path / "whole", 3)
    with pytest.raises(Stop):
        methods.train("prototypical", config, sets, tmp_path / "parts", 3, stop)
    parts = methods.train("prototypical", config, sets, tmp_path / "parts", 3)
    assert all(torch.equal(value, parts.state_dict()[name]) for name, value in whole.state_dict().items())


def test_second_stage_starts_from_the_first_and_its_attention_is_kept_for_enrolment(
    sets: TrainingSets, tmp_path: Path
) -> None:
    methods.train("prototypical", SMALL, sets, tmp_path / "first", 0)
    config = replace(SMALL, head="attention", init=tmp_path / "first")
    methods.train("prototypical", config, sets, tmp_path / "second", 0)
    model = load_classifier(tmp_path / "second")
    assert isinstance(model.head, AttentionHead)
    assert model.card.class_names == ()
    support = embed(model.embedder, sets.validation.select(np.arange(9)))
    with_classes = enroll_classes(model, ("a", "b", "c"), support, np.arange(9) % 3, support)
    assert isinstance(with_classes.head, AttentionHead)
    assert torch.equal(with_classes.head.query.weight, model.head.query.weight)


def test_plda_is_fitted_and_the_encoder_left_as_it_is(sets: TrainingSets, tmp_path: Path) -> None:
    config = replace(SMALL, init=None, encoder="radial", head="plda")
    model = methods.train("prototypical", config, sets, tmp_path / "run", 0)
    torch.manual_seed(0)
    untrained = build_encoder("radial")
    assert all(torch.equal(value, untrained.state_dict()[name]) for name, value in model.encoder.state_dict().items())
    head = load_classifier(tmp_path / "run").head
    assert isinstance(head, PLDAHead)
    few = TrainingSets(sets.labeled.select(sets.labeled.label < 2), sets.unlabeled, sets.validation)
    kept = methods.train("prototypical", Config(head="plda"), few, tmp_path / "few", 0)
    assert kept.card.decoder == "unet"
    assert 0 < float(head.shrinkage.min()) < float(head.shrinkage.max()) < 1


def test_too_few_classes_for_an_episode_are_refused(sets: TrainingSets, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"5 classes have 6 or more labeled particles .* at least 6; lower ways"):
        methods.train("prototypical", replace(SMALL, ways=6), sets, tmp_path / "run", 0)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("head", ["euclidean", "attention"])
def test_classes_of_no_episode_are_classified_better_than_before_training(
    head: str, sets: TrainingSets, tmp_path: Path
) -> None:
    config = replace(SMALL, init=None, encoder="protonet", head=head, training=Training(steps=20))
    trained = methods.train("prototypical", config, sets, tmp_path / "run", 0)
    torch.manual_seed(0)
    untrained = Classifier(Embedder(build_encoder("protonet"), trained.recentering), trained.card).eval()
    assert accuracy(trained, sets.validation) > max(accuracy(untrained, sets.validation), 0.5)

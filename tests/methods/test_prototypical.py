"""Prototypical networks: what an episode teaches holds for classes that no episode had."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tomosift import methods
from tomosift.data.episodes import Episodes
from tomosift.data.subtomograms import Subtomograms, SubtomogramWriter, open_subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import Classifier, ModelCard, load_classifier
from tomosift.inference.heads import AttentionHead, PLDAHead
from tomosift.inference.prediction import classify_embeddings, embed
from tomosift.inference.prototypes import enroll_classes
from tomosift.methods.prototypical import Config, Learner
from tomosift.models.encoders import build_encoder
from tomosift.particles import Particles
from tomosift.physics.augmentation import ViewRanges
from tomosift.train.loop import Training, step_generator

SIZE, EACH = 16, 24
WIDTHS = [(3, 3, 3), (1, 5, 5), (1, 1, 6), (2, 2, 5), (1.5, 3, 5), (4, 4, 4), (2, 4, 4), (1.5, 1.5, 3)]
SMALL = Config(ways=3, shots=2, queries=4, training=Training(steps=4, checkpoint_every=2), evaluate_every=2)


@pytest.fixture(scope="module")
def ellipsoids(tmp_path_factory: pytest.TempPathFactory) -> Subtomograms:
    """Eight ellipsoids in random poses, SNR 0.25."""
    rng = np.random.default_rng(0)
    axis = np.arange(SIZE) - SIZE // 2
    coordinates = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).astype(float)
    boxes, names = [], []
    for number in range(len(WIDTHS) * EACH):
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        shape = number % len(WIDTHS)
        density = np.exp(-0.5 * (((coordinates @ turn) / WIDTHS[shape]) ** 2).sum(-1))
        boxes.append(density / density.std() + rng.normal(size=density.shape) * 2)
        names.append(f"ellipsoid-{shape}")
    folder = tmp_path_factory.mktemp("ellipsoids") / "set"
    particles = Particles.create(["one"] * len(names), np.zeros((len(names), 3)), class_name=names)
    writer = SubtomogramWriter(folder, box_size=SIZE, voxel_spacing_angstrom=10.0)
    writer.append(np.stack(boxes).astype(np.float32), particles, np.tile(np.float32([-90, 90]), (len(names), 1)))
    writer.close()
    return open_subtomograms(folder)


@pytest.fixture(scope="module")
def sets(ellipsoids: Subtomograms) -> TrainingSets:
    """Five classes to learn from and three others to be judged by."""
    return TrainingSets(ellipsoids.select(ellipsoids.label < 5), ellipsoids, ellipsoids.select(ellipsoids.label >= 5))


def accuracy(model: Classifier, others: Subtomograms) -> float:
    """Of naming the particles of classes that were enrolled by their first three."""
    names = tuple(sorted({others.class_names[k] for k in others.label}))
    label = np.array([names.index(others.class_names[k]) for k in others.label])
    embeddings = embed(model.encoder, others.volumes, len(others))
    shown = np.concatenate([np.flatnonzero(label == k)[:3] for k in range(len(names))])
    said = classify_embeddings(
        enroll_classes(model, names, embeddings[shown], label[shown], embeddings), embeddings
    ).logits.argmax(1)
    asked = np.setdiff1d(np.arange(len(label)), shown)
    return float((said[asked] == label[asked]).mean())


def test_loss_is_that_of_squared_distances_to_the_means(sets: TrainingSets) -> None:
    torch.manual_seed(0)
    model = Classifier(build_encoder("radial"), ModelCard("radial", 10.0, SIZE, head="euclidean"))
    still = ViewRanges(rotation_max_deg=0.0, shift_voxels=0.0, noise_std=(0.0, 0.0))
    learner, episode = Learner(model, still).eval(), Episodes(sets.labeled, 3, 2, 4, 0).batch(0)
    generator = step_generator(0, 0)
    with torch.inference_mode():
        told = learner(episode, generator)
        generator = step_generator(0, 0)
        support, query = (learner._embedded(part, generator) for part in (episode.support, episode.query))
    mean = support.reshape(3, 2, -1).mean(1)
    distance = (query[:, None] - mean).square().sum(2)
    expected = -torch.log_softmax(-distance, dim=1)[torch.arange(12), torch.arange(3).repeat_interleave(4)].mean()
    assert float(told["loss"]) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("head", ["euclidean", "attention"])
def test_resumed_training_ends_in_the_weights_of_an_uninterrupted_one(
    head: str, sets: TrainingSets, tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def stop(step: int, steps: int, losses: dict[str, float]) -> None:
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
    examples = embed(model.encoder, sets.validation.volumes, 9)
    named = enroll_classes(model, ("a", "b", "c"), examples, np.arange(9) % 3, examples)
    assert isinstance(named.head, AttentionHead)
    assert torch.equal(named.head.asked.weight, model.head.asked.weight)


def test_discriminant_is_fitted_and_the_encoder_left_as_it_is(sets: TrainingSets, tmp_path: Path) -> None:
    config = replace(SMALL, init=None, encoder="radial", head="discriminant")
    model = methods.train("prototypical", config, sets, tmp_path / "run", 0)
    torch.manual_seed(0)
    untrained = build_encoder("radial")
    untrained.spread.copy_(model.encoder.spread)
    assert all(torch.equal(value, untrained.state_dict()[name]) for name, value in model.encoder.state_dict().items())
    head = load_classifier(tmp_path / "run").head
    assert isinstance(head, PLDAHead)
    few = TrainingSets(sets.labeled.select(sets.labeled.label < 2), sets.unlabeled, sets.validation)
    kept = methods.train("prototypical", Config(head="discriminant"), few, tmp_path / "few", 0)
    assert kept.card.decoder == "unet"
    assert 0 < float(head.shrinkage.min()) < float(head.shrinkage.max()) < 1


def test_too_few_classes_for_an_episode_are_refused(sets: TrainingSets, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"5 classes have 6 or more labeled particles .* at least 6; lower ways"):
        methods.train("prototypical", replace(SMALL, ways=6), sets, tmp_path / "run", 0)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("head", ["euclidean", "attention"])
def test_classes_that_no_episode_had_are_told_apart_better_than_before_training(
    head: str, sets: TrainingSets, tmp_path: Path
) -> None:
    config = replace(SMALL, init=None, encoder="protonet", head=head, training=Training(steps=20))
    trained = methods.train("prototypical", config, sets, tmp_path / "run", 0)
    torch.manual_seed(0)
    untrained = Classifier(build_encoder("protonet"), trained.card).eval()
    assert accuracy(trained, sets.validation) > max(accuracy(untrained, sets.validation), 0.5)

"""COS-Net and its younger form: pairs and masks are learned together, and masks come back where the particle lies."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tomosift import methods
from tomosift.data.episodes import Pairs
from tomosift.data.subtomograms import Subtomograms, SubtomogramWriter, open_subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import Classifier, ModelCard, load_classifier
from tomosift.inference.prediction import classify_embeddings, embed, predict_masks
from tomosift.inference.prototypes import enroll_classes
from tomosift.methods.one_shot import Config, Learner
from tomosift.models.encoders import build_encoder
from tomosift.particles import Particles
from tomosift.train.loop import Training, step_generator

SIZE = 16
SMALL = Config(training=Training(steps=2, batch_size=3))
PUBLISHED = replace(SMALL, init=None, encoder="cosnet", decoder="cosnet", balanced=False)


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> TrainingSets:
    """Three kinds of balls off center, with their masks; the larger, the further they are of another class."""
    rng = np.random.default_rng(0)
    axis = np.arange(SIZE) - SIZE // 2
    place = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))
    kind = np.arange(90) % 3
    center = rng.integers(-2, 3, size=(90, 3))
    distance = np.sqrt(((place - center[:, :, None, None, None]) ** 2).sum(1))
    masks = distance < np.array([2.5, 4.0, 5.5])[kind][:, None, None, None]
    boxes = (masks + rng.normal(size=masks.shape)).astype(np.float32)
    particles = Particles.create(["one"] * 90, np.zeros((90, 3)), class_name=[f"ball-{k}" for k in kind])
    folder = tmp_path_factory.mktemp("balls") / "set"
    writer = SubtomogramWriter(folder, SIZE, 10.0, masks=True)
    writer.append(boxes, particles, np.array([-60, 60]), masks=masks)
    writer.close()
    boxes = open_subtomograms(folder)
    return TrainingSets(boxes, boxes, boxes.select(np.zeros(0, dtype=np.int64)))


def dice(found: np.ndarray, true: np.ndarray) -> float:
    return float(2 * (found & true).sum() / (found.sum() + true.sum()))


@pytest.mark.parametrize("config", [SMALL, PUBLISHED], ids=["default", "published"])
def test_loss_is_the_sum_of_pairs_and_both_masks_and_every_weight_learns(config: Config, balls: TrainingSets) -> None:
    torch.manual_seed(0)
    name = "radial" if config.init else config.encoder
    card = ModelCard(name, 10.0, SIZE, head="pairs", decoder=config.decoder)
    learner = Learner(Classifier(build_encoder(name), card)).train()
    told = learner(Pairs(balls.labeled, 4, masks=True).batch(0), step_generator(0, 0))
    assert float(told["loss"].detach()) == pytest.approx(float((told["pairs"] + 2 * told["dice"]).detach()), rel=1e-5)
    told["loss"].backward()
    without = [key for key, p in learner.named_parameters() if p.grad is None]
    assert not without


@pytest.mark.parametrize("config", [SMALL, PUBLISHED], ids=["default", "published"])
def test_model_keeps_its_decoder_through_saving_and_enrolment(
    config: Config, balls: TrainingSets, tmp_path: Path
) -> None:
    trained = methods.train("one_shot", config, balls, tmp_path / "run", 0)
    model = load_classifier(tmp_path / "run")
    assert model.card == trained.card
    boxes = balls.labeled
    embeddings = embed(model.encoder, boxes.volumes, 9)
    named = enroll_classes(model, ("a", "b", "c"), embeddings[:3], np.arange(3), embeddings)
    assert classify_embeddings(named, embeddings).probabilities.shape == (9, 3)
    first, again = (next(predict_masks(given, boxes.volumes, 5)) for given in (trained, named))
    assert first.shape == (5, SIZE, SIZE, SIZE)
    np.testing.assert_array_equal(first, again)


def test_frozen_encoder_stays_as_it_was(balls: TrainingSets, tmp_path: Path) -> None:
    general = load_classifier(Path("general")).encoder.state_dict()
    for frozen in (True, False):
        config = replace(SMALL, frozen=frozen)
        found = methods.train("one_shot", config, balls, tmp_path / f"{frozen}", 0).encoder.state_dict()
        assert all(torch.equal(found[key], general[key]) for key in general if key != "spread") == frozen


def test_bad_requests_are_refused(balls: TrainingSets, shapes_without_masks: Subtomograms, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="decoder cosnet needs the encoder cosnet or siamese, got radial"):
        methods.train("one_shot", replace(SMALL, decoder="cosnet"), balls, tmp_path / "run", 0)
    none = TrainingSets(*(shapes_without_masks,) * 3)
    with pytest.raises(ValueError, match="has no masks; simulate a set with masks"):
        methods.train("one_shot", SMALL, none, tmp_path / "run", 0)
    without = Classifier(build_encoder("radial"), ModelCard("radial", 10.0, SIZE))
    with pytest.raises(ValueError, match="makes no masks"):
        next(predict_masks(without, balls.labeled.volumes, 1))


@pytest.fixture
def shapes_without_masks(tmp_path: Path) -> Subtomograms:
    particles = Particles.create(["one"] * 4, np.zeros((4, 3)), class_name=["a", "a", "b", "b"])
    writer = SubtomogramWriter(tmp_path / "set", SIZE, 10.0)
    volume = np.random.default_rng(0).normal(size=(4, SIZE, SIZE, SIZE)).astype(np.float32)
    writer.append(volume, particles, np.array([-60, 60]))
    return writer.close()


@pytest.mark.slow
def test_masks_are_learned_and_lie_where_the_particles_are(balls: TrainingSets, tmp_path: Path) -> None:
    config = replace(SMALL, training=Training(steps=60, batch_size=6))
    model = methods.train("one_shot", config, balls, tmp_path / "run", 0)
    boxes = balls.labeled
    found = np.concatenate(list(predict_masks(model, boxes.volumes, len(boxes)))) > 0.5
    assert dice(found, boxes.masks(np.arange(len(boxes)))) > 0.75

"""COS-Net and its default form: pairs and masks are learned together, and masks lie where the particles are."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tomosift import methods
from tomosift.data.episodes import Pairs
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.masks import predict_masks
from tomosift.inference.model_files import load_classifier
from tomosift.inference.prediction import classify_embeddings, embed
from tomosift.inference.prototypes import enroll_classes
from tomosift.methods.one_shot import Config
from tomosift.models.embedder import Embedder
from tomosift.models.encoders import build_encoder
from tomosift.models.recentering import Recentering
from tomosift.objectives.one_shot import PairObjective
from tomosift.train.loop import Training
from tomosift.train.schedule import step_generator

SIZE = 16
SMALL = Config(training=Training(steps=2, batch_size=3))
PUBLISHED = replace(SMALL, init=None, encoder="cosnet", decoder="cosnet", balanced=False)


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory, write_subtomograms: Callable[..., Subtomograms]) -> TrainingSets:
    """Three kinds of balls off center, with their masks; the larger, the further they are of another class."""
    rng = np.random.default_rng(0)
    axis = np.arange(SIZE) - SIZE // 2
    place = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))
    kind = np.arange(90) % 3
    center = rng.integers(-2, 3, size=(90, 3))
    distance = np.sqrt(((place - center[:, :, None, None, None]) ** 2).sum(1))
    masks = distance < np.array([2.5, 4.0, 5.5])[kind][:, None, None, None]
    volume = (masks + rng.normal(size=masks.shape)).astype(np.float32)
    names = ("ball-0", "ball-1", "ball-2")
    subtomograms = write_subtomograms(tmp_path_factory.mktemp("balls") / "set", volume, kind, names, masks=masks)
    return TrainingSets.from_labels(subtomograms, subtomograms)


def dice(predicted: np.ndarray, true: np.ndarray) -> float:
    return float(2 * (predicted & true).sum() / (predicted.sum() + true.sum()))


@pytest.mark.parametrize("config", [SMALL, PUBLISHED], ids=["default", "published"])
def test_loss_is_the_sum_of_pairs_and_both_masks_and_every_weight_learns(config: Config, balls: TrainingSets) -> None:
    torch.manual_seed(0)
    name = "radial" if config.init else config.encoder
    card = ModelCard(name, 10.0, SIZE, head="pairs", decoder=config.decoder)
    objective = PairObjective(Classifier(Embedder(build_encoder(name), Recentering()), card)).train()
    losses = objective(Pairs(balls.labeled, 4, masks=True).batch(0), step_generator(0, 0))
    expected = losses["pairs"] + 2 * losses["dice"]
    assert float(losses["loss"].detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    losses["loss"].backward()
    assert not [key for key, p in objective.named_parameters() if p.grad is None]


@pytest.mark.parametrize("config", [SMALL, PUBLISHED], ids=["default", "published"])
def test_model_keeps_its_decoder_through_saving_and_enrolment(
    config: Config, balls: TrainingSets, tmp_path: Path
) -> None:
    trained = methods.train("one_shot", config, balls, tmp_path / "run", 0)
    model = load_classifier(tmp_path / "run")
    assert model.card == trained.card
    some = balls.labeled.select(np.arange(9))
    embeddings = embed(model.embedder, some)
    with_classes = enroll_classes(model, ("a", "b", "c"), embeddings[:3], np.arange(3), embeddings)
    assert classify_embeddings(with_classes, embeddings).probabilities.shape == (9, 3)
    five = some.select(np.arange(5))
    first, again = (next(predict_masks(classifier, five)) for classifier in (trained, with_classes))
    assert first.shape == (5, SIZE, SIZE, SIZE)
    np.testing.assert_array_equal(first, again)


def test_frozen_encoder_stays_as_it_was(balls: TrainingSets, tmp_path: Path) -> None:
    general = load_classifier(Path("general")).encoder.state_dict()
    for frozen in (True, False):
        config = replace(SMALL, frozen=frozen)
        weights = methods.train("one_shot", config, balls, tmp_path / f"{frozen}", 0).encoder.state_dict()
        assert all(torch.equal(weights[key], general[key]) for key in general) == frozen


def test_bad_requests_are_refused(balls: TrainingSets, shapes_without_masks: Subtomograms, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="decoder cosnet needs the encoder cosnet or siamese, got radial"):
        methods.train("one_shot", replace(SMALL, decoder="cosnet"), balls, tmp_path / "run", 0)
    none = TrainingSets(*(shapes_without_masks,) * 3)
    with pytest.raises(ValueError, match="has no masks; simulate a set with masks"):
        methods.train("one_shot", SMALL, none, tmp_path / "run", 0)
    without = Classifier(Embedder(build_encoder("radial"), Recentering()), ModelCard("radial", 10.0, SIZE))
    with pytest.raises(ValueError, match="predicts no masks"):
        next(predict_masks(without, balls.labeled))


@pytest.fixture
def shapes_without_masks(tmp_path: Path, write_subtomograms: Callable[..., Subtomograms]) -> Subtomograms:
    volume = np.random.default_rng(0).normal(size=(4, SIZE, SIZE, SIZE)).astype(np.float32)
    return write_subtomograms(tmp_path / "set", volume, [0, 0, 1, 1])


@pytest.mark.slow
def test_masks_are_learned_and_lie_where_the_particles_are(balls: TrainingSets, tmp_path: Path) -> None:
    config = replace(SMALL, training=Training(steps=40, batch_size=6))
    model = methods.train("one_shot", config, balls, tmp_path / "run", 0)
    predicted = np.concatenate(list(predict_masks(model, balls.labeled))) > 0.5
    assert dice(predicted, balls.labeled.masks(np.arange(len(balls.labeled)))) > 0.75

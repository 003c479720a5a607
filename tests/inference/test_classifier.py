"""The classifier: parts that are shared and replaced, and predictions by its card."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tomosift.averaging.class_averages import ClassAverages
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference.classifier import Classifier, ModelCard, fit_embedder
from tomosift.inference.prediction import embed, embed_volumes, predict
from tomosift.models.embedder import Embedder
from tomosift.models.encoders import build_encoder
from tomosift.models.recentering import Recentering, estimate_picking_error

CARD = ModelCard("rb3d", 10.0, 16, ("apoferritin", "ribosome"), temperature=1.7, min_confidence=0.4)


def random(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 16, 16, 16, generator=torch.Generator().manual_seed(seed))


def fresh(card: ModelCard = CARD) -> Classifier:
    torch.manual_seed(0)
    return Classifier(Embedder(build_encoder(card.encoder), Recentering()), card).eval()


@pytest.fixture
def subtomograms(write_subtomograms: Callable[..., Subtomograms], tmp_path: Path) -> Subtomograms:
    return write_subtomograms(tmp_path / "set", random(5))


def test_a_model_without_classes_embeds_but_gives_no_logits(subtomograms: Subtomograms) -> None:
    model = fresh(replace(CARD, class_names=()))
    assert model.embedder(random(2)).shape == (2, 256)
    with pytest.raises(ValueError, match="trained without classes; fine-tune it with labels first"):
        model(random(2))
    assert predict(model, subtomograms).probabilities.shape == (5, 0)


def test_predictions_do_not_depend_on_the_batch_size_and_leave_the_mode_alone(subtomograms: Subtomograms) -> None:
    model = fresh().train()
    calls: list[tuple[int, int]] = []
    small = embed(model.embedder, subtomograms, 2, lambda done, total, note="": calls.append((done, total)))
    large = embed(model.embedder, subtomograms, 64)
    np.testing.assert_allclose(small, large, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(predict(model, subtomograms).probabilities.sum(1), 1.0)
    assert calls == [(2, 5), (4, 5), (5, 5)]
    assert model.training


def test_the_temperature_of_the_card_changes_probabilities_only(subtomograms: Subtomograms) -> None:
    model = fresh()
    warm = predict(model, subtomograms)
    cold = predict(model.replace_card(temperature=1.0), subtomograms)
    assert model.card.temperature == 1.7
    np.testing.assert_array_equal(warm.logits, cold.logits)
    expected = torch.softmax(torch.from_numpy(cold.logits) / 1.7, dim=1).numpy()
    np.testing.assert_allclose(warm.probabilities, expected, rtol=1e-6)


def test_no_subtomograms_give_no_embeddings() -> None:
    assert embed_volumes(fresh().embedder, lambda rows: random(1).numpy()[rows], 0).shape == (0, 256)


def test_a_replaced_part_leaves_the_others_shared() -> None:
    model = fresh()
    embedder = Embedder(model.encoder, Recentering(0.1))
    other = model.replace(embedder=embedder)
    assert other.recentering is embedder.recentering
    assert other.head is model.head
    assert other.similarity is model.similarity
    assert not other.training
    averages = ClassAverages(2, 20)
    with_averages = model.with_class_averages(averages)
    assert with_averages.class_averages is averages
    assert with_averages.card == replace(CARD, class_averages=True, box_size=20)
    assert model.class_averages is None


def test_only_models_without_classes_adapt_to_the_picking_error_of_a_set(subtomograms: Subtomograms) -> None:
    model = fresh(ModelCard("radial", 10.0, 16))
    adapted = model.adapt_to(subtomograms)
    expected = estimate_picking_error(torch.from_numpy(subtomograms.volumes(np.arange(5))))
    assert float(adapted.recentering.picking_error) == pytest.approx(expected)
    assert float(fit_embedder(model.encoder, subtomograms).recentering.picking_error) == pytest.approx(expected)
    assert float(model.recentering.picking_error) == float(Recentering().picking_error)
    with pytest.raises(ValueError, match="adapt a model without classes"):
        fresh().adapt_to(subtomograms)

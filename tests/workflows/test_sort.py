"""The workflow sort: when it pretrains, and how often it embeds."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tomosift.data.labels import label_subtomograms
from tomosift.data.subtomogram_set import open_subtomograms
from tomosift.inference.model_files import load_classifier
from tomosift.methods.contrastive import Config as Contrastive
from tomosift.methods.supervised import Config as Supervised
from tomosift.models.embedder import Embedder
from tomosift.models.encoder import Encoder
from tomosift.progress import Monitor
from tomosift.workflows.sort import Pretraining, _classify_and_report, _needs_pretraining

pytestmark = pytest.mark.usefixtures("few_rotations", "fast_recentering")


@pytest.mark.parametrize(
    ("mode", "pretrain", "finetune", "spacing", "expected"),
    [
        ("auto", Contrastive(), Supervised(), 10.0, False),
        ("auto", Contrastive(), Supervised(), 10.05, False),
        ("auto", Contrastive(), Supervised(), 13.3, True),
        ("auto", Contrastive(), Supervised(class_averages="never"), 10.0, True),
        ("auto", Contrastive(temperature=0.5), Supervised(), 10.0, True),
        ("always", Contrastive(), Supervised(), 10.0, True),
        ("never", Contrastive(), Supervised(), 13.3, False),
    ],
)
def test_pretraining_comes_first_where_it_helps(
    mode: Pretraining, pretrain: Contrastive, finetune: Supervised, spacing: float, expected: bool
) -> None:
    assert _needs_pretraining(mode, pretrain, finetune, spacing) == expected


def test_every_particle_is_embedded_once_for_table_and_report(
    world: Any, chain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "classifier").symlink_to(chain.classifier)
    subtomograms = open_subtomograms(chain.subtomograms)
    evaluated = label_subtomograms(subtomograms, world.paths.particles_truth)
    final = load_classifier(chain.classifier).encoder
    embedded, encoded = [], []
    embed = Embedder.__call__

    def count_embedded(embedder: Embedder, volume: torch.Tensor) -> torch.Tensor:
        weights = embedder.encoder.state_dict()
        assert all(torch.equal(weights[name], value) for name, value in final.state_dict().items())
        embedded.append(len(volume))
        return embed(embedder, volume)

    def count_encoded(module: nn.Module, inputs: tuple[Any, ...], _: Any) -> None:
        if isinstance(module, Encoder):
            encoded.append(len(inputs[0]))

    monkeypatch.setattr(Embedder, "__call__", count_embedded)
    hook = nn.modules.module.register_module_forward_hook(count_encoded)
    try:
        result = _classify_and_report(
            world.paths.particles, tmp_path / "classified.star", subtomograms, evaluated, [], Monitor()
        )
    finally:
        hook.remove()
    assert sum(embedded) == len(subtomograms) == len(result.classification.particles)
    assert sum(encoded) == len(subtomograms) * final.center_candidates  # the mean over the candidates is the embedding
    assert (tmp_path / "report.html").exists()

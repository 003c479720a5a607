"""Entries of the few-shot protocols: models that classify new classes by a few examples of each, in episodes.

No entry learns from labels of the structures of a protocol. Episodic training uses synthetic complexes, and further
ones for early stopping; the shipped model learned from synthetic complexes as well. Only ``cssl`` uses the particles
themselves, without labels, as a user's own pretraining would.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from tomosift import methods
from tomosift.data.training_sets import TrainingSets
from tomosift.evaluation.benchmark.entry import Entry
from tomosift.evaluation.benchmark.task import BenchmarkTask
from tomosift.evaluation.benchmark.training import pretrain
from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.model_files import GENERAL, load_classifier
from tomosift.methods.contrastive import Config as Contrastive
from tomosift.methods.one_shot import Config as OneShot
from tomosift.methods.prototypical import Config as Prototypical
from tomosift.models.embedder import Embedder
from tomosift.models.encoders import build_encoder
from tomosift.models.recentering import Recentering
from tomosift.simulation.subtomograms import simulate_synthetic_complexes

COMPLEXES, HELD_OUT, PARTICLES = 150, 30, 40
"""Synthetic complexes, those of them held out for early stopping, and particles of each."""
SYNTHETIC_SEED = 9000
"""Different from the seeds of the shipped models."""


def simulate_training_sets(task: BenchmarkTask) -> TrainingSets:
    """Simulate particles of synthetic complexes with masks, imaged like the particles of the protocol."""
    protocol = task.protocol
    subtomograms = simulate_synthetic_complexes(
        COMPLEXES,
        PARTICLES,
        protocol.imaging(task.snr),
        SYNTHETIC_SEED + task.seed,
        task.shared / "synthetic-complexes",
        box_size=protocol.box_size,
        voxel_spacing_angstrom=protocol.voxel_spacing_angstrom,
        masks=True,
    )
    is_held_out = subtomograms.label >= COMPLEXES - HELD_OUT
    return TrainingSets(subtomograms.select(~is_held_out), subtomograms, subtomograms.select(is_held_out))


def _load_general(task: BenchmarkTask) -> Classifier:
    return load_classifier(GENERAL)


def _build_untrained(task: BenchmarkTask) -> Classifier:
    torch.manual_seed(task.seed)
    test, encoder = task.data.test, Contrastive().encoder
    embedder = Embedder(build_encoder(encoder), Recentering())
    return Classifier(embedder, ModelCard(encoder, test.voxel_spacing_angstrom, test.box_size))


def _load_encoder_alone(task: BenchmarkTask) -> Classifier:
    model = load_classifier(GENERAL)
    card = ModelCard(model.card.encoder, model.card.voxel_spacing_angstrom, model.card.box_size)
    return Classifier(model.embedder, card)


def _fit_plda(task: BenchmarkTask) -> Classifier:
    config, folder = Prototypical(init=GENERAL, head="plda"), task.shared / "discriminant-general"
    return methods.train("prototypical", config, simulate_training_sets(task), folder, task.seed)


def _pretrain(task: BenchmarkTask) -> Classifier:
    return load_classifier(pretrain(task, Contrastive(), "contrastive"))


def _train_protonet(task: BenchmarkTask, name: str, init: Path | None, encoder: str, has_attention: bool) -> Classifier:
    """Train ProtoNet3D, and ProtoNet-CE from it where it has attention."""
    first, sets = task.scale_steps(Prototypical(init=init, encoder=encoder)), simulate_training_sets(task)
    folder = task.shared / name
    model = methods.train("prototypical", first, sets, folder, task.seed)
    if not has_attention:
        return model
    second = replace(first, init=folder, head="attention")
    return methods.train("prototypical", second, sets, task.shared / f"{name}-ce", task.seed)


def _train_on_pairs(task: BenchmarkTask, name: str, config: OneShot) -> Classifier:
    sets, folder = simulate_training_sets(task), task.shared / name
    return methods.train("one_shot", task.scale_steps(config), sets, folder, task.seed)


def _list_protonets() -> dict[str, Entry]:
    entries = {}
    for name, init, encoder, start in (
        ("protonet", None, Prototypical().encoder, "the default encoder with random weights"),
        ("protonet-general", GENERAL, Prototypical().encoder, "the shipped general model"),
        ("protonet-published", None, "protonet", "the published encoder with random weights"),
    ):
        for ending, method in (("", "ProtoNet3D"), ("-ce", "ProtoNet-CE")):
            run = partial(_train_protonet, name=name, init=init, encoder=encoder, has_attention=ending != "")
            entries[name + ending] = Entry(f"{method} from {start}.", run, "few-shot")
    return entries


def _pairs_entry(name: str, description: str, config: OneShot) -> Entry:
    return Entry(description, partial(_train_on_pairs, name=name, config=config), "few-shot")


_COSNET = OneShot(init=None, encoder="cosnet", decoder="cosnet", balanced=False)

ENTRIES: dict[str, Entry] = {
    "general": Entry("The shipped general model as it is; nothing is trained.", _load_general, "few-shot"),
    "prototypes-random": Entry(
        "Nearest class mean by cosine in the embedding of the untrained network.", _build_untrained, "few-shot"
    ),
    "prototypes-general": Entry(
        "Nearest class mean by cosine in the embedding of the shipped general model.", _load_encoder_alone, "few-shot"
    ),
    "cssl": Entry(
        "The shipped general model after contrastive pretraining on the particles of the episodes, without labels.",
        _pretrain,
        "few-shot",
    ),
    "discriminant-general": Entry(
        "The shipped general model with a PLDA fitted to synthetic complexes imaged like the particles.",
        _fit_plda,
        "few-shot",
    ),
    **_list_protonets(),
    "pairs-general": _pairs_entry(
        "pairs-general", "COS-Net's pairs and masks, from the shipped general model.", OneShot()
    ),
    "cosnet": _pairs_entry("cosnet", "COS-Net as published, with attention.", _COSNET),
    "siamese": _pairs_entry("siamese", "COS-Net as published, without attention.", replace(_COSNET, encoder="siamese")),
}

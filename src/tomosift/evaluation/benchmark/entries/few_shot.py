"""Rows of the few-shot protocols: encoders that name particles of classes they never saw by a few examples of each.

No row has learned from labels of the structures that are asked for: episodic training is of complexes that do not
exist, others of them stop it early, and the shipped model learned from such complexes as well. Only ``cssl`` has seen
the particles themselves, without labels, as a user's own pretraining would have.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from tomosift import methods
from tomosift.data.subtomograms import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.evaluation.benchmark.task import BenchmarkTask, pretrain, scale_steps
from tomosift.evaluation.metrics.few_shot import EpisodeScores, episode_scores
from tomosift.inference.classifier import GENERAL, Classifier, ModelCard, load_classifier
from tomosift.inference.heads import CosineHead, PrototypeHead
from tomosift.inference.prediction import embed
from tomosift.methods.contrastive import Config as Contrastive
from tomosift.methods.one_shot import Config as OneShot
from tomosift.methods.prototypical import Config as Prototypical
from tomosift.models.encoder import BOXES_TO_PREPARE, Encoder
from tomosift.models.encoders import build_encoder
from tomosift.simulate.structures.synthetic_complexes import simulate_synthetic_complexes

COMPLEXES, SPARED, PARTICLES = 150, 30, 40
"""Complexes that do not exist, those of them for early stopping, and particles of each."""
SEED_OF_COMPLEXES = 9000
"""Apart from the seeds that the shipped models learned from."""


def lessons(task: BenchmarkTask) -> TrainingSets:
    """Particles of complexes that do not exist, with masks, imaged as the protocol images those it asks for."""
    protocol = task.protocol
    boxes = simulate_synthetic_complexes(
        COMPLEXES,
        PARTICLES,
        protocol.imaging(task.snr),
        SEED_OF_COMPLEXES + task.seed,
        task.shared / "lessons",
        box_size=protocol.box_size,
        voxel_spacing_angstrom=protocol.voxel_spacing_angstrom,
        masks=True,
    )
    spare = boxes.label >= COMPLEXES - SPARED
    return TrainingSets(boxes.select(~spare), boxes, boxes.select(spare))


def _untrained(task: BenchmarkTask) -> Classifier:
    torch.manual_seed(task.seed)
    asked, encoder = task.world.test, Contrastive().encoder
    return Classifier(build_encoder(encoder), ModelCard(encoder, asked.voxel_spacing_angstrom, asked.box_size))


def _by_cosine(task: BenchmarkTask) -> Classifier:
    model = load_classifier(GENERAL)
    return Classifier(
        model.encoder, ModelCard(model.card.encoder, model.card.voxel_spacing_angstrom, model.card.box_size)
    )


def _fitted(task: BenchmarkTask) -> Classifier:
    config = Prototypical(init=GENERAL, head="discriminant")
    return methods.train("prototypical", config, lessons(task), task.shared / "discriminant-general", task.seed)


def _pretrained(task: BenchmarkTask) -> Classifier:
    return load_classifier(pretrain(task, Contrastive(), "contrastive"))


def _episodic(name: str, init: Path | None, encoder: str, combined: bool) -> Callable[[BenchmarkTask], Classifier]:
    """ProtoNet3D, or ProtoNet-CE started from it."""

    def row(task: BenchmarkTask) -> Classifier:
        first, sets = scale_steps(Prototypical(init=init, encoder=encoder), task), lessons(task)
        folder = task.shared / name
        found = methods.train("prototypical", first, sets, folder, task.seed)
        if not combined:
            return found
        second = replace(first, init=folder, head="attention")
        return methods.train("prototypical", second, sets, task.shared / f"{name}-ce", task.seed)

    return row


def _pairs(name: str, config: OneShot) -> Callable[[BenchmarkTask], Classifier]:
    return lambda task: methods.train(
        "one_shot", scale_steps(config, task), lessons(task), task.shared / name, task.seed
    )


def _protonets() -> Mapping[str, tuple[str, Callable[[BenchmarkTask], Classifier]]]:
    rows = {}
    for name, init, encoder, start in (
        ("protonet", None, Prototypical().encoder, "the default encoder from random weights"),
        ("protonet-general", GENERAL, Prototypical().encoder, "the shipped general model"),
        ("protonet-published", None, "protonet", "the published encoder from random weights"),
    ):
        for ending, form in (("", "ProtoNet3D"), ("-ce", "ProtoNet-CE")):
            rows[name + ending] = (f"{form} from {start}.", _episodic(name, init, encoder, ending != ""))
    return rows


FEW_SHOT: dict[str, tuple[str, Callable[[BenchmarkTask], Classifier]]] = {
    "general": ("The shipped general model as it is; nothing is trained.", lambda task: load_classifier(GENERAL)),
    "prototypes-random": ("Nearest class mean by cosine in the embedding of the untrained network.", _untrained),
    "prototypes-general": ("Nearest class mean by cosine in the embedding of the shipped general model.", _by_cosine),
    "cssl": (
        "The shipped general model after contrastive pretraining on the particles asked for, without labels.",
        _pretrained,
    ),
    "discriminant-general": (
        "The shipped general model with a discriminant fitted to complexes imaged as those asked for.",
        _fitted,
    ),
    **_protonets(),
    "pairs-general": ("COS-Net's pairs and masks, from the shipped general model.", _pairs("pairs-general", OneShot())),
    "cosnet": (
        "COS-Net as published, with attention.",
        _pairs("cosnet", OneShot(init=None, encoder="cosnet", decoder="cosnet", balanced=False)),
    ),
    "siamese": (
        "COS-Net as published, without attention.",
        _pairs("siamese", OneShot(init=None, encoder="siamese", decoder="cosnet", balanced=False)),
    ),
}
"""Name of each row, what it is, and how it comes to its model."""


def embedded(encoder: Encoder, boxes: Subtomograms) -> Float[np.ndarray, "n e"]:
    """Embeddings of all boxes by an encoder that has looked at how far off their centers they are."""
    encoder.prepare(torch.from_numpy(boxes.volumes(boxes.spaced_rows(BOXES_TO_PREPARE))))
    return embed(encoder, boxes.volumes, len(boxes))


def few_shot_scores(name: str, task: BenchmarkTask, shots: int) -> EpisodeScores:
    """Episodes of the task's protocol by a row: its head where it has one for examples, else nearest cosine."""
    asked: Subtomograms = task.world.test
    model = FEW_SHOT[name][1](task)
    embeddings = embedded(model.encoder, asked)
    head = model.head if isinstance(model.head, PrototypeHead) else CosineHead(embeddings.shape[1], 0)
    head.standardize(torch.from_numpy(embeddings))
    return episode_scores(embeddings, asked.label, head, ways=task.protocol.ways, shots=shots, seed=task.seed)

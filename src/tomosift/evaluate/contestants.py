"""Rows of the benchmark: the ways to use a few labels that are compared on the same particles with the same seeds."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float

from tomosift import methods
from tomosift.data.sets import TrainingSets
from tomosift.data.subtomograms import Subtomograms
from tomosift.evaluate.protocols import World
from tomosift.methods.contrastive import Config as Contrastive
from tomosift.methods.supervised import Config as Supervised
from tomosift.nn.calibration import softmax
from tomosift.nn.descriptors import descriptors
from tomosift.nn.inference import predict
from tomosift.nn.probe import fit_probe

_COMPONENTS = 24  # more would give a handful of labels more directions than they can weigh
Probabilities = Float[np.ndarray, "n k"]
Config = TypeVar("Config", Contrastive, Supervised)


@dataclass(frozen=True, eq=False)
class Task:
    """What a row gets: the world, which training particles carry labels, a seed and places to keep its runs."""

    world: World
    labeled: Subtomograms
    seed: int
    shared: Path
    """Folder for runs that all label budgets of one world share, such as pretraining."""
    folder: Path
    """Folder for the runs of this cell alone."""
    scale: float = 1.0
    """Factor on the default numbers of training steps, for quick looks; below 1 the rows are undertrained alike."""

    @property
    def data(self) -> TrainingSets:
        """Labeled and unlabeled training particles; validation labels are none, so early stopping spends the budget."""
        train = self.world.train
        none = train.select(np.zeros(0, dtype=np.int64))
        return TrainingSets(self.labeled, train.with_labels(np.full(len(train), ""), train.class_names), none)


def _scaled(config: Config, task: Task) -> Config:
    training = replace(config.training, steps=max(10, round(config.training.steps * task.scale)))
    return replace(config, training=training)


def _pretrained(task: Task, config: Contrastive, name: str) -> Path:
    boxes = task.world.pretraining
    folder = task.shared / name
    methods.train("contrastive", _scaled(config, task), TrainingSets(boxes, boxes, boxes), folder, task.seed)
    return folder


def _supervised(task: Task, config: Supervised) -> Probabilities:
    classifier = methods.train("supervised", _scaled(config, task), task.data, task.folder / "run", task.seed)
    return predict(classifier, task.world.test.volumes, len(task.world.test)).probabilities


def _from_pretrained(contrastive: Contrastive, name: str, **changes: object) -> Callable[[Task], Probabilities]:
    def row(task: Task) -> Probabilities:
        init = _pretrained(task, contrastive, name)
        return _supervised(task, replace(Supervised(init=init), **changes))  # type: ignore[arg-type]

    return row


def _scratch(**changes: object) -> Callable[[Task], Probabilities]:
    return lambda task: _supervised(task, replace(Supervised(), **changes))  # type: ignore[arg-type]


@torch.inference_mode()
def _invariants(boxes: Subtomograms) -> Float[np.ndarray, "n e"]:
    batches = [np.arange(start, min(start + 64, len(boxes))) for start in range(0, len(boxes), 64)]
    return np.concatenate([descriptors(torch.from_numpy(boxes.volumes(rows))).numpy() for rows in batches])


def _principal_components(task: Task) -> Probabilities:
    """Logistic regression on principal components of rotation-invariant descriptors; no network."""
    from sklearn.decomposition import PCA

    train, rows = _invariants(task.world.train), task.labeled
    mean, deviation = train.mean(axis=0), np.maximum(train.std(axis=0), 1e-6)
    model = PCA(min(_COMPONENTS, *train.shape), random_state=0).fit((train - mean) / deviation)
    known = model.transform((_invariants(rows) - mean) / deviation)
    asked = model.transform((_invariants(task.world.test) - mean) / deviation)
    return softmax(fit_probe(known, rows.label, len(rows.class_names)).logits(asked), 1.0)


CONTESTANTS: dict[str, tuple[str, Callable[[Task], Probabilities]]] = {
    "cssl": (
        "Contrastive pretraining, then the default fine-tuning (the default recipe).",
        _from_pretrained(Contrastive(), "contrastive"),
    ),
    "cssl-probe": (
        "Contrastive pretraining, then logistic regression on frozen embeddings.",
        _from_pretrained(Contrastive(), "contrastive", tuning="probe"),
    ),
    "cssl-spread": (
        "Contrastive pretraining, labels spread over unlabeled particles, then the default fine-tuning.",
        _from_pretrained(Contrastive(), "contrastive", spread=True),
    ),
    "scratch": ("The same network, views and steps without pretraining.", _scratch(tuning="finetune")),
    "random-probe": ("Logistic regression on embeddings of the untrained network.", _scratch(tuning="probe")),
    "pca": ("Logistic regression on principal components of the descriptors.", _principal_components),
    "rb3d-scratch": ("RB3D trained on the labels alone.", _scratch(encoder="rb3d", tuning="finetune")),
    "dsrf3d-scratch": ("DSRF3D-v2 trained on the labels alone.", _scratch(encoder="dsrf3d_v2", tuning="finetune")),
}
"""Name of each row, what it is, and how it answers: (n, k) probabilities for the test particles of a task."""

DEFAULT_CONTESTANTS = ("cssl", "cssl-probe", "cssl-spread", "scratch", "random-probe", "pca")
"""Rows that two cores get through; the published convolutional shapes take a GPU or patience."""

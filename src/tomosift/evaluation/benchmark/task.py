"""What a row of the benchmark is asked, and the two trainings that most rows are made of."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from tomosift import methods
from tomosift.data.subtomograms import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.evaluation.benchmark.datasets import BenchmarkData
from tomosift.evaluation.benchmark.protocols import Protocol
from tomosift.inference.prediction import apply_class_averages, predict
from tomosift.methods.contrastive import Config as Contrastive
from tomosift.methods.cycle_wgan import Config as CycleWgan
from tomosift.methods.domain_adversarial import Config as DomainAdversarial
from tomosift.methods.one_shot import Config as OneShot
from tomosift.methods.prototypical import Config as Prototypical
from tomosift.methods.supervised import Config as Supervised


@dataclass(frozen=True, eq=False)
class EntryResult:
    """What a row says of the n test particles."""

    probabilities: Float[np.ndarray, "n k"]
    similarity: Float[np.ndarray, " n"] | None = None
    """The higher, the more like some labeled particle; None where the row has nothing better than confidence."""


Config = TypeVar("Config", Contrastive, CycleWgan, DomainAdversarial, Supervised, Prototypical, OneShot)


@dataclass(frozen=True, eq=False)
class BenchmarkTask:
    """What a row gets: the world, which training particles carry labels, a seed and places to keep its runs."""

    protocol: Protocol
    """What the world was made from; only rows that are told the structures look at it."""
    snr: float
    world: BenchmarkData
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


def scale_steps(config: Config, task: BenchmarkTask) -> Config:
    """The same configuration with the task's share of its steps."""
    training = replace(config.training, steps=max(10, round(config.training.steps * task.scale)))
    return replace(config, training=training)


def pretrain(task: BenchmarkTask, config: Contrastive, name: str, at_most: int | None = None) -> Path:
    """Folder of the run that pretrained with this configuration, shared by all cells that ask for this name."""
    boxes = task.world.pretraining
    if at_most is not None:
        boxes = boxes.select(boxes.spaced_rows(at_most))
    folder = task.shared / name
    methods.train("contrastive", scale_steps(config, task), TrainingSets(boxes, boxes, boxes), folder, task.seed)
    return folder


def train_supervised(task: BenchmarkTask, config: Supervised) -> EntryResult:
    """What a classifier trained on the task's labels says of the test particles."""
    classifier = methods.train("supervised", scale_steps(config, task), task.data, task.folder / "run", task.seed)
    test = task.world.test
    said = apply_class_averages(
        classifier, predict(classifier, test.volumes, len(test)), test.volumes, test.tilt_range_deg
    )
    return EntryResult(said.probabilities, said.similarity)


def from_pretrained(
    config: Contrastive, name: str, at_most: int | None = None, **changes: object
) -> Callable[[BenchmarkTask], EntryResult]:
    """A row: pretrain with this configuration (under this name, on so many particles), then train on the labels.

    ``changes`` are settings of supervised training that differ from its defaults; averages of classes are left out
    unless they ask for them, so that rows compare encoders.
    """
    settings = {"averages": "never", **changes}

    def row(task: BenchmarkTask) -> EntryResult:
        init = pretrain(task, config, name, at_most)
        return train_supervised(task, replace(Supervised(init=init), **settings))  # type: ignore[arg-type]

    return row

"""The task of a benchmark entry: particles, labels, seed and folders."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from tomosift.data.subtomogram_set import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.evaluation.benchmark.datasets import BenchmarkData
from tomosift.evaluation.benchmark.protocols import Protocol
from tomosift.methods.contrastive import Config as Contrastive
from tomosift.methods.cycle_wgan import Config as CycleWgan
from tomosift.methods.domain_adversarial import Config as DomainAdversarial
from tomosift.methods.one_shot import Config as OneShot
from tomosift.methods.prototypical import Config as Prototypical
from tomosift.methods.supervised import Config as Supervised

Config = TypeVar("Config", Contrastive, CycleWgan, DomainAdversarial, Supervised, Prototypical, OneShot)


@dataclass(frozen=True, eq=False)
class BenchmarkTask:
    """What an entry receives."""

    protocol: Protocol
    """The protocol of the particles; only oracles use its structures."""
    snr: float
    data: BenchmarkData
    labeled: Subtomograms
    """Training particles whose labels the entry may use."""
    seed: int
    shared: Path
    """Folder for runs that all label budgets share, such as pretraining."""
    folder: Path
    """Folder for the runs of this cell alone."""
    scale: float = 1.0
    """Factor on the default numbers of training steps, for short tests; below 1 all entries are undertrained."""

    @property
    def training_sets(self) -> TrainingSets:
        """Labeled and unlabeled training particles, without validation labels: early stopping uses the budget."""
        train = self.data.train
        return TrainingSets.from_labels(self.labeled, train.with_labels(np.full(len(train), ""), train.class_names))

    def scale_steps(self, config: Config) -> Config:
        """Return the configuration with this task's share of its steps."""
        training = replace(config.training, steps=max(10, round(config.training.steps * self.scale)))
        return replace(config, training=training)

"""The trainings that most entries consist of: pretraining, and supervised training on the labels."""

from dataclasses import replace
from pathlib import Path

from tomosift import methods
from tomosift.data.training_sets import TrainingSets
from tomosift.evaluation.benchmark.entry import EntryResult
from tomosift.evaluation.benchmark.task import BenchmarkTask
from tomosift.inference.prediction import predict
from tomosift.methods.contrastive import Config as Contrastive
from tomosift.methods.supervised import Config as Supervised


def pretrain(task: BenchmarkTask, config: Contrastive, name: str, max_particles: int | None = None) -> Path:
    """Pretrain, unless another cell did so, and return the folder of the run.

    Parameters
    ----------
    task
        Gives the particles.
    config
        Settings of the pretraining.
    name
        Of the run, for all cells that share it.
    max_particles
        Number of particles to use; None uses all.
    """
    subtomograms = task.data.pretraining
    if max_particles is not None:
        subtomograms = subtomograms.select(subtomograms.spaced_rows(max_particles))
    folder, sets = task.shared / name, TrainingSets(subtomograms, subtomograms, subtomograms)
    methods.train("contrastive", task.scale_steps(config), sets, folder, task.seed)
    return folder


def train_supervised(task: BenchmarkTask, config: Supervised) -> EntryResult:
    """Train a classifier on the labels of the task and predict the test particles."""
    run = task.folder / "run"
    classifier = methods.train("supervised", task.scale_steps(config), task.training_sets, run, task.seed)
    prediction = predict(classifier, task.data.test)
    return EntryResult(prediction.probabilities, prediction.similarity)


def train_on_labels(task: BenchmarkTask, **changes: object) -> EntryResult:
    """Train on the labels; run an entry without pretraining.

    Parameters
    ----------
    task
        Gives labels and particles.
    **changes
        Settings of supervised training that differ from its defaults. Class averages are off unless they are set, so
        that the entries compare encoders.
    """
    settings = {"class_averages": "never", **changes}
    return train_supervised(task, replace(Supervised(), **settings))  # type: ignore[arg-type]


def pretrain_and_train(
    task: BenchmarkTask, config: Contrastive, name: str, max_particles: int | None = None, **changes: object
) -> EntryResult:
    """Pretrain as `pretrain` does, then train as `train_on_labels` does; run an entry with pretraining."""
    return train_on_labels(task, init=pretrain(task, config, name, max_particles), **changes)

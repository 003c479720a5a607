"""Rows of protocols in which the labels are asked for round by round: strategies of active learning.

The budget of a cell says how many labels a row may ask for, of whichever class they turn out to be. What learns from
them is the same for all: logistic regression on frozen embeddings of the shipped model.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from tomosift.evaluation.benchmark.task import BenchmarkTask, EntryResult
from tomosift.files import written_then_renamed
from tomosift.inference.classifier import GENERAL, load_classifier
from tomosift.inference.prediction import embed
from tomosift.learning.calibration import softmax
from tomosift.learning.linear_probe import fit_linear_probe
from tomosift.learning.query_strategies import QUERY_STRATEGIES, QueryConfig, QueryRounds, query_in_rounds
from tomosift.models.encoder import BOXES_TO_PREPARE
from tomosift.models.label_discriminator import unlabeled_probability

_WRONG = 0.05
_AS_RELEASED = QueryConfig(uncertainty="entropy", candidates=0, balanced=False)


def embeddings(task: BenchmarkTask) -> tuple[Float[np.ndarray, "n e"], Float[np.ndarray, "m e"]]:
    """Of the particles that may be asked for and of the test particles; kept for all cells of one world."""
    path = task.shared / "embeddings.npz"
    if not path.exists():
        encoder = load_classifier(GENERAL).encoder
        train = task.world.train
        encoder.prepare(torch.from_numpy(train.volumes(train.spaced_rows(BOXES_TO_PREPARE))))
        found = [embed(encoder, part.volumes, len(part)) for part in (train, task.world.test)]
        with written_then_renamed(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, train=found[0], test=found[1])
    with np.load(path, allow_pickle=False) as kept:
        return kept["train"], kept["test"]


def _asking(name: str, rounds: QueryRounds, wrong: float = 0.0) -> Callable[[BenchmarkTask], EntryResult]:
    def row(task: BenchmarkTask) -> EntryResult:
        train, test = embeddings(task)
        known = np.flatnonzero(task.world.train.label >= 0)
        classes = len(task.protocol.classes)
        truth = _with_errors(np.asarray(task.world.train.label[known]), classes, wrong, task.seed)
        order = np.arange(len(known))
        if len(task.labeled) < len(known):
            order = _order(task, name, rounds, train[known], truth)[: len(task.labeled)]
        probe = fit_linear_probe(train[known][order], truth[order], classes)
        return EntryResult(softmax(probe.logits(test)))

    return row


def _order(
    task: BenchmarkTask, name: str, rounds: QueryRounds, embedding: NDArray[np.float32], truth: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Rows in the order asked for, up to the largest budget of the protocol; kept for its other budgets.

    All numeric budgets are even, and a round asks for two labels of each class in the mean, so that every budget ends
    with a round.
    """
    path = task.shared / f"asked-{name}.npy"
    if not path.exists():
        classes = len(task.protocol.classes)
        most = max((int(budget) for budget in task.protocol.budgets if budget.isdecimal()), default=0) * classes
        even = replace(rounds, first_labels=2 * classes, labels_per_round=2 * classes)
        labels = max(most, len(task.labeled))
        order = query_in_rounds(
            embedding, lambda rows: truth[rows], classes, even, labels, task.seed, unlabeled_probability
        )
        with written_then_renamed(path) as temporary:
            np.save(temporary, order)
    return np.asarray(np.load(path, allow_pickle=False))


def _with_errors(label: NDArray[np.int64], classes: int, wrong: float, seed: int) -> NDArray[np.int64]:
    """Labels of an annotator who is wrong so often, each time about the class, whichever is asked for when."""
    rng = np.random.default_rng([seed, 5])
    errs = rng.random(len(label)) < wrong
    return np.where(errs, (label + rng.integers(1, classes, len(label))) % classes, label)


_RANDOM = QueryRounds("random", first="random")
_RELEASED = QueryRounds("hal", first="random", settings=_AS_RELEASED)

_ROWS: dict[str, tuple[str, QueryRounds, float]] = {
    **{name: (meaning, QueryRounds(name), 0.0) for name, meaning in QUERY_STRATEGIES.items()},
    "random": ("Any of them, from the first round on.", _RANDOM, 0.0),
    "hal-as-released": (
        "HAL with entropy, all candidates and an unbalanced discriminator, from random first labels.",
        _RELEASED,
        0.0,
    ),
    "hal-errs": ("HAL whose annotator is wrong about one particle in twenty.", QueryRounds("hal"), _WRONG),
    "random-errs": ("The same annotator, asked about any particle.", _RANDOM, _WRONG),
}

QUERIED: dict[str, tuple[str, Callable[[BenchmarkTask], EntryResult]]] = {
    name: (meaning, _asking(name, rounds, wrong)) for name, (meaning, rounds, wrong) in _ROWS.items()
}
"""Name of each row, what it is, and how it answers."""

"""Entries that request labels round by round: the query strategies of active learning.

The budget of a cell is the number of labels that an entry may request, of whichever class. The learner is the same for
all entries: logistic regression on frozen embeddings of the shipped model.
"""

from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from tomosift.evaluation.benchmark.entry import Entry, EntryResult
from tomosift.evaluation.benchmark.task import BenchmarkTask
from tomosift.files import read_arrays, write_arrays, written_then_renamed
from tomosift.inference.model_files import GENERAL, load_classifier
from tomosift.inference.prediction import embed
from tomosift.learning.calibration import softmax
from tomosift.learning.linear_probe import fit_linear_probe
from tomosift.learning.query_rounds import QueryRounds, query_in_rounds
from tomosift.learning.query_strategies import QUERY_STRATEGIES, QueryConfig
from tomosift.models.label_discriminator import unlabeled_probability

_ERROR_RATE = 0.05
_LABELS_PER_ROUND = 2
"""Mean number of labels of each class that a round requests. Numeric budgets are even, so each ends with a round."""


def embed_pool_and_test(task: BenchmarkTask) -> tuple[Float[np.ndarray, "n e"], Float[np.ndarray, "m e"]]:
    """Embed the training particles, which can be queried, and the test particles; kept for all cells of a group."""
    path = task.shared / "embeddings.npz"
    if not path.exists():
        embedder = load_classifier(GENERAL).adapt_to(task.data.train).embedder
        write_arrays(path, train=embed(embedder, task.data.train), test=embed(embedder, task.data.test))
    arrays = read_arrays(path, "delete it and run the benchmark again", ("train", "test"))
    return arrays["train"], arrays["test"]


def learn_from_queries(task: BenchmarkTask, name: str, rounds: QueryRounds, error_rate: float = 0.0) -> EntryResult:
    """Query labels up to the budget and fit a linear probe to them.

    Parameters
    ----------
    task
        The number of its labeled particles is the budget.
    name
        Of the entry, for the file that keeps its queries.
    rounds
        Query strategy.
    error_rate
        Share of labels that are wrong.
    """
    train, test = embed_pool_and_test(task)
    known = np.flatnonzero(task.data.train.label >= 0)
    classes = len(task.protocol.classes)
    label = add_label_errors(np.asarray(task.data.train.label[known]), classes, error_rate, task.seed)
    rows = np.arange(len(known))
    if len(task.labeled) < len(known):
        rows = _query(task, name, rounds, train[known], label)[: len(task.labeled)]
    probe = fit_linear_probe(train[known][rows], label[rows], classes)
    return EntryResult(softmax(probe.logits(test)))


def _query(
    task: BenchmarkTask, name: str, rounds: QueryRounds, embedding: NDArray[np.float32], label: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return rows in the order of the queries, up to the largest budget of the protocol; kept for its other budgets."""
    path = task.shared / f"queries-{name}.npy"
    if not path.exists():
        classes = len(task.protocol.classes)
        largest = max((int(budget) for budget in task.protocol.budgets if budget.isdecimal()), default=0) * classes
        per_round = _LABELS_PER_ROUND * classes
        rounds = replace(rounds, first_labels=per_round, labels_per_round=per_round)
        count = max(largest, len(task.labeled))
        rows = query_in_rounds(
            embedding, lambda rows: label[rows], classes, rounds, count, task.seed, unlabeled_probability
        )
        with written_then_renamed(path) as temporary:
            np.save(temporary, rows)
    return np.asarray(np.load(path, allow_pickle=False))


def add_label_errors(label: Int[np.ndarray, " n"], classes: int, error_rate: float, seed: int) -> Int[np.ndarray, " n"]:
    """Return the labels of an annotator who errs at this rate; an error does not depend on the order of queries."""
    rng = np.random.default_rng([seed, 5])
    is_wrong = rng.random(len(label)) < error_rate
    return np.where(is_wrong, (label + rng.integers(1, classes, len(label))) % classes, label)


_RANDOM = QueryRounds("random", first="random")
_RELEASED = QueryRounds(
    "hal", first="random", settings=QueryConfig(uncertainty="entropy", candidates=0, balanced=False)
)


def _query_entry(name: str, description: str, rounds: QueryRounds, error_rate: float = 0.0) -> Entry:
    run = partial(learn_from_queries, name=name, rounds=rounds, error_rate=error_rate)
    return Entry(description, run, "queries")


ENTRIES: dict[str, Entry] = {
    **{name: _query_entry(name, sentence, QueryRounds(name)) for name, sentence in QUERY_STRATEGIES.items()},
    "random": _query_entry("random", "Random particles, from the first round on.", _RANDOM),
    "hal-as-released": _query_entry(
        "hal-as-released",
        "HAL with entropy, all candidates and an unbalanced discriminator, from random first labels.",
        _RELEASED,
    ),
    "hal-errs": _query_entry(
        "hal-errs", "HAL with an annotator who is wrong about one particle in twenty.", QueryRounds("hal"), _ERROR_RATE
    ),
    "random-errs": _query_entry("random-errs", "Random particles with the same annotator.", _RANDOM, _ERROR_RATE),
}

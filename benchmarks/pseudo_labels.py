"""Measure the gain of unlabeled particles over a few labels, by a frozen probe, also with unequal class frequencies.

    tomosift benchmark lookalikes --methods cssl --out FOLDER
    ./dev bench pseudo_labels --folder FOLDER --protocol lookalikes

Embeddings are those of the pretraining that the benchmark left below FOLDER; particles and labeled subsets are its own.
Among the unlabeled particles, classes are equally frequent (even), or the most frequent one is 7 or 50 times as
frequent as the rarest, the others between (x7, x50), or all but one are fifty times rarer (one). Test particles are not
changed.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray

from tomosift.data.labels import is_member
from tomosift.data.splits import sample_labels
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.evaluation.benchmark.datasets import BenchmarkData, build_data
from tomosift.evaluation.benchmark.protocols import PROTOCOLS
from tomosift.inference.model_files import load_classifier
from tomosift.inference.prediction import embed
from tomosift.learning.label_propagation import propagate_labels
from tomosift.learning.linear_probe import FEW_LABELS_REGULARIZATION, fit_linear_probe
from tomosift.learning.pseudo_labels import assign_pseudo_labels


@dataclass(frozen=True)
class Options:
    """Which data of a benchmark to use."""

    folder: Path
    protocol: str = "lab-ten"
    snr: float = 0.1
    seeds: int = 3
    per_class: int = 0
    """As in the run of the benchmark."""
    labels: tuple[int, ...] = (1, 3, 5, 10, 15, 25)
    frequencies: tuple[str, ...] = ("even", "x7", "x50", "one")


def draw_frequencies(kind: str, classes: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the share of the particles of each class that stays among the unlabeled ones."""
    if kind == "even":
        return np.ones(classes)
    rarest = np.r_[1.0, np.full(classes - 1, 0.02)]
    graded = float(kind[1:]) ** -np.linspace(0, 1, classes) if kind != "one" else rarest
    return np.asarray(rng.permutation(graded))


def measure_accuracy(
    sources: list[NDArray[np.float32]], labels: list[NDArray[np.int64]], test: NDArray[np.float32], truth: Subtomograms
) -> float:
    """Return the accuracy of a probe of these embeddings on the test particles."""
    probe = fit_linear_probe(
        np.concatenate(sources), np.concatenate(labels), len(truth.class_names), FEW_LABELS_REGULARIZATION
    )
    predicted, known = probe.logits(test).argmax(axis=1), truth.label >= 0
    return float((predicted[known] == truth.label[known]).mean())


def measure_seed(
    options: Options, data: BenchmarkData, encoder_of: Path, seed: int
) -> dict[tuple[str, int], list[float]]:
    """Measure accuracy by the labels alone, with label propagation to all particles, and with pseudo-labels."""
    train = data.train
    embedder = load_classifier(encoder_of).adapt_to(train).embedder
    embeddings, test = embed(embedder, train), embed(embedder, data.test)
    known, classes = train.select(train.labeled_rows), len(train.class_names)
    found = {}
    for kind in options.frequencies:
        for labels in options.labels if kind == "even" else (5,):
            is_labeled = is_member(train, known.select(sample_labels(known, labels, seed)))
            rng = np.random.default_rng([seed, 71])
            share = np.append(draw_frequencies(kind, classes, rng), 1.0)[
                train.label
            ]  # label -1: of no class, all are kept
            around = embeddings[is_labeled | (rng.random(len(train)) < share)]
            few, label = embeddings[is_labeled], train.label[is_labeled]
            propagated, pseudo = (
                assign(few, label, around, classes) for assign in (propagate_labels, assign_pseudo_labels)
            )
            found[kind, labels] = [
                measure_accuracy([few], [label], test, data.test),
                measure_accuracy([few, around], [label, propagated], test, data.test),
                measure_accuracy([few, around[pseudo >= 0]], [label, pseudo[pseudo >= 0]], test, data.test),
            ]
    return found


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Measure all seeds and print their means and ranges."""
    protocol = PROTOCOLS[options.protocol]
    protocol = replace(protocol, per_class=options.per_class or protocol.per_class)
    seeds = []
    for seed in range(options.seeds):
        group = f"{options.protocol}-snr{options.snr:g}-seed{seed}"
        data = build_data(protocol, options.snr, seed, options.folder / "worlds" / group)
        seeds.append(measure_seed(options, data, options.folder / "shared" / group / "contrastive", seed))
    print("| unlabeled | labels | labels alone | label propagation | pseudo-labels |\n|---|---|---|---|---|")
    for kind, labels in seeds[0]:
        columns = zip(*(found[kind, labels] for found in seeds), strict=True)
        numbers = " | ".join(f"{np.mean(c):.3f} ({min(c):.3f} to {max(c):.3f})" for c in columns)
        print(f"| {kind} | {labels} | {numbers} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

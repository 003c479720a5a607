"""Measure the gain of contrastive pretraining: the same network from scratch and pretrained, on held-out tomograms.

    ./dev bench pretraining --structures FOLDER --work FOLDER                   the comparison
    ./dev bench pretraining --structures FOLDER --work FOLDER --curve           probe accuracy over pretraining steps

Ten real structures are simulated in crowded tomograms at SNR 0.1 and +-60 degrees, with a picking error of 10 A along
each axis. Pretraining uses the subtomograms of three quarters of the tomograms without labels. A few of them are
labeled. Accuracy is measured on the other tomograms. Seeds vary initial weights, order, views and the labeled subset.
Every run is kept below --work, so an interrupted benchmark resumes.
"""

import csv
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from tomosift import methods
from tomosift.data.splits import sample_labels
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.evaluation.benchmark.datasets import extract_from_tomograms
from tomosift.inference.prediction import embed, predict
from tomosift.learning.linear_probe import measure_probe_accuracy
from tomosift.methods.contrastive import Config as Contrastive
from tomosift.methods.supervised import Config as Supervised
from tomosift.simulation.dataset_config import TomogramDatasetConfig

TEN: tuple[str, ...] = ("7p6z.cif.gz", "4v4r_30S.pdb.gz", "3j9i.pdb.gz", "1oel.pdb.gz", "1bxn.pdb.gz")
TEN += ("6z6u.pdb.gz", "1qvr.pdb.gz", "2buk.pdb.gz", "5gjv.pdb.gz", "2cg9.pdb.gz")


@dataclass(frozen=True)
class Options:
    """What to measure."""

    structures: Path
    """Folder with the structure files named in this script."""
    work: Path
    """Folder for the simulated tomograms, the sets and the runs."""
    tomograms: int = 24
    world_seed: int = 11
    voxel_spacing: float = 10.0
    box_size: int = 32
    encoder: str = "radial"
    steps: int = 300
    labels: tuple[int, ...] = (1, 5, 20)
    seeds: int = 3
    curve: bool = False


def simulate_sets(options: Options) -> tuple[Subtomograms, Subtomograms]:
    """Return the sets for training and for testing, from different tomograms, with their true classes."""
    config = TomogramDatasetConfig(
        classes=tuple(str(options.structures / name) for name in TEN),
        tomograms=options.tomograms,
        shape_zyx=(40, 220, 220),
        labels=False,
        seed=options.world_seed,
    )
    spacing, size = options.voxel_spacing, options.box_size
    subtomograms = extract_from_tomograms(
        config,
        options.work / "world",
        options.work / f"set-{size}-{spacing:g}",
        spacing,
        size,
        report_progress,
    )
    held_out = np.isin(subtomograms.particles.tomogram.astype(str), config.tomogram_names[3 * options.tomograms // 4 :])
    return subtomograms.select(~held_out), subtomograms.select(held_out)


def report(sentence: str) -> None:
    """Print a sentence to stderr."""
    print(sentence, file=sys.stderr, flush=True)


def report_progress(done: int, total: int, note: str = "") -> None:
    """Print the progress of a simulation."""
    report(f"{done}/{total} {note}")


def hide_labels(train: Subtomograms, per_class: int, seed: int) -> TrainingSets:
    """Return training sets with a few labeled subtomograms, all unlabeled ones, and none for validation."""
    rows = sample_labels(train, per_class, seed)
    return TrainingSets.from_labels(train.select(rows), train.with_labels(np.full(len(train), "")))


def pretrain(options: Options, train: Subtomograms, name: str, config: Contrastive, seed: int) -> Path:
    """Pretrain an encoder and return the folder of the run."""
    config = replace(config, encoder=options.encoder, training=replace(config.training, steps=options.steps))
    unlabeled = train.with_labels(np.full(len(train), ""))
    folder = options.work / "runs" / f"{options.encoder}-{options.box_size}" / f"{name}-{options.steps}-{seed}"
    methods.train("contrastive", config, TrainingSets(unlabeled, unlabeled, unlabeled), folder, seed)
    return folder


def measure_accuracy(
    options: Options, data: TrainingSets, test: Subtomograms, name: str, config: Supervised, seed: int
) -> float:
    """Train a classifier on the few labels and return its accuracy on the held-out tomograms."""
    folder = options.work / "runs" / f"{options.encoder}-{options.box_size}" / f"{name}-{len(data.labeled)}-{seed}"
    classifier = methods.train("supervised", replace(config, encoder=options.encoder), data, folder, seed)
    predicted = predict(classifier, test).probabilities.argmax(axis=1)
    return float((predicted == test.label).mean())


def measure_probe(folder: Path, train: Subtomograms, test: Subtomograms, per_class: int, draws: int = 5) -> float:
    """Return the mean probe accuracy of a run's encoder over draws of the labeled subset."""
    from tomosift.inference.model_files import load_classifier

    embedder = load_classifier(folder).embedder
    known, query = embed(embedder, train), embed(embedder, test)
    chosen = [sample_labels(train, per_class, draw) for draw in range(draws)]
    return float(
        np.mean([measure_probe_accuracy(known[rows], train.label[rows], query, test.label) for rows in chosen])
    )


def compare(options: Options, train: Subtomograms, test: Subtomograms) -> list[dict[str, object]]:
    """Measure every way to use the labels, for every label budget and seed."""
    rows: list[dict[str, object]] = []
    for seed in range(options.seeds):
        init = pretrain(options, train, "default", Contrastive(), seed)
        for per_class in options.labels:
            data = hide_labels(train, per_class, seed)
            ways = {
                "scratch, whole network": Supervised(tuning="finetune"),
                "scratch, probe of random encoder": Supervised(tuning="probe"),
                "pretrained, probe": Supervised(init=init, tuning="probe"),
                "pretrained, probe then whole network": Supervised(init=init, tuning="probe-then-finetune"),
                "pretrained, whole network": Supervised(init=init, tuning="finetune"),
            }
            for way, config in ways.items():
                found = measure_accuracy(options, data, test, way.replace(", ", "-").replace(" ", "-"), config, seed)
                rows.append({"labels": per_class, "way": way, "seed": seed, "accuracy": round(found, 4)})
                report(str(rows[-1]))
    return rows


def curve(options: Options, train: Subtomograms, test: Subtomograms) -> list[dict[str, object]]:
    """Measure the probe accuracy after increasing numbers of steps, each in a separate run with its own schedule."""
    rows: list[dict[str, object]] = []
    for steps in (1, 75, 150, 300, 600, 1200):
        folder = pretrain(replace(options, steps=steps), train, "default", Contrastive(), 0)
        rows.append(
            {"steps": steps, **{f"probe_{k}": round(measure_probe(folder, train, test, k), 4) for k in options.labels}}
        )
        report(str(rows[-1]))
    return rows


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Measure, print and write a table."""
    torch.set_num_threads(max(1, torch.get_num_threads()))
    train, test = simulate_sets(options)
    report(f"{len(train)} subtomograms to train on, {len(test)} to test on, {len(train.class_names)} classes")
    kind = "curve" if options.curve else "comparison"
    rows = (curve if options.curve else compare)(options, train, test)
    with (options.work / f"{kind}-{options.encoder}-{options.box_size}.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    if kind == "comparison":
        for per_class in options.labels:
            for way in dict.fromkeys(row["way"] for row in rows):
                found = [float(str(r["accuracy"])) for r in rows if r["labels"] == per_class and r["way"] == way]
                print(f"{per_class:>3} labels  {way:<40} {np.mean(found):.3f}  ({min(found):.3f} to {max(found):.3f})")


if __name__ == "__main__":
    tyro.cli(main)

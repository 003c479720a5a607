"""Measure the peak memory of training on a set that does not fit into memory, and of classifying it.

    ./dev bench memory --folder FOLDER

The script writes a set of noise subtomograms, pretrains and fine-tunes for some steps and classifies a part of the set,
all in one process. It prints the peak resident memory after each stage, and ends with exit code 1 where it reached the
limit. The set takes 65 kB per subtomogram of 32^3 (6.5 GB for 100,000) and is deleted afterwards unless ``--keep`` is
given.
"""

import argparse
import resource
import shutil
import sys
import time
from pathlib import Path

import numpy as np

from tomosift import methods
from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.prediction import predict
from tomosift.methods.contrastive import Config as Contrastive
from tomosift.methods.supervised import Config as Supervised
from tomosift.particles import Particles
from tomosift.train.loop import Training

CHUNK = 500
CLASSES = ("a", "b")
SUBTOMOGRAMS_PER_TOMOGRAM = 1000
LABELS_PER_CLASS = 50


def main() -> int:
    """Run every stage; return 1 where memory reached the limit, otherwise 0."""
    options = _parse_arguments()
    stages: list[tuple[str, float, float]] = []

    def report(name: str, started: float) -> None:
        # Linux counts in kilobytes.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        stages.append((name, time.monotonic() - started, peak))
        print(f"{name:<10} {stages[-1][1]:7.1f} s   peak {peak:5.2f} GB", flush=True)

    if options.folder.exists() and any(options.folder.iterdir()) and not (options.folder / "set" / "set.json").exists():
        raise SystemExit(f"{options.folder} is not empty; give a new folder")
    report("imports", time.monotonic())
    try:
        started = time.monotonic()
        subtomograms = _write_set(options.folder / "set", options.boxes, options.box_size)
        report("write", started)

        started = time.monotonic()
        training = Training(steps=options.steps, batch_size=48)
        pretrained, tuned = options.folder / "pretrained", options.folder / "classifier"
        pretraining = Contrastive(encoder=options.encoder, training=training)
        methods.train(
            "contrastive", pretraining, TrainingSets.from_labels(subtomograms.empty(), subtomograms), pretrained, 0
        )
        report("pretrain", started)

        started = time.monotonic()
        tuning = Supervised(init=pretrained, tuning="probe-then-finetune", training=training)
        labeled = subtomograms.select(subtomograms.labeled_rows)
        classifier = methods.train("supervised", tuning, TrainingSets.from_labels(labeled, subtomograms), tuned, 0)
        report("fine-tune", started)

        started = time.monotonic()
        count = min(options.classify, len(subtomograms))
        probabilities = predict(classifier, subtomograms.select(np.arange(count))).probabilities
        assert probabilities.shape == (count, len(CLASSES))
        report("classify", started)
    finally:
        if not options.keep:
            shutil.rmtree(options.folder, ignore_errors=True)
    peak = stages[-1][2]
    print(
        f"peak resident memory {peak:.2f} GB with {options.boxes} subtomograms of {options.box_size}^3; "
        f"limit {options.limit_gb} GB"
    )
    return int(peak >= options.limit_gb)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="new or empty folder for the set and the runs")
    parser.add_argument("--boxes", type=int, default=100_000)
    parser.add_argument("--box-size", type=int, default=32)
    parser.add_argument("--encoder", default="radial")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--classify", type=int, default=5000, help="subtomograms to classify")
    parser.add_argument("--limit-gb", type=float, default=2.0)
    parser.add_argument("--keep", action="store_true", help="keep the folder, so that the set is not written again")
    return parser.parse_args()


def _write_set(path: Path, count: int, size: int) -> Subtomograms:
    """Write a set of white noise; the first subtomograms of each tomogram are labeled, with the two classes in turn."""
    if (path / "set.json").exists():
        return open_subtomograms(path)
    rng = np.random.default_rng(0)
    # Drawing billions of normal numbers would take longer than all stages: chunks are shuffled copies of one pattern.
    pattern = rng.standard_normal((CHUNK, size, size, size), dtype=np.float32)
    with SubtomogramWriter(path, size, 10.0, class_names=CLASSES) as writer:
        for start in range(0, count, CHUNK):
            rows = np.arange(start, min(start + CHUNK, count))
            ordinal = (rows // SUBTOMOGRAMS_PER_TOMOGRAM) * 2 + rows % SUBTOMOGRAMS_PER_TOMOGRAM
            labeled = (rows % SUBTOMOGRAMS_PER_TOMOGRAM < 2) & (ordinal < 2 * LABELS_PER_CLASS)
            particles = Particles.create(
                [f"tomogram_{row // SUBTOMOGRAMS_PER_TOMOGRAM:04d}" for row in rows],
                rng.uniform(0, 5000, size=(len(rows), 3)),
                class_name=[CLASSES[row % 2] if known else "" for row, known in zip(rows, labeled, strict=True)],
                particle_id=[f"particle_{row:07d}" for row in rows],
            )
            order = rng.permutation(CHUNK)[: len(rows)]
            writer.append(pattern[order], particles, np.array([-60.0, 60.0]))
    return open_subtomograms(path)


if __name__ == "__main__":
    sys.exit(main())

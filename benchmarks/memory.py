"""Peak memory of training on, and classifying, a set far larger than memory should hold.

    python benchmarks/memory.py --folder /tmp/memory

Writes a set of noise boxes, pretrains and fine-tunes some steps and classifies a part of it, all in one process;
prints the peak resident memory after each stage and ends with exit code 1 where it reached the limit. The set takes
65 kB per box of 32^3 (6.5 GB for 100,000) and is deleted afterwards unless ``--keep`` is given.
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
BOXES_PER_TOMOGRAM = 1000
LABELS_PER_CLASS = 50


def main() -> int:
    """Run every stage; the exit code says whether memory stayed below the limit."""
    asked = _arguments()
    stages: list[tuple[str, float, float]] = []

    def measured(name: str, started: float) -> None:
        # Linux counts in kilobytes.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        stages.append((name, time.monotonic() - started, peak))
        print(f"{name:<10} {stages[-1][1]:7.1f} s   peak {peak:5.2f} GB", flush=True)

    if asked.folder.exists() and any(asked.folder.iterdir()) and not (asked.folder / "set" / "set.json").exists():
        raise SystemExit(f"{asked.folder} is not empty; give a new folder")
    measured("imports", time.monotonic())
    try:
        started = time.monotonic()
        boxes = _written(asked.folder / "set", asked.boxes, asked.box_size)
        measured("write", started)

        started = time.monotonic()
        training = Training(steps=asked.steps, batch_size=48)
        pretrained, tuned = asked.folder / "pretrained", asked.folder / "classifier"
        pretraining = Contrastive(encoder=asked.encoder, training=training)
        methods.train("contrastive", pretraining, TrainingSets.from_labels(boxes.empty(), boxes), pretrained, 0)
        measured("pretrain", started)

        started = time.monotonic()
        tuning = Supervised(init=pretrained, tuning="probe-then-finetune", training=training)
        labeled = boxes.select(boxes.labeled_rows)
        classifier = methods.train("supervised", tuning, TrainingSets.from_labels(labeled, boxes), tuned, 0)
        measured("fine-tune", started)

        started = time.monotonic()
        count = min(asked.classify, len(boxes))
        probabilities = predict(classifier, boxes.volumes, count).probabilities
        assert probabilities.shape == (count, len(CLASSES))
        measured("classify", started)
    finally:
        if not asked.keep:
            shutil.rmtree(asked.folder, ignore_errors=True)
    peak = stages[-1][2]
    print(
        f"peak resident memory {peak:.2f} GB with {asked.boxes} boxes of {asked.box_size}^3; limit {asked.limit_gb} GB"
    )
    return int(peak >= asked.limit_gb)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="new or empty folder for the set and the runs")
    parser.add_argument("--boxes", type=int, default=100_000)
    parser.add_argument("--box-size", type=int, default=32)
    parser.add_argument("--encoder", default="radial")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--classify", type=int, default=5000, help="boxes to classify")
    parser.add_argument("--limit-gb", type=float, default=2.0)
    parser.add_argument("--keep", action="store_true", help="leave the folder, so that the set is not written again")
    return parser.parse_args()


def _written(path: Path, count: int, size: int) -> Subtomograms:
    """A set of white noise; the first boxes of each tomogram are labeled, in turn with either class."""
    if (path / "set.json").exists():
        return open_subtomograms(path)
    rng = np.random.default_rng(0)
    # Drawing billions of normal numbers would take longer than everything measured here: chunks are shuffled copies.
    pattern = rng.standard_normal((CHUNK, size, size, size), dtype=np.float32)
    with SubtomogramWriter(path, size, 10.0, class_names=CLASSES) as writer:
        for start in range(0, count, CHUNK):
            rows = np.arange(start, min(start + CHUNK, count))
            ordinal = (rows // BOXES_PER_TOMOGRAM) * 2 + rows % BOXES_PER_TOMOGRAM
            labeled = (rows % BOXES_PER_TOMOGRAM < 2) & (ordinal < 2 * LABELS_PER_CLASS)
            particles = Particles.create(
                [f"tomogram_{row // BOXES_PER_TOMOGRAM:04d}" for row in rows],
                rng.uniform(0, 5000, size=(len(rows), 3)),
                class_name=[CLASSES[row % 2] if known else "" for row, known in zip(rows, labeled, strict=True)],
                particle_id=[f"particle_{row:07d}" for row in rows],
            )
            order = rng.permutation(CHUNK)[: len(rows)]
            writer.append(pattern[order], particles, np.array([-60.0, 60.0]))
    return open_subtomograms(path)


if __name__ == "__main__":
    sys.exit(main())

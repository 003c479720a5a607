"""How well one and five examples name particles of classes that no training has seen.

    ./dev bench few_shot --work FOLDER [--seeds 3] [--box-size 32] [--rows ...]

Asked for are all structures of the atlas, crowded, picks within 2 voxels of the center, imaged as in the protocol
`centered-ten`. No row has seen any of them: episodes are of complexes that do not exist
(`tomosift.simulate.random_complexes`), others for training and for early stopping, and the shipped model learned from
such complexes as well. 600 episodes of 5 and of 8 classes per seed; each seed draws its own test particles, weights and
training episodes. Everything below --work is kept, so an interrupted measurement goes on; the table is also written to
FOLDER/table.csv.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from tomosift import methods
from tomosift.data.sets import TrainingSets
from tomosift.data.subtomograms import Subtomograms
from tomosift.evaluate.episodes import episode_scores
from tomosift.evaluate.protocols import PROTOCOLS, simulated
from tomosift.files import written_then_renamed
from tomosift.methods.contrastive import Config as Contrastive
from tomosift.methods.prototypical import Config as Prototypical
from tomosift.nn.classifier import Classifier, ModelCard, load_classifier
from tomosift.nn.encoder import BOXES_TO_PREPARE
from tomosift.nn.encoders import build_encoder
from tomosift.nn.heads import CosineHead, PrototypeHead
from tomosift.nn.inference import embed
from tomosift.simulate.atlas import atlas_names
from tomosift.simulate.random_complexes import random_names, random_templates
from tomosift.simulate.subtomograms import SubtomogramSetConfig, simulate_subtomograms
from tomosift.train.loop import Training

COMPLEXES, SPARED, PARTICLES = 150, 30, 40
"""Complexes that do not exist, those of them for early stopping, and particles of each."""
SEED_OF_COMPLEXES = 9000
GENERAL = Path("general")


@dataclass(frozen=True)
class Options:
    """What to measure."""

    work: Path
    """Folder for simulated sets, runs and the table."""
    snrs: tuple[float, ...] = (0.1, 0.03)
    seeds: int = 3
    box_size: int = 32
    per_class: int = 80
    steps: int = 500
    rows: tuple[str, ...] = ()
    """Rows of the table; all but those with convolutions when empty."""


@dataclass(frozen=True)
class Task:
    """One noise level and seed."""

    options: Options
    snr: float
    seed: int

    @property
    def folder(self) -> Path:
        return self.options.work / f"{self.options.box_size}-snr{self.snr:g}"

    def asked(self) -> Subtomograms:
        """Particles of real structures."""
        protocol = replace(PROTOCOLS["centered-ten"], per_class=self.options.per_class, box_size=self.options.box_size)
        return simulated(protocol, atlas_names(), self.snr, self.seed, self.folder / f"asked-seed{self.seed}")

    def lessons(self) -> TrainingSets:
        """Particles of complexes that do not exist, imaged alike; the same for all seeds."""
        config = SubtomogramSetConfig(
            random_names(COMPLEXES, SEED_OF_COMPLEXES),
            PARTICLES,
            self.options.box_size,
            PROTOCOLS["centered-ten"].imaging(self.snr),
            seed=SEED_OF_COMPLEXES,
        )
        templates = partial(random_templates, COMPLEXES, SEED_OF_COMPLEXES, 10.0, 48)
        boxes = simulate_subtomograms(config, self.folder / "lessons", templates=templates)
        spare = boxes.label >= COMPLEXES - SPARED
        return TrainingSets(boxes.select(~spare), boxes, boxes.select(spare))


def untrained(task: Task, asked: Subtomograms, encoder: str = "radial") -> Classifier:
    torch.manual_seed(task.seed)
    return Classifier(build_encoder(encoder), ModelCard(encoder, asked.voxel_spacing_angstrom, asked.box_size))


def pretrained(task: Task, asked: Subtomograms) -> Classifier:
    unlabeled = asked.with_labels(np.full(len(asked), ""))
    sets = TrainingSets(unlabeled, unlabeled, unlabeled)
    return methods.train("contrastive", Contrastive(), sets, task.folder / f"cssl-seed{task.seed}", task.seed)


def episodic(init: Path | None, combined: bool, encoder: str = "radial") -> Callable[[Task, Subtomograms], Classifier]:
    """ProtoNet3D, or ProtoNet-CE started from it."""

    def model(task: Task, asked: Subtomograms) -> Classifier:
        training, sets = Training(steps=task.options.steps), task.lessons()
        first = Prototypical(init=init, encoder=encoder, training=training)
        start = "random" if init is None else str(init)
        run = task.folder / f"protonet3d-{encoder}-{start}-seed{task.seed}"
        classifier = methods.train("prototypical", first, sets, run, task.seed)
        if not combined:
            return classifier
        second = replace(first, init=run, head="attention")
        return methods.train("prototypical", second, sets, run.with_name(run.name.replace("3d", "-ce")), task.seed)

    return model


ROWS: dict[str, Callable[[Task, Subtomograms], Classifier]] = {
    "random weights": untrained,
    "general": lambda task, asked: load_classifier(GENERAL),
    "cssl on these": pretrained,
    "ProtoNet3D": episodic(None, False),
    "ProtoNet-CE": episodic(None, True),
    "ProtoNet3D from general": episodic(GENERAL, False),
    "ProtoNet-CE from general": episodic(GENERAL, True),
    "ProtoNet3D, published encoder": episodic(None, False, "protonet"),
    "ProtoNet-CE, published encoder": episodic(None, True, "protonet"),
}
SLOW = ("ProtoNet3D, published encoder", "ProtoNet-CE, published encoder")


def measured(task: Task, row: str, asked: Subtomograms) -> list[dict[str, str | float]]:
    """One line for each number of classes and of examples."""
    model = ROWS[row](task, asked)
    model.encoder.prepare(torch.from_numpy(asked.volumes(asked.spaced_rows(BOXES_TO_PREPARE))))
    embeddings = embed(model.encoder, asked.volumes, len(asked))
    head = model.head if isinstance(model.head, PrototypeHead) else CosineHead(embeddings.shape[1], 0)
    head.standardize(torch.from_numpy(embeddings))
    lines: list[dict[str, str | float]] = []
    for ways in (5, 8):
        for shots in (1, 5):
            found = episode_scores(embeddings, asked.label, head, ways=ways, shots=shots, seed=task.seed)
            lines.append(
                {
                    "snr": task.snr,
                    "box_size": task.options.box_size,
                    "row": row,
                    "ways": ways,
                    "shots": shots,
                    "seed": task.seed,
                    "accuracy": round(found.accuracy.value, 4),
                    "accuracy_half_width": round(found.accuracy.half_width, 4),
                    "macro_precision": round(found.macro_precision.value, 4),
                    "micro_precision": round(found.accuracy.value, 4),
                }
            )
    return lines


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Simulate, train, embed, draw episodes, write and print a table."""
    table: list[dict[str, str | float]] = []
    for snr in options.snrs:
        for seed in range(options.seeds):
            task = Task(options, snr, seed)
            asked = task.asked()
            for row in options.rows or [name for name in ROWS if name not in SLOW]:
                table += measured(task, row, asked)
                print(*table[-4:], sep="\n", flush=True)
    with written_then_renamed(options.work / "table.csv") as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, table[0])
        writer.writeheader()
        writer.writerows(table)
    keys = dict.fromkeys((line["snr"], line["row"], line["ways"], line["shots"]) for line in table)
    print(
        "| SNR | row | classes | examples | accuracy, mean over seeds (range) | interval |\n|---|---|---|---|---|---|"
    )
    for key in keys:
        mine = [line for line in table if (line["snr"], line["row"], line["ways"], line["shots"]) == key]
        accuracy = [float(line["accuracy"]) for line in mine]
        width = np.mean([float(line["accuracy_half_width"]) for line in mine])
        numbers = f"{np.mean(accuracy):.3f} ({min(accuracy):.3f} to {max(accuracy):.3f}) | +- {width:.3f}"
        print(f"| {' | '.join(map(str, key))} | {numbers} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

"""How well one and five examples name particles of classes that no training has seen.

    ./dev bench few_shot --work FOLDER [--box-size 32] [--pretrain]

All structures of the atlas, crowded, picks within 2 voxels of the center, imaged as in the protocol `centered-ten`; the
shipped model has seen none of them. Episodes of 5 and of 8 classes, mean and 95 % interval over 600 of them.
`--pretrain` adds a model that was pretrained on these very boxes, without labels. Sets and runs are kept below --work.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
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
from tomosift.methods.contrastive import Config as Contrastive
from tomosift.nn.classifier import load_classifier
from tomosift.nn.encoder import BOXES_TO_PREPARE, Encoder
from tomosift.nn.encoders import build_encoder
from tomosift.nn.inference import embed
from tomosift.simulate.atlas import atlas_names


@dataclass(frozen=True)
class Options:
    """What to measure."""

    work: Path
    """Folder for simulated sets and runs."""
    snrs: tuple[float, ...] = (0.1, 0.03)
    box_size: int = 32
    per_class: int = 80
    seed: int = 0
    pretrain: bool = False


def encoders(options: Options, boxes: Subtomograms, folder: Path) -> Iterator[tuple[str, Encoder]]:
    """What is compared, ready for these boxes."""
    torch.manual_seed(options.seed)
    random, general = build_encoder("radial"), load_classifier(Path("general")).encoder
    for name, encoder in (("random weights", random), ("general", general)):
        encoder.prepare(torch.from_numpy(boxes.volumes(boxes.spaced_rows(BOXES_TO_PREPARE))))
        yield name, encoder.eval()
    if options.pretrain:
        unlabeled = boxes.with_labels(np.full(len(boxes), ""))
        sets = TrainingSets(unlabeled, unlabeled, unlabeled)
        yield "pretrained on these", methods.train("contrastive", Contrastive(), sets, folder, options.seed).encoder


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Simulate, embed, draw episodes and print a table."""
    names = atlas_names()
    print("| SNR | encoder | classes | examples | accuracy | macro precision |\n|---|---|---|---|---|---|")
    for snr in options.snrs:
        protocol = replace(PROTOCOLS["centered-ten"], per_class=options.per_class, box_size=options.box_size)
        where = options.work / f"{options.box_size}-snr{snr:g}-seed{options.seed}"
        boxes = simulated(protocol, names, snr, options.seed, where / "particles")
        for name, encoder in encoders(options, boxes, where / "pretrained"):
            embeddings = embed(encoder, boxes.volumes, len(boxes))
            for ways in (5, 8):
                for shots in (1, 5):
                    found = episode_scores(embeddings, boxes.label, ways=ways, shots=shots, seed=options.seed)
                    numbers = f"{found.accuracy} | {found.macro_precision}"
                    print(f"| {snr:g} | {name} | {ways} | {shots} | {numbers} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

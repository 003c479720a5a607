"""Teach the shipped model ``general`` in which directions classes differ, for `tomosift identify`, and measure it.

    ./dev bench discriminant --work FOLDER              simulate, fit, put the head into the model, measure
    ./dev bench discriminant --work FOLDER --measure    measure the model that comes with the program again

It is fitted to embeddings of complexes that do not exist and that the encoder has not learned from, at several noise
levels, with and without CTF; encoder and decoder are left as they are. It is measured on all structures of the atlas,
in the episodes of the protocol `few-shot-all`, beside the cosine by which models without such a head are compared.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from tomosift.data.subtomograms import Subtomograms
from tomosift.evaluate.episodes import episode_scores
from tomosift.evaluate.few_shot import embedded
from tomosift.evaluate.protocols import PROTOCOLS, build_world
from tomosift.files import write_json
from tomosift.nn.center_finder import weights_path
from tomosift.nn.classifier import Classifier, load_classifier, save_classifier
from tomosift.nn.discriminant import fit_discriminant
from tomosift.nn.heads import CosineHead, DiscriminantHead
from tomosift.simulate.random_complexes import simulate_random_complexes

FOLDER = weights_path().parent / "shipped" / "general"


@dataclass(frozen=True)
class Options:
    """How much to simulate."""

    work: Path
    """Folder for simulated sets."""
    snrs: tuple[float, ...] = (0.03, 0.06, 0.12, 0.3)
    """Of one set each; every second set is without CTF, as after a perfect correction."""
    complexes: int = 100
    per_class: int = 40
    seed: int = 400
    measure: bool = False
    """Only measure."""


def learned_from(options: Options) -> list[Subtomograms]:
    """Sets of complexes that do not exist, those of one set imaged alike."""
    sets = []
    for number, snr in enumerate(options.snrs):
        seed = options.seed + number
        imaging = replace(PROTOCOLS["centered-ten"].imaging(snr), has_ctf=number % 2 == 0)
        folder = options.work / f"set-{number}"
        sets.append(simulate_random_complexes(options.complexes, options.per_class, imaging, seed, folder))
    return sets


def measure(model: Classifier, work: Path) -> dict[str, str]:
    """Accuracy of both heads in episodes, with 95 % intervals."""
    found = {}
    head = model.head
    assert isinstance(head, DiscriminantHead)
    for snr in (0.1, 0.03):
        asked = build_world(PROTOCOLS["few-shot-all"], snr, 0, work / f"asked-{snr:g}").test
        embeddings = embedded(model.encoder, asked)
        for name, each in (("discriminant", head), ("cosine", CosineHead(embeddings.shape[1], 0))):
            each.standardize(torch.from_numpy(embeddings))
            for ways in (5, 8):
                one, five = (
                    episode_scores(embeddings, asked.label, each, ways=ways, shots=shots).accuracy for shots in (1, 5)
                )
                found[f"SNR {snr:g}, {ways} classes, {name}"] = f"{one}, {five}"
                print(f"SNR {snr:g}, {ways} classes, 1 and 5 examples, {name}: {one}, {five}", flush=True)
    return found


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Simulate, fit, write and measure."""
    if options.measure:
        measure(load_classifier(Path("general")), options.work)
        return
    model, kept = (load_classifier(Path("general")) for _ in range(2))  # the first is prepared for the sets
    sets = learned_from(options)
    embeddings = np.concatenate([embedded(model.encoder, boxes) for boxes in sets])
    group = np.repeat(np.arange(len(sets)), [len(boxes) for boxes in sets])
    made = Classifier(kept.encoder, replace(kept.card, head="discriminant"))
    assert isinstance(made.head, DiscriminantHead)
    made.head.load(fit_discriminant(embeddings, np.concatenate([boxes.label for boxes in sets]), group))
    made.decoder = kept.decoder.half() if kept.decoder is not None else None  # as it was made
    save_classifier(FOLDER, made)
    table = measure(load_classifier(Path("general")), options.work)
    about = json.loads((FOLDER / "about.json").read_text())
    about["examples"] = {
        "made_by": "./dev bench discriminant --work FOLDER",
        "options": {key: value for key, value in asdict(options).items() if key not in ("work", "measure")},
        "accuracy_in_episodes_of_the_atlas_1_and_5_examples": table,
    }
    write_json(FOLDER / "about.json", about)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

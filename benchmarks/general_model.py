"""Train the model ``general`` that comes with the program: an encoder that knows what complexes look like.

    ./dev bench general_model --work FOLDER              simulate, train, put it into the program, measure
    ./dev bench general_model --work FOLDER --measure    measure the model that comes with the program again

It is a run of the method `metric` with its defaults, in FOLDER/run: an interrupted one goes on. It is measured on all
structures of the atlas, none of which it has seen, in the episodes of the protocol `few-shot-all`, beside the cosine by
which models without a discriminant are compared. What makes masks in the model is left as it is; `benchmarks/masks.py`
trains that.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro
from safetensors.torch import load_file

from tomosift import methods
from tomosift.evaluate.episodes import episode_scores
from tomosift.evaluate.few_shot import embedded
from tomosift.evaluate.protocols import PROTOCOLS
from tomosift.evaluate.worlds import build_world
from tomosift.files import write_json
from tomosift.methods.metric import Config
from tomosift.nn.center_finder import weights_path
from tomosift.nn.classifier import Classifier, load_classifier, save_classifier
from tomosift.nn.heads import CosineHead, DiscriminantHead
from tomosift.train.run import read_json

FOLDER = weights_path().parent / "shipped" / "general"


@dataclass(frozen=True)
class Options:
    """How to train it."""

    work: Path
    """Folder for the run and simulated sets."""
    config: Config = field(default_factory=Config)
    seed: int = 700
    measure: bool = False
    """Only measure."""


def measure(model: Classifier, work: Path) -> dict[str, str]:
    """Accuracy of both ways to compare in episodes, with 95 % intervals."""
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


def told(losses: dict[str, float]) -> str:
    """The newest losses in words."""
    return ", ".join(f"{name} {value:.3f}" for name, value in losses.items()) or "simulated"


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Simulate, train, write and measure."""
    if options.measure:
        measure(load_classifier(Path("general")), options.work)
        return

    def progress(done: int, total: int, losses: dict[str, float]) -> None:
        if not losses or done % 100 == 0:
            print(f"{done} of {total}: {told(losses)}", flush=True)

    run = options.work / "run"
    model = methods.train("metric", options.config, None, run, options.seed, progress)
    about, card = (json.loads((FOLDER / name).read_text()) for name in ("about.json", "model.json"))
    made = Classifier(model.encoder, replace(model.card, decoder=card["decoder"]))
    made.head = model.head
    if made.decoder is not None:  # from the file, as the encoder beside it may be one that no longer is
        kept = load_file(FOLDER / "model.safetensors")
        of_decoder = {name.removeprefix("decoder."): kept[name] for name in kept if name.startswith("decoder.")}
        made.decoder.half().load_state_dict(of_decoder)
    save_classifier(FOLDER, made)
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    last = [entry for entry in entries if "loss" in entry][-1]
    described = {
        "what": "An encoder trained on complexes that do not exist, to start from.",
        "made_by": "./dev bench general_model --work FOLDER",
        "seed": options.seed,
        "config": asdict(options.config),
        "last_step": {key: value for key, value in last.items() if key != "time"},
        "environment": read_json(run / "environment.json"),
        "sources": f"{options.config.complexes} complexes of tomosift.simulate.random_complexes and what pickers take "
        f"for some, {options.config.complexes * options.config.boxes_each} boxes; no real structure",
        "accuracy_in_episodes_of_the_atlas_1_and_5_examples": measure(load_classifier(Path("general")), options.work),
        "limits": "Complexes of 60 kDa to 2.5 MDa in boxes of 32^3 at 10 A; what differs less than its noise allows to "
        "see it takes for one.",
        "license": "BSD-3-Clause, as the program",
    }
    write_json(FOLDER / "about.json", {**described, "masks": about["masks"]})


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

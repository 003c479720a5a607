"""Train the models that come with the package: encoders that separate macromolecular complexes.

    ./dev weights general_model --work FOLDER                 simulate, train, write into the package, measure
    ./dev weights general_model --work FOLDER --name dense    the same for the model from which detectors start
    ./dev weights general_model --work FOLDER --measure       measure the model of the package again

A model is a run of the method `metric`, in FOLDER/run; an interrupted one resumes. It is measured on all structures of
the atlas, none of which it was trained on, in the episodes of the protocol `few-shot-all`. The cosine, by which models
without a PLDA compare, is measured as well. `dense`, which does not recenter, is measured on subtomograms within a
voxel of the center. The decoder of `general` is kept; `./dev weights masks` trains it.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from safetensors.torch import load_file

from tomosift import methods
from tomosift.evaluation.benchmark.datasets import build_data
from tomosift.evaluation.benchmark.protocols import PROTOCOLS
from tomosift.evaluation.metrics.few_shot import score_episodes
from tomosift.files import write_json
from tomosift.inference.classifier import Classifier
from tomosift.inference.heads import CosineHead, PLDAHead
from tomosift.inference.model_files import load_classifier, save_classifier
from tomosift.inference.prediction import embed
from tomosift.methods.metric import Config
from tomosift.models.center_finder import weights_path
from tomosift.simulation.synthetic_stream import WIDE_RANGES
from tomosift.train.run import read_json

SHIPPED = weights_path().parent
MODELS = {
    "general": Config(),
    "dense": Config(encoder="dense", complexes=2048, imaging=replace(WIDE_RANGES, shift_voxels=(-2.0, 2.0))),
}
USES = {"general": "to start from", "dense": "for scans of whole tomograms to start from"}
SHIFT_VOXELS = {"general": None, "dense": 1.0}
"""Largest shift of the measured particles along each axis; None for that of the protocol."""


@dataclass(frozen=True)
class Options:
    """Which model to train, and how."""

    work: Path
    """Folder for the run and simulated sets."""
    name: Literal["general", "dense"] = "general"
    seed: int = 700
    measure: bool = False
    """Only measure."""


def measure(name: str, work: Path) -> dict[str, str]:
    """Measure the accuracy of PLDA and cosine in episodes, with 95 % intervals."""
    result = {}
    model, protocol = load_classifier(Path(name)), PROTOCOLS["few-shot-all"]
    if (shift := SHIFT_VOXELS[name]) is not None:
        protocol = replace(protocol, shift_voxels=shift)
    head = model.head
    assert isinstance(head, PLDAHead)
    for snr in (0.1, 0.03):
        test = build_data(protocol, snr, 0, work / f"test-{snr:g}").test
        embeddings = embed(model.adapt_to(test).embedder, test)
        for by, each in (("PLDA", head), ("cosine", CosineHead(embeddings.shape[1], 0))):
            each.standardize(torch.from_numpy(embeddings))
            for ways in (5, 8):
                one, five = (
                    score_episodes(embeddings, test.label, each, ways=ways, shots=shots).accuracy for shots in (1, 5)
                )
                result[f"SNR {snr:g}, {ways} classes, {by}"] = f"{one}, {five}"
                print(f"SNR {snr:g}, {ways} classes, 1 and 5 examples, {by}: {one}, {five}", flush=True)
    return result


def _with_decoder(model: Classifier, decoder: str, folder: Path) -> Classifier:
    """Return the model with the decoder of the one that it replaces."""
    made = Classifier(model.embedder, replace(model.card, decoder=decoder))
    made.head = model.head
    if made.decoder is not None:  # from the file, since the encoder beside it may be of an earlier architecture
        kept = load_file(folder / "model.safetensors")
        of_decoder = {name.removeprefix("decoder."): kept[name] for name in kept if name.startswith("decoder.")}
        made.decoder.half().load_state_dict(of_decoder)
    return made


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Simulate, train, write and measure."""
    if options.measure:
        measure(options.name, options.work)
        return
    config, folder = MODELS[options.name], SHIPPED / options.name

    def progress(done: int, total: int, note: str = "") -> None:
        if not note.startswith("loss") or done % 100 == 0:
            print(f"{done} of {total}: {note}", flush=True)

    run = options.work / "run"
    model = methods.train("metric", config, None, run, options.seed, progress)
    masks: dict[str, Any] = {}
    if (folder / "about.json").exists():
        about, card = (json.loads((folder / name).read_text()) for name in ("about.json", "model.json"))
        model, masks = _with_decoder(model, card["decoder"], folder), {k: about[k] for k in ("masks",) if k in about}
    save_classifier(folder, model)
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    last = [entry for entry in entries if "loss" in entry][-1]
    described = {
        "what": f"An encoder trained on synthetic complexes, {USES[options.name]}.",
        "made_by": f"./dev weights general_model --work FOLDER --name {options.name}",
        "seed": options.seed,
        "config": asdict(config),
        "last_step": {key: value for key, value in last.items() if key != "time"},
        "environment": read_json(run / "environment.json"),
        "sources": f"{config.complexes} complexes of tomosift.simulation.structures.synthetic_complexes and "
        f"distractors, {config.complexes * config.particles_per_complex} subtomograms; no real structure",
        "accuracy_in_episodes_of_the_atlas_1_and_5_examples": measure(options.name, options.work),
        "limits": "Complexes of 60 kDa to 2.5 MDa in boxes of 32^3 at 10 A; complexes that differ by less than the "
        "noise are not separated.",
        "license": "BSD-3-Clause, as the program",
    }
    write_json(folder / "about.json", {**described, **masks})


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

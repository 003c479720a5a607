"""Learn to give maps of known structures the look of measured boxes (CryoETGAN), and report how real that looks."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from tomosift import methods
from tomosift.cli.terminal import print_message, progress_bar
from tomosift.data.subtomograms import Subtomograms, open_subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.evaluation.metrics.realism import RealismScores, score_realism
from tomosift.evaluation.report.translation_report import Translated, write_translation_report
from tomosift.inference.classifier import GENERAL, Classifier
from tomosift.inference.prediction import embed
from tomosift.methods.cycle_wgan import Adversary, Config, held_out, maps_for_checks
from tomosift.models.generators import load_generator
from tomosift.simulate.maps import BoxStyle, measure_faithfulness
from tomosift.simulate.styles import fit_style
from tomosift.simulate.synthetic_stream import StructureStream
from tomosift.train.run import read_json

_JUDGED = 300
_COMPARED = ("plain", "power", "histogram")


def command(
    structures: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    like: Path,
    out: Path,
    steps: int = Config().training.steps,
    adversary: Adversary = "wasserstein",
    map_cycle_weight: float = Config().map_cycle_weight,
    init: Path | None = GENERAL,
    seed: int = 0,
) -> None:
    """Train a translator from maps of structures to boxes that look like those of a set, without labels.

    OUT then is the folder of a run with the translator, a classifier that learned from translated maps, and
    ``report.html``. `tomosift boxes --style OUT` makes labeled sets in this look. `train cycle_wgan` has all settings
    of the method.

    Args:
        structures: Names of the atlas, structure or map files; their names become the classes.
        like: Folder of the set whose look is wanted; labels in it are not used.
        out: Folder of the run; an interrupted one is continued.
        steps: Of critics and translators together.
        adversary: A true Wasserstein loss, or the least-squares one of the code that was released with the paper.
        map_cycle_weight: Of the distance of a map from what comes back of it; more keeps more of the map.
        init: Model by whose embeddings boxes are judged and the classifier learns; none for random weights.
        seed: Seed of weights, poses, order and noise.
    """
    boxes = open_subtomograms(like)
    config = Config(structures, init, adversary=adversary, map_cycle_weight=map_cycle_weight)
    config = replace(config, training=replace(config.training, steps=steps))
    none = boxes.select(np.zeros(0, dtype=np.int64))
    with progress_bar("translate", "steps") as update:
        model = methods.train(
            "cycle_wgan",
            config,
            TrainingSets.across(none, boxes),
            out,
            seed,
            lambda step, total, losses: update(step, total, f"loss {losses['loss']:.2f}"),
        )
    report = out / "report.html"
    title = f"{', '.join(structures[:4])}{' and others' if len(structures) > 4 else ''} like {like.name}"
    write_translation_report(
        report, title, _translated(config, model, boxes, out, seed), read_json(out / "config.json")
    )
    print_message(f"{out}: finished; boxes in this look: tomosift boxes --classes ... --style {out}")
    print_message(f"{report}: the report; open it in a browser")


def _translated(config: Config, model: Classifier, boxes: Subtomograms, out: Path, seed: int) -> Translated:
    """Everything that the report shows, on boxes and maps that training has not seen."""
    _, spare = held_out(boxes)
    measured = spare.volumes(spare.spaced_rows(_JUDGED))
    maps = maps_for_checks(config, boxes, seed)
    translation = load_generator(out)

    def embedded(volumes: np.ndarray) -> np.ndarray:
        return embed(model.encoder, lambda rows: volumes[rows], len(volumes))

    def made(style: BoxStyle) -> tuple[np.ndarray, np.ndarray]:
        plain = StructureStream(replace(maps, ranges=style.ranges), len(measured)).batch(0)
        worn = style(plain.volume, torch.Generator().manual_seed(seed))
        return plain.volume.numpy(), worn.numpy()

    of_measured = embedded(measured)
    verdicts: dict[str, RealismScores] = {}
    shown: dict[str, np.ndarray] = {}
    for name in _COMPARED:
        _, volumes = made(fit_style(name, boxes))
        verdicts[name] = score_realism(measured, volumes, of_measured, embedded(volumes), seed)
        if name == "plain":
            shown["simulated"] = volumes
    before, after = made(translation)
    verdicts["translated"] = score_realism(measured, after, of_measured, embedded(after), seed)
    shown = {"maps": before, "the same, translated": after, "measured": measured, **shown}
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return Translated(shown, verdicts, len(measured), measure_faithfulness(maps, translation), log)

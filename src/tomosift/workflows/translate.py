"""Train a generator that gives density maps the style of measured subtomograms (CryoETGAN), and report on it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from tomosift import methods
from tomosift.data.splits import split_target
from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.evaluation.metrics.realism import RealismScores, score_realism
from tomosift.evaluation.report.translation_report import TranslationResult, write_translation_report
from tomosift.inference.classifier import Classifier
from tomosift.inference.model_files import GENERAL
from tomosift.inference.prediction import embed_volumes
from tomosift.methods.cycle_wgan import Config, describe_held_out_maps
from tomosift.models.generator_files import load_generator
from tomosift.objectives.cycle_wgan import AdversarialLoss
from tomosift.progress import Monitor
from tomosift.simulation.style_baselines import fit_style
from tomosift.simulation.style_transfer import StyleTransfer, measure_faithfulness
from tomosift.simulation.synthetic_stream import StructureStream
from tomosift.train.run import read_json

_COMPARED_STYLES = ("plain", "power", "histogram")
_MAX_EVALUATED = 300

Volumes = NDArray[np.float32]


def translate(
    subtomograms: Path | str | Subtomograms,
    structures: Sequence[str],
    out: Path | str,
    *,
    steps: int = Config().training.steps,
    adversarial_loss: AdversarialLoss = "wasserstein",
    map_cycle_weight: float = Config().map_cycle_weight,
    init: Path | str | None = GENERAL,
    seed: int = 0,
    monitor: Monitor | None = None,
) -> Classifier:
    """Train a generator from maps of structures to subtomograms in the style of a set, without labels.

    ``out`` then is the folder of a run with the generator, a classifier trained on generated subtomograms, and
    ``report.html``.

    Parameters
    ----------
    subtomograms
        The set whose style the generator learns, or its folder; its labels are not used.
    structures
        Names of the atlas, structure or map files; their names become the classes.
    out
        Folder of the run; an interrupted one resumes.
    steps
        Training steps of critics and generators together.
    adversarial_loss
        A Wasserstein loss, or the least-squares one of the code that was released with the paper.
    map_cycle_weight
        Weight of the distance between a map and its reconstruction; more keeps more of the map.
    init
        Model by whose embeddings the result is evaluated and the classifier trained; None for random weights.
    seed
        Seed of all random numbers.
    monitor
        Shows stages and messages.

    Notes
    -----
    Source: Wu et al. 2022, "CryoETGAN", Front. Physiol. 13:760404; see `tomosift.methods.cycle_wgan`.
    """
    out, monitor = Path(out), monitor or Monitor()
    if not isinstance(subtomograms, Subtomograms):
        subtomograms = open_subtomograms(Path(subtomograms))
    start = None if init is None else Path(init)
    config = Config(
        structures=tuple(structures),
        init=start,
        adversarial_loss=adversarial_loss,
        map_cycle_weight=map_cycle_weight,
    )
    config = replace(config, training=replace(config.training, steps=steps))
    data = TrainingSets.from_domains(subtomograms.empty(), subtomograms)
    with monitor.stage("translate", "steps") as progress:
        model = methods.train("cycle_wgan", config, data, out, seed, progress)
    report = out / "report.html"
    title = f"{', '.join(structures[:4])}{' and others' if len(structures) > 4 else ''} like {subtomograms.path.name}"
    result = _evaluate(config, model, subtomograms, out, seed)
    write_translation_report(report, title, result, read_json(out / "config.json"))
    monitor.message(f"{report}: the report; open it in a browser")
    return model


def _evaluate(config: Config, model: Classifier, target: Subtomograms, out: Path, seed: int) -> TranslationResult:
    """Everything that the report shows, on subtomograms and maps that training did not use."""
    _, held_out = split_target(target)
    measured = held_out.volumes(held_out.spaced_rows(_MAX_EVALUATED))
    maps = describe_held_out_maps(config, target, seed)
    generator = load_generator(out)

    def embed(volumes: Volumes) -> Float[np.ndarray, "n e"]:
        return embed_volumes(model.embedder, lambda rows: volumes[rows], len(volumes))

    def simulate(style: StyleTransfer) -> tuple[Volumes, Volumes]:
        plain = StructureStream(replace(maps, ranges=style.ranges), len(measured)).batch(0)
        styled = style(plain.volume, torch.Generator().manual_seed(seed))
        return plain.volume.numpy(), styled.numpy()

    measured_embeddings = embed(measured)
    realism: dict[str, RealismScores] = {}
    shown: dict[str, Volumes] = {}
    for name in _COMPARED_STYLES:
        _, volumes = simulate(fit_style(name, target))
        realism[name] = score_realism(measured, volumes, measured_embeddings, embed(volumes), seed)
        if name == "plain":
            shown["simulated"] = volumes
    before, after = simulate(generator)
    realism["translated"] = score_realism(measured, after, measured_embeddings, embed(after), seed)
    shown = {"maps": before, "the same, translated": after, "measured": measured, **shown}
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return TranslationResult(shown, realism, len(measured), measure_faithfulness(maps, generator), log)

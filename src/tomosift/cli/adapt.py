"""Name boxes of which none is labeled: by another labeled set, or by simulations of known structures (Cryo-Shift)."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from tomosift import methods
from tomosift.cli.classify import command as classify
from tomosift.cli.evaluate import report_of
from tomosift.cli.inputs import labeled_set
from tomosift.cli.terminal import print_message, progress_bar, step_note
from tomosift.data.batches import Batch
from tomosift.data.subtomograms import Subtomograms, open_subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.errors import FormatError
from tomosift.evaluation.report import write_report
from tomosift.evaluation.report.domain_section import DomainComparison, domain_section
from tomosift.inference.classifier import load_classifier, shipped_models
from tomosift.inference.prediction import embed
from tomosift.methods.domain_adversarial import WARPED, Config, Features, source_of
from tomosift.models.encoder import BOXES_TO_PREPARE, Encoder
from tomosift.train.run import read_json

_COMPARED = 400


def command(
    model: Annotated[Path, tyro.conf.Positional],
    /,
    target: Path,
    out: Path,
    source: Path | None = None,
    labels: Path | None = None,
    label_column: str | None = None,
    label_tolerance: float = 30.0,
    structures: tuple[str, ...] = (),
    features: Features = "class-wise",
    warps: bool = True,
    steps: int = 200,
    seed: int = 0,
) -> None:
    """Carry a model over to boxes without labels.

    OUT then holds ``adapted`` (a run), ``classified.star`` and ``report.html``. `train domain_adversarial` has all
    settings of the method.

    Args:
        model: Supervised run, whose labels are the source; or `general`, with --source or --structures.
        target: Folder of the set to be classified; labels in it are not used.
        out: Folder for everything that is made; an interrupted job goes on.
        source: Folder of a labeled set, instead of the one that the run was trained on.
        labels: Particle table with a class for some particles of the source, such as `label` writes; by default the
            classes that the set came with.
        label_column: Column of that table to take the class from.
        label_tolerance: Farthest distance in Angstrom between a label and its particle.
        structures: Names of the atlas, structure or map files, from which the source is simulated at every step.
        features: What keeps embeddings of both domains alike.
        warps: Also learn from source boxes that were warped to pass for target boxes.
        steps: Of training on both domains together.
        seed: Seed of weights, order, simulations and noise.
    """
    boxes = open_subtomograms(target)
    if source is not None and structures:
        raise ValueError("--source and --structures are two sources; give one of them")
    if labels is not None and structures:
        raise ValueError("--labels are of particles of a --source; --structures have classes of their own")
    if structures:
        labeled = boxes.select(_none())
    else:
        told = (
            None
            if labels is None
            else partial(labeled_set, path=labels, column=label_column, voxel_spacing=None, tolerance=label_tolerance)
        )
        labeled = _labeled(model, source, told)
    data = TrainingSets.across(labeled, boxes)
    config = Config(init=model, structures=structures, features=features, warps=warps)
    config = replace(config, training=replace(config.training, steps=steps))
    with progress_bar("adapt", "steps") as update:
        methods.train(
            "domain_adversarial",
            config,
            data,
            out / "adapted",
            seed,
            lambda step, total, losses: update(step, total, step_note(losses)),
        )
    table = out / "classified.star"
    classify(out / "adapted", target, table)
    section = domain_section(_compared(config, data, out / "adapted", seed), seed)
    write_report(
        out / "report.html", report_of(out / "adapted", boxes, title=f"{target.name} adapted"), domains=section
    )
    print_message(f"{table}: a class for every particle\n{out / 'report.html'}: the report; open it in a browser")


def _none() -> NDArray[np.int64]:
    return np.zeros(0, dtype=np.int64)


def _labeled(model: Path, source: Path | None, told: Callable[[Subtomograms], Subtomograms] | None) -> Subtomograms:
    """The source set: the one that is named, or the one that the run remembers, if it is still what it was."""
    if source is not None:
        boxes = open_subtomograms(source)
        return boxes if told is None else told(boxes)
    if str(model) in shipped_models():
        raise ValueError(f"{model} was trained on no set of yours; give a labeled one with --source, or --structures")
    path = model / "config.json"
    try:
        remembered = read_json(path)["data"]["labeled"]
        place, digest = Path(str(remembered["path"])), str(remembered["digest"])
    except (KeyError, TypeError):
        raise FormatError(path, "data", "no labeled set", "that of a supervised run", "give --source") from None
    boxes = open_subtomograms(place)
    if told is not None:
        boxes = told(boxes)
    if methods.set_digest(boxes) != digest:
        raise ValueError(
            f"the labels of {place} are not those that {model} was trained on; give the labeled set with --source, or "
            "the table of labels with --labels"
        )
    return boxes


def _compared(config: Config, data: TrainingSets, run: Path, seed: int) -> DomainComparison:
    """Both domains before and after, from some boxes of each."""
    assert config.init is not None
    known = source_of(config, data, seed)[1]
    rows = data.unlabeled.spaced_rows(_COMPARED)
    measured = data.unlabeled.volumes(rows)
    before, after = load_classifier(config.init).encoder, load_classifier(run).encoder
    before.prepare(torch.from_numpy(data.unlabeled.volumes(data.unlabeled.spaced_rows(BOXES_TO_PREPARE))))
    with torch.inference_mode():
        shown = {"source": after.centered(known.volume[:8]).numpy()}
        if (run / WARPED).exists():
            with np.load(run / WARPED, allow_pickle=False) as kept:
                shown = {"source": kept["source"], "source, warped": kept["warped"]}
        shown["target"] = after.centered(torch.from_numpy(measured[:8])).numpy()
    pairs = [
        (_embedded(encoder, known), embed(encoder, lambda k: measured[k], len(rows))) for encoder in (before, after)
    ]
    return DomainComparison(shown, *pairs)


def _embedded(encoder: Encoder, batch: Batch) -> NDArray[np.float32]:
    volumes = batch.volume[:_COMPARED].numpy()
    return embed(encoder, lambda rows: volumes[rows], len(volumes))

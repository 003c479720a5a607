"""Methods: each is one file with a frozen `Config` and a `train`; this is the table of them and the one door."""

import hashlib
import importlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from tomosift.data.subtomograms import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import Classifier, load_classifier, model_digest, save_classifier
from tomosift.train.loop import Progress, Training
from tomosift.train.processes import join_processes, run_on_first
from tomosift.train.run import Run

METHODS: dict[str, str] = {
    "active": "Ask for the labels of a few particles, round by round, and learn from those (HAL).",
    "contrastive": "Pretrain an encoder on unlabeled subtomograms by contrasting views of each (CSSL).",
    "cycle_wgan": "Learn to give density maps the look of measured boxes, and a classifier from such maps (CryoETGAN).",
    "domain_adversarial": "Train on labeled simulations for unlabeled measurements of another domain (Cryo-Shift).",
    "metric": "Pretrain an encoder on simulated complexes of every kind, to keep any complexes apart.",
    "one_shot": "Train on pairs to tell new classes apart by one example each, and to make masks (COS-Net).",
    "prototypical": "Train an encoder to tell new classes apart by a few examples of each (ProtoNet3D, ProtoNet-CE).",
    "supervised": "Train or fine-tune a classifier on labeled subtomograms.",
}


SEEN = "seen.json"
"""File of a run that names the particles whose labels it was shown; nothing is to be evaluated on them."""


@runtime_checkable
class Method(Protocol):
    """What the module of a method offers."""

    USES_LABELS: bool
    SHARES_BATCHES: bool
    """Whether several processes may train together, each on a part of every batch."""
    Config: type[Any]
    train: Callable[..., Classifier]


def method(name: str) -> Method:
    """The module of a method.

    Raises
    ------
    ValueError
        When the table has no such name.
    """
    if name not in METHODS:
        raise ValueError(f"method is {name!r}, expected one of {', '.join(METHODS)}")
    module: Any = importlib.import_module(f"tomosift.methods.{name}")
    return module  # type: ignore[no-any-return]


def set_digest(boxes: Subtomograms) -> str:
    """Which particles, and what each is labeled: the same wherever the set lies."""
    named = zip(boxes.particles.particle_id, boxes.particles.class_name, strict=True)
    return hashlib.sha256("\n".join(f"{name}\t{label}" for name, label in named).encode()).hexdigest()[:16]


def train(
    name: str, config: Any, data: TrainingSets | None, folder: Path, seed: int, progress: Progress | None = None
) -> Classifier:
    """Train a method into the folder of a run, or resume that run, and return the model that its result holds.

    Only a method that simulates what it learns from does without ``data``.

    Seeds torch before the model is built. A finished run is not trained again.

    Raises
    ------
    FormatError
        When the folder holds something else.
    ValueError
        When the method lacks data, for example labels.
    """
    module = method(name)
    if not isinstance(config, module.Config):
        raise ValueError(f"config is a {type(config).__name__}, expected {module.Config.__module__}.Config")
    meet(name, config)
    parts = {} if data is None else {name: getattr(data, name) for name in ("labeled", "unlabeled", "validation")}
    described = {
        "method": name,
        "seed": seed,
        "config": json.loads(json.dumps(asdict(config), default=os.fspath)),
        "starts_from": model_digest(config.init) if getattr(config, "init", None) else None,
        "data": {
            part: {
                "path": str(given.path),
                "boxes": len(given),
                "labeled": len(given.labeled_rows),
                "digest": set_digest(given),
            }
            for part, given in parts.items()
        },
    }
    resumed = run_on_first((folder / "config.json").exists)
    run = Run.open(folder, described)
    seen = {
        str(name)
        for part in (("labeled", "validation") if module.USES_LABELS else ())
        for name in parts[part].particles.particle_id[parts[part].labeled_rows]
    }
    run.write(SEEN, sorted(seen))
    if run_on_first((run.result / "model.json").exists):
        return load_classifier(run.result)
    torch.manual_seed(seed)
    try:
        classifier = module.train(config, data, run, seed, progress)
    except ValueError:
        # Bad input, found before the first step: what is put right must not meet the run that never was.
        if not resumed and not run.checkpoint.exists():
            run.abandon()
        raise
    run_on_first(lambda: save_classifier(run.result, classifier))
    return classifier


def meet(name: str, config: Any) -> None:
    """Start or meet the other processes of a training, before anything is written; `train` does so itself.

    Raises
    ------
    ValueError
        When the counts in the configuration make no sense, or the method trains in one process only.
    """
    training: Training = config.training
    training.check()
    if training.processes == 1:
        return
    if not method(name).SHARES_BATCHES:
        what = "devices" if training.devices > 1 else "nodes"
        raise ValueError(f"{what} is {getattr(training, what)}, expected 1: {name} trains in one process only")
    join_processes(training.devices, training.nodes, training.precision)

"""Training methods: the table of them, what each one declares, and the function that runs them.

A method is one module of this room. Its docstring names the source; it defines a frozen `Config`, a function ``train``
and the constants that `Method` lists. To add a method, write its module and add a line to `METHODS`: the command line,
the conformance tests and the refusal of impossible requests follow from these two.
"""

import hashlib
import importlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch

from tomosift.data.subtomogram_set import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.errors import FormatError
from tomosift.folder_lock import locked_folder
from tomosift.inference.classifier import Classifier
from tomosift.inference.model_files import load_classifier, model_digest, save_classifier
from tomosift.progress import Progress
from tomosift.train.config import config_from_json
from tomosift.train.loop import Training
from tomosift.train.processes import is_first_process, join_processes, run_on_first
from tomosift.train.run import Run, read_json

METHODS: dict[str, str] = {
    "active": "Query the labels of a few particles, round by round, and train a classifier on these (HAL).",
    "contrastive": "Pretrain an encoder on unlabeled subtomograms by contrasting views of each (CSSL).",
    "cycle_wgan": "Train a generator from density maps to realistic subtomograms, and a classifier (CryoETGAN).",
    "domain_adversarial": "Train a classifier for an unlabeled target domain from a labeled source (Cryo-Shift).",
    "metric": "Pretrain an encoder on synthetic complexes of every kind, so that it separates any complexes.",
    "one_shot": "Train on pairs of particles to classify by one example of each class, and to predict masks (COS-Net).",
    "prototypical": "Train on episodes to classify new classes by a few examples of each (ProtoNet3D, ProtoNet-CE).",
    "supervised": "Train or fine-tune a classifier on labeled subtomograms.",
}
"""Name of each method, and what it does. The name is the module and the word on the command line."""

LABELED_PARTICLES = "seen.json"
"""File of a run that lists the particles whose labels it used; evaluation leaves them out."""


@dataclass(frozen=True)
class TrainingInput:
    """What a method trains on, in the terms of a command line."""

    kind: Literal["none", "set", "labels", "domains"]
    """What becomes the `TrainingSets`: nothing, for a method that simulates everything; one set; one set whose labels a
    particle table may replace; or an unlabeled set of the target domain (`TrainingSets.from_domains`)."""
    description: str = ""
    """Help text for the folder of the set, or of the target set."""
    validation: Literal["none", "table", "classes"] = "none"
    """For ``labels``, what the validation set is: nothing; the particles that another table of labels names; or the
    particles of some classes, which then are not trained on."""
    has_source: bool = False
    """For ``domains``, whether there may be a labeled set of the source domain. Either that set or
    ``config.structures`` is given."""


@runtime_checkable
class Method(Protocol):
    """What the module of a method defines.

    Where fields of ``Config`` had other names or values in earlier versions, it also defines ``RENAMED`` (old name ->
    new name) or ``RENAMED_VALUES`` (name -> old value -> new value). Dots separate the levels of nested settings.
    """

    INPUT: TrainingInput
    USES_LABELS: bool
    """Whether the run uses the labels of its labeled and its validation set."""
    SHARES_BATCHES: bool
    """Whether several processes may train together, each on a part of every batch."""
    Config: type[Any]
    train: Callable[..., Classifier]


def load_method(name: str) -> Method:
    """Return the module of a method.

    Raises
    ------
    ValueError
        When the table has no such name.

    Examples
    --------
    >>> load_method("contrastive").INPUT.kind
    'set'
    """
    if name not in METHODS:
        raise ValueError(f"method is {name!r}, expected one of {', '.join(METHODS)}")
    module: Any = importlib.import_module(f"tomosift.methods.{name}")
    return module  # type: ignore[no-any-return]


def read_config(name: str, path: Path) -> Any:
    """Return the configuration of an earlier run of a method, in its present form.

    Parameters
    ----------
    name
        Of the method.
    path
        Folder of the run, or its config.json.

    Returns
    -------
    object
        Instance of the method's ``Config``.

    Raises
    ------
    FormatError
        When the file is no configuration of this method.
    """
    path = path / "config.json" if path.is_dir() else path
    description = read_json(path)
    if "config" not in description:
        raise FormatError(path, "config", "missing", "the config.json of a run", "check the path")
    return config_from_json(
        load_method(name).Config, description["config"], path, _renamed(name), _renamed_values(name)
    )


def set_digest(subtomograms: Subtomograms) -> str:
    """Return a checksum of the particles of a set and their labels; the same wherever the set is stored."""
    particles = subtomograms.particles
    lines = (f"{name}\t{label}" for name, label in zip(particles.particle_id, particles.class_name, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def train(
    name: str, config: Any, data: TrainingSets | None, folder: Path, seed: int, progress: Progress | None = None
) -> Classifier:
    """Train a method into the folder of a run, or resume that run, and return the resulting model.

    The global generator of torch is seeded before the model is built. A finished run is not trained again.

    Parameters
    ----------
    name
        Of the method, see `METHODS`.
    config
        Instance of the method's ``Config``.
    data
        Labeled, unlabeled and validation subtomograms; None for a method that simulates all of them.
    folder
        Of the run; new, empty, or that of an interrupted run of the same request.
    seed
        Of weights, order of batches, augmentation and noise.
    progress
        Called after each step; the note is the loss.

    Returns
    -------
    Classifier
        The model that ``folder/result`` holds.

    Raises
    ------
    FormatError
        When the folder holds something else.
    ValueError
        When the method lacks data, for example labels, or another process trains in this folder.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from tomosift.data.set_writer import SubtomogramWriter
    >>> from tomosift.particles import Particles
    >>> folder = Path(tempfile.mkdtemp())
    >>> writer = SubtomogramWriter(folder / "set", box_size=16, voxel_spacing_angstrom=10.0)
    >>> volume = np.random.default_rng(0).normal(size=(8, 16, 16, 16))
    >>> writer.append(volume, Particles.create(["TS_01"] * 8, np.zeros((8, 3))), (-60.0, 60.0))
    >>> subtomograms = writer.close()
    >>> config = load_method("contrastive").Config(init=None, training=Training(steps=1, batch_size=4))
    >>> data = TrainingSets.from_labels(subtomograms, subtomograms)
    >>> train("contrastive", config, data, folder / "run", seed=0).card.encoder
    'radial'
    """
    module = load_method(name)
    if not isinstance(config, module.Config):
        raise ValueError(f"config is a {type(config).__name__}, expected {module.Config.__module__}.Config")
    start_processes(name, config)
    with locked_folder(folder.absolute(), is_inside=False) if is_first_process() else nullcontext():
        return _train(name, config, data, folder, seed, progress)


def _train(
    name: str, config: Any, data: TrainingSets | None, folder: Path, seed: int, progress: Progress | None
) -> Classifier:
    module = load_method(name)
    is_resumed = run_on_first((folder / "config.json").exists)
    run = Run.open(
        folder,
        _describe(name, config, data, seed),
        {f"config.{old}": f"config.{new}" for old, new in _renamed(name).items()},
        {f"config.{field}": values for field, values in _renamed_values(name).items()},
    )
    run.write(LABELED_PARTICLES, _labeled_particles(data) if data is not None and module.USES_LABELS else [])
    if run_on_first((run.result / "model.json").exists):
        return load_classifier(run.result)
    torch.manual_seed(seed)
    try:
        classifier = module.train(config, data, run, seed, progress)
    except ValueError:
        # The request was refused before the first step; a corrected one may use the same folder.
        if not is_resumed and not run.checkpoint.exists():
            run.abandon()
        raise
    run_on_first(lambda: save_classifier(run.result, classifier))
    return classifier


def start_processes(name: str, config: Any) -> None:
    """Start or join the other processes of a training, before anything is written; `train` calls this itself.

    Raises
    ------
    ValueError
        When the numbers in ``config.training`` are impossible, or the method trains in one process only.
    """
    training: Training = config.training
    training.check()
    if training.processes == 1:
        return
    if not load_method(name).SHARES_BATCHES:
        field = "devices" if training.devices > 1 else "nodes"
        raise ValueError(f"{field} is {getattr(training, field)}, expected 1: {name} trains in one process only")
    join_processes(training.devices, training.nodes, training.precision)


def _describe(name: str, config: Any, data: TrainingSets | None, seed: int) -> dict[str, Any]:
    """Everything that determines the result of a run, as JSON."""
    parts = {} if data is None else {part: getattr(data, part) for part in ("labeled", "unlabeled", "validation")}
    return {
        "method": name,
        "seed": seed,
        "config": json.loads(json.dumps(asdict(config), default=os.fspath)),
        "starts_from": model_digest(config.init) if getattr(config, "init", None) else None,
        "data": {
            part: {
                "path": str(subtomograms.path),
                "boxes": len(subtomograms),
                "labeled": len(subtomograms.labeled_rows),
                "digest": set_digest(subtomograms),
            }
            for part, subtomograms in parts.items()
        },
    }


def _labeled_particles(data: TrainingSets) -> list[str]:
    """Names of all particles that carry a label in the labeled or the validation set."""
    parts = (data.labeled, data.validation)
    return sorted({str(name) for part in parts for name in part.particles.particle_id[part.labeled_rows]})


def _renamed(name: str) -> Mapping[str, str]:
    return getattr(load_method(name), "RENAMED", {})


def _renamed_values(name: str) -> Mapping[str, Mapping[str, str]]:
    return getattr(load_method(name), "RENAMED_VALUES", {})

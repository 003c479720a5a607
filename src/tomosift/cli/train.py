"""Train a method on a set of subtomograms."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from tomosift import methods
from tomosift.cli.inputs import labeled_set
from tomosift.cli.terminal import print_message, progress_bar, step_note
from tomosift.data.subtomograms import open_subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.errors import FormatError
from tomosift.methods.active import Config as Active
from tomosift.methods.contrastive import Config as Contrastive
from tomosift.methods.cycle_wgan import Config as CycleWgan
from tomosift.methods.domain_adversarial import Config as DomainAdversarial
from tomosift.methods.metric import Config as Metric
from tomosift.methods.one_shot import Config as OneShot
from tomosift.methods.prototypical import Config as Prototypical
from tomosift.methods.supervised import Config as Supervised
from tomosift.train.config import config_from_json
from tomosift.train.processes import is_first
from tomosift.train.run import read_json


def active(
    subtomograms: Annotated[Path, tyro.conf.Positional],
    /,
    out: Path,
    config: Annotated[Active, tyro.conf.arg(name="")] = Active(),
    from_config: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    seed: int = 0,
) -> None:
    """Ask for labels round by round in a set that has them all, and learn from those that were asked for.

    Args:
        subtomograms: Folder of a set with classes.
        out: Folder of the run; an interrupted one is continued.
        config: Settings of the method.
        from_config: An earlier run or its config.json, whose settings are used instead of those given here.
        seed: Seed of weights, queries and views.
    """
    boxes = open_subtomograms(subtomograms)
    _train("active", _chosen(config, from_config), TrainingSets(boxes, boxes, boxes.select(_none())), out, seed)


def contrastive(
    subtomograms: Annotated[Path, tyro.conf.Positional],
    /,
    out: Path,
    config: Annotated[Contrastive, tyro.conf.arg(name="")] = Contrastive(),
    from_config: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    seed: int = 0,
) -> None:
    """Pretrain an encoder on all boxes of a set; labels are not used.

    Args:
        subtomograms: Folder of a set.
        out: Folder of the run; an interrupted one is continued.
        config: Settings of the method.
        from_config: An earlier run or its config.json, whose settings are used instead of those given here.
        seed: Seed of weights, order, views and noise.
    """
    boxes = open_subtomograms(subtomograms)
    _train("contrastive", _chosen(config, from_config), TrainingSets(boxes, boxes, boxes.select(_none())), out, seed)


def supervised(
    subtomograms: Annotated[Path, tyro.conf.Positional],
    /,
    out: Path,
    labels: Path | None = None,
    label_column: str | None = None,
    label_tolerance: float = 30.0,
    validation: Path | None = None,
    config: Annotated[Supervised, tyro.conf.arg(name="")] = Supervised(),
    from_config: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    seed: int = 0,
) -> None:
    """Train a classifier on the labeled boxes of a set, from scratch or from a pretrained encoder (--init).

    Args:
        subtomograms: Folder of a set.
        out: Folder of the run; an interrupted one is continued.
        labels: Particle table with a class for some particles; without it the classes that the set came with.
        label_column: Column of that table to take the class from.
        label_tolerance: Farthest distance in Angstrom between a label and its particle.
        validation: Another table of labels, which stop training early and calibrate probabilities.
        config: Settings of the method.
        from_config: An earlier run or its config.json, whose settings are used instead of those given here.
        seed: Seed of weights, order, views and noise.
    """
    boxes = open_subtomograms(subtomograms)
    given = boxes if labels is None else labeled_set(boxes, labels, label_column, None, label_tolerance)
    held_out = given.select(_none())
    if validation is not None:
        held_out = labeled_set(boxes, validation, label_column, None, label_tolerance)
        held_out = held_out.with_labels(held_out.particles.class_name, given.class_names)
        held_out = held_out.select(held_out.labeled_rows)
    _train("supervised", _chosen(config, from_config), TrainingSets(given, given, held_out), out, seed)


def domain_adversarial(
    target: Annotated[Path, tyro.conf.Positional],
    /,
    out: Path,
    source: Path | None = None,
    config: Annotated[DomainAdversarial, tyro.conf.arg(name="")] = DomainAdversarial(),
    from_config: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    seed: int = 0,
) -> None:
    """Train a classifier for unlabeled boxes from labeled boxes of another domain, such as simulated ones.

    Args:
        target: Folder of the set to be classified; labels in it are not used.
        out: Folder of the run; an interrupted one is continued.
        source: Folder of a set with classes, of the same box size and voxel spacing; without it --structures are
            simulated.
        config: Settings of the method.
        from_config: An earlier run or its config.json, whose settings are used instead of those given here.
        seed: Seed of weights, order, simulations and noise.
    """
    chosen = _chosen(config, from_config)
    if (source is None) == (not chosen.structures):
        raise ValueError("give either a labeled set with --source or structures to simulate with --structures")
    boxes = open_subtomograms(target)
    labeled = boxes.select(_none()) if source is None else open_subtomograms(source)
    _train("domain_adversarial", chosen, TrainingSets.across(labeled, boxes), out, seed)


def cycle_wgan(
    target: Annotated[Path, tyro.conf.Positional],
    /,
    out: Path,
    config: Annotated[CycleWgan, tyro.conf.arg(name="")] = CycleWgan(),
    from_config: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    seed: int = 0,
) -> None:
    """Train a translator from maps of structures to boxes that look like those of a set; `translate` also reports.

    Args:
        target: Folder of the set whose look is wanted; labels in it are not used.
        out: Folder of the run; an interrupted one is continued.
        config: Settings of the method.
        from_config: An earlier run or its config.json, whose settings are used instead of those given here.
        seed: Seed of weights, poses, order and noise.
    """
    boxes = open_subtomograms(target)
    data = TrainingSets.across(boxes.select(_none()), boxes)
    _train("cycle_wgan", _chosen(config, from_config), data, out, seed)


def metric(
    out: Path,
    config: Annotated[Metric, tyro.conf.arg(name="")] = Metric(),
    from_config: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    seed: int = 0,
) -> None:
    """Pretrain an encoder on simulated complexes, for other boxes than those that `general` was made for.

    What it makes can stand wherever `general` does: --init of other methods, --model of `identify`.

    Args:
        out: Folder of the run; an interrupted one is continued.
        config: Settings of the method.
        from_config: An earlier run or its config.json, whose settings are used instead of those given here.
        seed: Seed of complexes, poses, noise, weights and order.
    """
    _train("metric", _chosen(config, from_config), None, out, seed)


def one_shot(
    subtomograms: Annotated[Path, tyro.conf.Positional],
    /,
    out: Path,
    config: Annotated[OneShot, tyro.conf.arg(name="")] = OneShot(),
    from_config: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    seed: int = 0,
) -> None:
    """Train on pairs of boxes to tell classes apart by one example each, and to make masks.

    Args:
        subtomograms: Folder of a set with classes and masks, as `tomosift boxes` makes it.
        out: Folder of the run; an interrupted one is continued.
        config: Settings of the method.
        from_config: An earlier run or its config.json, whose settings are used instead of those given here.
        seed: Seed of weights, pairs and order.
    """
    boxes = open_subtomograms(subtomograms)
    _train("one_shot", _chosen(config, from_config), TrainingSets(boxes, boxes, boxes.select(_none())), out, seed)


def prototypical(
    subtomograms: Annotated[Path, tyro.conf.Positional],
    /,
    out: Path,
    labels: Path | None = None,
    label_column: str | None = None,
    label_tolerance: float = 30.0,
    validation_classes: tuple[str, ...] = (),
    config: Annotated[Prototypical, tyro.conf.arg(name="")] = Prototypical(),
    from_config: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    seed: int = 0,
) -> None:
    """Train an encoder to tell classes apart by a few examples each; `identify --model` then enrols others in it.

    Args:
        subtomograms: Folder of a set with many classes, twenty boxes or more of each.
        out: Folder of the run; an interrupted one is continued.
        labels: Particle table with a class for some particles; without it the classes that the set came with.
        label_column: Column of that table to take the class from.
        label_tolerance: Farthest distance in Angstrom between a label and its particle.
        validation_classes: Classes that are not trained on but stop training early; without, all steps are taken.
        config: Settings of the method.
        from_config: An earlier run or its config.json, whose settings are used instead of those given here.
        seed: Seed of weights, order, views and noise.
    """
    boxes = open_subtomograms(subtomograms)
    given = boxes if labels is None else labeled_set(boxes, labels, label_column, None, label_tolerance)
    if missing := sorted(set(validation_classes) - set(given.class_names)):
        raise ValueError(
            f"validation class {missing[0]} is not among those of {subtomograms}: {', '.join(given.class_names)}"
        )
    spare = np.isin(given.particles.class_name.astype(str), validation_classes)
    _train(
        "prototypical",
        _chosen(config, from_config),
        TrainingSets(given.select(~spare), given, given.select(spare)),
        out,
        seed,
    )


def _none() -> Any:
    return np.zeros(0, dtype=np.int64)


def _chosen(config: Any, path: Path | None) -> Any:
    if path is None:
        return config
    path = path / "config.json" if path.is_dir() else path
    described = read_json(path)
    if "config" not in described:
        raise FormatError(path, "config", "missing", "the config.json of a run", "check the path")
    return config_from_json(type(config), described["config"], path)


def _train(name: str, config: Any, data: TrainingSets | None, out: Path, seed: int) -> None:
    config = replace(config, training=config.training.as_launched())
    methods.meet(name, config)
    if not is_first():
        methods.train(name, config, data, out, seed)
        return
    with progress_bar(name, "steps") as update:
        methods.train(
            name,
            config,
            data,
            out,
            seed,
            lambda step, steps, losses: update(step, steps, step_note(losses) if losses else "simulating"),
        )
    print_message(f"{out}: finished; the model is in {out / 'result'}")


command = {
    "active": active,
    "contrastive": contrastive,
    "cycle_wgan": cycle_wgan,
    "domain_adversarial": domain_adversarial,
    "metric": metric,
    "one_shot": one_shot,
    "prototypical": prototypical,
    "supervised": supervised,
}

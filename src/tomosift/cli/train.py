"""Train a method on a set: one command for each entry of METHODS, generated from what the method declares."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from tomosift import methods
from tomosift.cli.options import LabelColumn, LabelTolerance, Seed
from tomosift.cli.terminal import print_message, progress_bar
from tomosift.cli.usual import usual_options
from tomosift.data.labels import label_subtomograms
from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.train.processes import is_first_process

_DOCSTRING = """{sentence}

    Args:
        subtomograms: {description}
        out: Folder of the run; an interrupted run resumes.
        source: Folder of a set with classes, of the same box size and voxel spacing; without it --structures are
            simulated.
        labels: Particle table with a class for some particles; without it the classes that the set came with.
        validation: Another table of labels, which stop training early and calibrate probabilities.
        validation_classes: Classes that are not trained on but stop training early; without any, all steps are taken.
        config: Settings of the method.
        from_config: An earlier run or its config.json, whose settings are used instead of those given here.
    """


def _name_model_option(config: type[Any]) -> type[Any]:
    """The same configuration, whose field ``init`` is the option --model, as the trained models of other commands."""
    init = next((field for field in fields(config) if field.name == "init"), None)
    if init is None:
        return config
    annotation = Annotated[init.type, tyro.conf.arg(name="model")]
    members = {"__annotations__": {"init": annotation}, "init": init.default, "__module__": config.__module__}
    return dataclass(frozen=True)(type(config.__name__, (config,), members))


def _parameters(name: str) -> dict[str, tuple[Any, Any]]:
    """Name, type and default of each parameter of the command of a method."""
    module = methods.load_method(name)
    kind, validation = module.INPUT.kind, module.INPUT.validation
    required = inspect.Parameter.empty
    parameters: dict[str, tuple[Any, Any]] = {}
    if kind != "none":
        parameters["subtomograms"] = (Annotated[Path, tyro.conf.Positional, tyro.conf.arg(name="SET")], required)
    parameters["out"] = (Path, required)
    if module.INPUT.has_source:
        parameters["source"] = (Path | None, None)
    if kind == "labels":
        parameters["labels"] = (Path | None, None)
        parameters["label_column"] = (LabelColumn, None)
        parameters["label_tolerance"] = (LabelTolerance, 30.0)
        if validation == "table":
            parameters["validation"] = (Path | None, None)
        if validation == "classes":
            parameters["validation_classes"] = (tuple[str, ...], ())
    config = _name_model_option(module.Config)
    parameters["config"] = (Annotated[config, tyro.conf.arg(name="")], config())
    parameters["from_config"] = (Annotated[Path | None, tyro.conf.arg(name="from")], None)
    parameters["seed"] = (Seed, 0)
    return parameters


def _build_command(name: str) -> Callable[..., None]:
    """The command that trains a method, with the signature that tyro reads."""
    parameters = _parameters(name)

    def command(*positional: Path, **options: Any) -> None:
        if positional:
            options["subtomograms"] = positional[0]
        _run(name, **options)

    order = [
        inspect.Parameter(
            key,
            inspect.Parameter.POSITIONAL_ONLY if key == "subtomograms" else inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=default,
            annotation=annotation,
        )
        for key, (annotation, default) in parameters.items()
    ]
    command.__signature__ = inspect.Signature(order)  # type: ignore[attr-defined]
    command.__annotations__ = {key: annotation for key, (annotation, _) in parameters.items()} | {"return": None}
    lines = _DOCSTRING.format(
        sentence=methods.METHODS[name], description=methods.load_method(name).INPUT.description
    ).splitlines()
    command.__doc__ = "\n".join(_keep_arguments(lines, set(parameters)))
    command.__name__ = name
    return usual_options("labels", "label_column", "source", "validation", "config", "from_config", "seed")(command)


def _keep_arguments(lines: list[str], names: set[str]) -> list[str]:
    """The lines of a docstring without arguments that a command does not have."""
    kept, is_kept = [], True
    for line in lines:
        if line.startswith("        ") and not line.startswith("         "):
            is_kept = line.strip().partition(":")[0] in names
        if is_kept:
            kept.append(line)
    return kept


def _run(
    name: str,
    out: Path,
    config: Any,
    seed: int,
    from_config: Path | None = None,
    subtomograms: Path | None = None,
    **options: Any,
) -> None:
    if from_config is not None:
        config = methods.read_config(name, from_config)
    data = None if subtomograms is None else _open_sets(name, subtomograms, config, **options)
    config = replace(config, training=config.training.match_launcher())
    methods.start_processes(name, config)
    if not is_first_process():
        methods.train(name, config, data, out, seed)
        return
    with progress_bar(name, "steps") as progress:
        methods.train(name, config, data, out, seed, progress)
    print_message(f"{out}: finished; the model is in {out / 'result'}")


def _open_sets(
    name: str,
    path: Path,
    config: Any,
    source: Path | None = None,
    labels: Path | None = None,
    label_column: str | None = None,
    label_tolerance: float = 30.0,
    validation: Path | None = None,
    validation_classes: tuple[str, ...] = (),
) -> TrainingSets:
    """The training sets of a method from what the command was given."""
    wanted = methods.load_method(name).INPUT
    if wanted.has_source and (source is None) == (not config.structures):
        raise ValueError("give either a labeled set with --source or structures to simulate with --structures")
    subtomograms = open_subtomograms(path)
    if wanted.kind == "set":
        return TrainingSets.from_labels(subtomograms, subtomograms)
    if wanted.kind == "domains":
        labeled = subtomograms.empty() if source is None else open_subtomograms(source)
        return TrainingSets.from_domains(labeled, subtomograms)

    def label(table: Path) -> Subtomograms:
        return label_subtomograms(subtomograms, table, label_column, label_tolerance)

    labeled = subtomograms if labels is None else label(labels)
    if wanted.validation == "classes":
        return _split_classes(labeled, validation_classes, path)
    held_out = labeled.empty()
    if validation is not None:
        held_out = label(validation)
        held_out = held_out.with_labels(held_out.particles.class_name, labeled.class_names)
        held_out = held_out.select(held_out.labeled_rows)
    return TrainingSets(labeled, labeled, held_out)


def _split_classes(labeled: Subtomograms, validation_classes: tuple[str, ...], path: Path) -> TrainingSets:
    """Training sets in which some classes are for validation only."""
    if missing := sorted(set(validation_classes) - set(labeled.class_names)):
        raise ValueError(
            f"validation class {missing[0]} is not among those of {path}: {', '.join(labeled.class_names)}"
        )
    is_held_out = np.isin(labeled.particles.class_name.astype(str), validation_classes)
    return TrainingSets(labeled.select(~is_held_out), labeled, labeled.select(is_held_out))


command = {name: _build_command(name) for name in methods.METHODS}

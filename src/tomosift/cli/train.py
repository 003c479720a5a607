"""Train a method on a set: one command for each entry of METHODS, generated from what the method declares."""

import inspect
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from tomosift import methods
from tomosift.cli.options import LabelColumn, LabelTolerance, PicksSpacing, Seed
from tomosift.cli.terminal import TerminalMonitor, print_message, progress_bar
from tomosift.cli.usual import set_signature, usual_options
from tomosift.train.processes import is_first_process
from tomosift.workflows.train import open_training_sets

_HELP = {
    "out": "Folder of the run; an interrupted run resumes.",
    "source": "Labeled set of the same box size and voxel spacing; without it --structures are simulated.",
    "labels": "Particle table with a class for some particles; by default the classes that the set came with.",
    "validation": "Another table of labels, which stop training early and calibrate probabilities.",
    "validation_classes": "Classes that only stop training early; without any, all steps are taken.",
    "config": "Settings of the method.",
    "from_config": "An earlier run or its config.json, whose settings are used instead of those given here.",
}
_USUAL = ("labels", "label_column", "source", "validation", "from_config", "seed")
_USUAL_FIELDS = {"init", "encoder", "structures", "tuning", "head", "framework", "decoder"}
"""Options and fields of configurations that `--help` shows."""


def _list_parameters(name: str) -> list[inspect.Parameter]:
    """The parameters of the command of a method, by what the method declares."""
    module = methods.load_method(name)
    kind, validation = module.INPUT.kind, module.INPUT.validation
    required: dict[str, Any] = {}
    if kind != "none":
        required["subtomograms"] = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SET")]
    required["out"] = Path
    optional: dict[str, tuple[Any, Any]] = {}
    if module.INPUT.has_source:
        optional["source"] = (Path | None, None)
    if kind == "labels":
        optional["labels"] = (Path | None, None)
        optional["label_column"] = (LabelColumn, None)
        optional["label_tolerance"] = (LabelTolerance, 30.0)
        optional["picks_spacing"] = (PicksSpacing, None)
        if validation == "table":
            optional["validation"] = (Path | None, None)
        if validation == "classes":
            optional["validation_classes"] = (tuple[str, ...], ())
    optional["config"] = (Annotated[module.Config, tyro.conf.arg(name="")], module.Config())
    optional["from_config"] = (Annotated[Path | None, tyro.conf.arg(name="from")], None)
    optional["seed"] = (Seed, 0)
    named = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [
        *(
            inspect.Parameter(
                key, inspect.Parameter.POSITIONAL_ONLY if key == "subtomograms" else named, annotation=annotation
            )
            for key, annotation in required.items()
        ),
        *(
            inspect.Parameter(key, named, annotation=annotation, default=default)
            for key, (annotation, default) in optional.items()
        ),
    ]


def _build_command(name: str) -> Callable[..., None]:
    """The command that trains a method, with the signature and the docstring that tyro reads."""
    module, parameters = methods.load_method(name), _list_parameters(name)

    def command(*positional: Path, **options: Any) -> None:
        if positional:
            options["subtomograms"] = positional[0]
        _run(name, **options)

    set_signature(command, parameters)
    texts = {"subtomograms": module.INPUT.description, **_HELP}
    arguments = [f"    {one.name}: {texts[one.name]}" for one in parameters if one.name in texts]
    command.__doc__ = "\n".join([methods.METHODS[name], "", "Args:", *arguments])
    command.__name__ = name
    shown = [f"config.{one.name}" for one in fields(module.Config) if one.name in _USUAL_FIELDS]
    return usual_options(*_USUAL, *shown)(command)


def _run(
    name: str,
    out: Path,
    config: Any,
    seed: int,
    from_config: Path | None = None,
    subtomograms: Path | None = None,
    label_tolerance: float = 30.0,
    picks_spacing: float | None = None,
    **options: Any,
) -> None:
    if from_config is not None:
        config = methods.read_config(name, from_config)
    data = None
    if subtomograms is not None:
        data = open_training_sets(
            name,
            subtomograms,
            config,
            label_tolerance_angstrom=label_tolerance,
            picks_spacing_angstrom=picks_spacing,
            monitor=TerminalMonitor(),
            **options,
        )
    config = replace(config, training=config.training.match_launcher())
    methods.start_processes(name, config)
    if not is_first_process():
        methods.train(name, config, data, out, seed)
        return
    with progress_bar(name, "steps") as progress:
        methods.train(name, config, data, out, seed, progress)
    print_message(f"{out}: finished; the model is in {out / 'result'}")


command = {name: _build_command(name) for name in methods.METHODS}

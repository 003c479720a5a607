"""List, describe and check models: those that come with the program, and your own."""

from pathlib import Path
from typing import Annotated

import tyro

from tomosift.cli.terminal import print_message, print_table
from tomosift.inference.model_files import shipped_models
from tomosift.workflows.models import describe_model

ModelFolder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
ModelFolders = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MODELS")]


def list_models() -> None:
    """List the models that come with the program; --model takes their names."""
    rows = []
    for name in shipped_models():
        model = describe_model(name)
        spacing = f"{model.card.voxel_spacing_angstrom:g} A"
        rows.append([name, str(model.about.get("what", "")), model.card.encoder, spacing, ", ".join(model.abilities)])
    print_table(f"{len(rows)} shipped", ["name", "what", "encoder", "voxel spacing", "can"], rows)


def info(model: ModelFolder, /) -> None:
    """Describe a model: its encoder and classes, how it was trained, and its accuracy.

    Args:
        model: Shipped model, run, folder of a model, or hub:owner/name of one on the Hugging Face Hub.
    """
    print_table(str(model), ["", ""], [list(line) for line in describe_model(model).lines()])


def verify(models: ModelFolders = (), /) -> None:
    """Check that the files of models are complete, fit together, and fit this version of the program.

    Args:
        models: Shipped models, runs, or folders of models; by default all shipped ones.
    """
    for model in models or tuple(map(Path, shipped_models())):
        card = describe_model(model).card
        size = f"subtomograms of {card.box_size}^3 at {card.voxel_spacing_angstrom:g} A"
        print_message(f"{model}: complete; {card.encoder}, {size}")


command = {"list": list_models, "info": info, "verify": verify}

"""List, describe and check models: those that come with the program, and your own."""

from pathlib import Path
from typing import Annotated

import tyro

from tomosift.cli.terminal import print_message, print_table
from tomosift.inference.classifier import Classifier
from tomosift.inference.model_files import load_classifier, model_folder, shipped_models
from tomosift.train.run import read_json


def list_models() -> None:
    """Show the models that come with the program; their names are what --init and --model take."""
    rows = []
    for name in shipped_models():
        model, about = load_classifier(Path(name)), _about(Path(name))
        card = model.card
        rows.append([name, str(about.get("what", "")), card.encoder, f"{card.voxel_spacing_angstrom:g} A", _can(model)])
    print_table(f"{len(rows)} shipped", ["name", "what", "encoder", "voxels", "can"], rows)


def info(model: Annotated[Path, tyro.conf.Positional], /) -> None:
    """Show what a model is, from what and how it was made, and how well it did.

    Args:
        model: Shipped model, run, folder of a model, or hub:owner/name of one on the Hugging Face Hub.
    """
    loaded = load_classifier(model)
    card, number = loaded.card, sum(parameter.numel() for parameter in loaded.parameters())
    rows = [
        ["folder", str(model_folder(model))],
        ["encoder", f"{card.encoder}, embeddings of {loaded.encoder.embedding_size} numbers"],
        ["boxes", f"{card.box_size}^3 at {card.voxel_spacing_angstrom:g} A"],
        ["classes", ", ".join(card.class_names) or "none; give it labels or examples"],
        ["can", _can(loaded)],
        ["numbers", f"{number:,}"],
    ]
    rows += [[key.replace("_", " "), "\n".join(_lines(value))] for key, value in _about(model).items()]
    print_table(str(model), ["", ""], rows)


def verify(models: Annotated[tuple[Path, ...], tyro.conf.Positional] = (), /) -> None:
    """Check that the files of models are whole and fit together and this version of the program.

    Args:
        models: Shipped models, runs, or folders of models; all shipped ones by default.
    """
    for model in models or tuple(map(Path, shipped_models())):
        card = load_classifier(model).card
        _about(model)
        print_message(
            f"{model}: whole; {card.encoder}, boxes of {card.box_size}^3 at {card.voxel_spacing_angstrom:g} A"
        )


def _about(model: Path) -> dict[str, object]:
    """What is told of a model beside its weights; nothing for runs, whose folders tell it themselves."""
    path = model_folder(model) / "about.json"
    return read_json(path) if path.exists() else {}


def _can(model: Classifier) -> str:
    """What it is good for, in words."""
    can = ["classify"] if model.card.class_names else ["start training", "identify"]
    return ", ".join(can + (["masks"] if model.decoder is not None else []))


def _lines(value: object, before: str = "") -> list[str]:
    """Nested facts as lines that name their place."""
    if isinstance(value, dict):
        return [line for key, part in value.items() for line in _lines(part, f"{before}{key.replace('_', ' ')}: ")]
    if isinstance(value, list) and any(isinstance(part, dict) for part in value):
        return [line for k, part in enumerate(value) for line in _lines(part, f"{before}{k + 1}, ")]
    if isinstance(value, list):
        return [before + " to ".join(map(str, value))]
    return [before + str(value)]


command = {"list": list_models, "info": info, "verify": verify}

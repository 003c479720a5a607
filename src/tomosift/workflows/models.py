"""Describe and check models: shipped ones, runs, and those of the model hub."""

from dataclasses import dataclass
from pathlib import Path

from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.model_files import load_classifier, model_folder
from tomosift.train.run import read_json


@dataclass(frozen=True, eq=False)
class ModelDescription:
    """What a model is, and how it was trained."""

    folder: Path
    """Folder of its files."""
    card: ModelCard
    embedding_size: int
    parameters: int
    """Number of its weights."""
    abilities: tuple[str, ...]
    """What it can do, as phrases."""
    about: dict[str, object]
    """Training and accuracy of a shipped model; empty for a run."""

    def lines(self) -> list[tuple[str, str]]:
        """Return the description as pairs of a label and a text."""
        card = self.card
        facts = [
            ("folder", str(self.folder)),
            ("encoder", f"{card.encoder}, embeddings of {self.embedding_size} numbers"),
            ("subtomograms", f"{card.box_size}^3 at {card.voxel_spacing_angstrom:g} A"),
            ("classes", ", ".join(card.class_names) or "none; give it labels"),
            ("can", ", ".join(self.abilities)),
            ("weights", f"{self.parameters:,}"),
        ]
        return facts + [(key.replace("_", " "), "\n".join(_flatten(value))) for key, value in self.about.items()]


def describe_model(model: Path | str) -> ModelDescription:
    """Load a model, which checks that its files are complete and fit together, and describe it.

    Parameters
    ----------
    model
        Shipped model, run, folder of a model, or ``hub:owner/name`` of one on the Hugging Face Hub.

    Raises
    ------
    FormatError
        There is no such model, or a file of it is damaged.

    Examples
    --------
    >>> describe_model("general").card.class_names
    ()
    """
    model = Path(model)
    classifier, folder = load_classifier(model), model_folder(model)
    about = folder / "about.json"
    return ModelDescription(
        folder,
        classifier.card,
        classifier.encoder.embedding_size,
        sum(parameter.numel() for parameter in classifier.parameters()),
        _abilities(classifier),
        read_json(about) if about.exists() else {},
    )


def _abilities(classifier: Classifier) -> tuple[str, ...]:
    has_classes, has_masks = bool(classifier.card.class_names), classifier.decoder is not None
    return (*(("classify",) if has_classes else ("start training", "identify")), *(("masks",) if has_masks else ()))


def _flatten(value: object, before: str = "") -> list[str]:
    """Nested facts as lines that each begin with their keys."""
    if isinstance(value, dict):
        return [line for key, part in value.items() for line in _flatten(part, f"{before}{key.replace('_', ' ')}: ")]
    if isinstance(value, list) and any(isinstance(part, dict) for part in value):
        return [line for k, part in enumerate(value) for line in _flatten(part, f"{before}{k + 1}, ")]
    if isinstance(value, list):
        return [before + " to ".join(map(str, value))]
    return [before + str(value)]

"""The classifier: an encoder, a head and what is needed to use them rightly. Saved as safetensors and JSON."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tomosift.errors import FormatError
from tomosift.files import write_json, written_then_renamed
from tomosift.nn.center_finder import finder_digest
from tomosift.nn.encoder import Encoder
from tomosift.nn.encoders import ENCODERS, build_encoder
from tomosift.nn.familiarity import Familiarity
from tomosift.nn.probe import LinearProbe

_WEIGHTS, _CARD = "model.safetensors", "model.json"
_FORMAT = 3
_LEAST_DEVIATION = 1e-3  # of an embedding's dimension; smaller ones are not blown up


@dataclass(frozen=True)
class ModelCard:
    """What a model is; stored beside its weights."""

    encoder: str
    """Name in `ENCODERS`."""
    voxel_spacing_angstrom: float
    box_size: int
    class_names: tuple[str, ...] = ()
    """Empty for an encoder that was pretrained without classes."""
    temperature: float = 1.0
    """Logits are divided by it before the softmax, so that probabilities are calibrated."""
    unknown_below: float = 0.0
    """Particles whose best probability is lower are answered "unknown"."""
    unfamiliar_below: float = -1.0
    """Particles whose familiarity is lower are answered "unknown"."""
    head: Literal["linear", "prototypes"] = "linear"
    """Logits from a trained linear layer, or the cosine with the mean of each class, which takes up new classes."""
    center_finder: str = field(default_factory=finder_digest)
    """Checksum of the weights that centered the boxes in training."""


class LinearHead(nn.Module):
    """Logits from standardized embeddings.

    While training, mean and deviation are those of the batch; otherwise they are fixed numbers, to be taken from plain
    boxes by `standardize` after the encoder has changed. Running averages over augmented views, as batch normalization
    keeps, do not fit plain boxes and cost up to 30 points of accuracy.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, embedding_size: int, class_count: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(embedding_size))
        self.register_buffer("deviation", torch.ones(embedding_size))
        self.linear = nn.Linear(embedding_size, class_count)

    def forward(self, embedding: Float[Tensor, "b e"]) -> Float[Tensor, "b k"]:
        mean, deviation = self.mean, self.deviation
        if self.training and len(embedding) > 1:
            mean, deviation = embedding.mean(0), (embedding.var(0, unbiased=False) + _LEAST_DEVIATION**2).sqrt()
        return self.linear((embedding - mean) / deviation)  # type: ignore[no-any-return]

    @torch.no_grad()
    def standardize(self, embeddings: Float[Tensor, "n e"]) -> None:
        """Take mean and deviation from these embeddings."""
        self.mean.copy_(embeddings.mean(0))
        self.deviation.copy_(embeddings.std(0, unbiased=False).clamp(min=_LEAST_DEVIATION))

    @torch.no_grad()
    def load_probe(self, probe: LinearProbe) -> None:
        """Become this probe, expressed in standardized embeddings; call `standardize` before."""
        weight = torch.as_tensor(probe.weight, dtype=self.linear.weight.dtype)
        bias = torch.as_tensor(probe.bias, dtype=self.linear.bias.dtype)
        self.linear.bias.copy_(bias + weight @ self.mean)
        self.linear.weight.copy_(weight * self.deviation)


class Classifier(nn.Module):
    """Boxes in, logits out. A model without classes has no head and gives embeddings only."""

    def __init__(self, encoder: Encoder, card: ModelCard) -> None:
        super().__init__()
        self.card = card
        self.encoder = encoder
        size, classes = encoder.embedding_size, len(card.class_names)
        self.head = LinearHead(size, classes) if classes and card.head == "linear" else None
        self.familiarity = Familiarity(size, classes) if classes else None

    def forward(self, volume: Float[Tensor, "b d d d"], is_centered: bool = False) -> Float[Tensor, "b k"]:
        """Logits, before the temperature; ``is_centered`` as for the encoder."""
        return self.logits(self.encoder(volume, is_centered))

    def logits(self, embedding: Float[Tensor, "b e"]) -> Float[Tensor, "b k"]:
        """Logits of embeddings, before the temperature."""
        if self.familiarity is None:
            raise ValueError("this model was trained without classes; fine-tune it with labels first")
        if self.head is None:
            return self.familiarity.cosines(embedding)
        return self.head(embedding)  # type: ignore[no-any-return]


def save_classifier(folder: Path, classifier: Classifier) -> None:
    """Write the model into a folder, which then is complete or absent."""
    with written_then_renamed(folder / _WEIGHTS) as temporary:
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in classifier.state_dict().items()}
        save_file(tensors, temporary)
    digest = hashlib.sha256((folder / _WEIGHTS).read_bytes()).hexdigest()
    write_json(folder / _CARD, {"format": _FORMAT, **asdict(classifier.card), "sha256": digest})


def shipped_models() -> tuple[str, ...]:
    """Names of the models that come with the program."""
    return tuple(sorted(path.parent.name for path in _shipped_folder().glob(f"*/{_CARD}")))


def _shipped_folder() -> Path:
    return Path(str(resources.files("tomosift.nn"))) / "shipped"


def _folder_of(model: Path) -> Path:
    """Where the files of a model lie: the result of a run, a folder of their own, or a shipped model's, by its name."""
    if not model.exists() and str(model) in shipped_models():
        return _shipped_folder() / model
    return model / "result" if (model / "result").is_dir() else model


def model_digest(folder: Path) -> str:
    """Checksum of the weights of the model in this folder or run, or of this shipped one.

    Raises
    ------
    FormatError
        When there is no finished model.
    """
    return str(_read_card(_folder_of(folder) / _CARD)["sha256"])


def load_classifier(folder: Path) -> Classifier:
    """A model from the folder of a run, from the ``result`` folder itself, or a shipped one; ready to evaluate.

    Raises
    ------
    FormatError
        When there is no finished model, or its files are damaged or do not fit together.
    """
    folder = _folder_of(folder)
    card = _read_card(folder / _CARD)
    weights = folder / _WEIGHTS
    if not weights.exists():
        raise FormatError(weights, "file", "missing", "the weights of the model", "train it again")
    if hashlib.sha256(weights.read_bytes()).hexdigest() != card.pop("sha256"):
        raise FormatError(weights, "checksum", "not that of model.json", "unchanged weights", "copy the folder again")
    # The initial weights are overwritten, but drawing them must not disturb the caller's random numbers.
    with torch.random.fork_rng(devices=[]):
        classifier = Classifier(build_encoder(card["encoder"]), ModelCard(**card))
    try:
        classifier.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        first = str(error).splitlines()[-1].strip()
        raise FormatError(weights, "weights", first, f"those of a {card['encoder']} model") from None
    return classifier.eval()


def start_from(model: Path, voxel_spacing_angstrom: float) -> Classifier:
    """A model whose encoder a training starts from, on boxes of this voxel spacing.

    Raises
    ------
    ValueError
        When it was trained at another voxel spacing.
    FormatError
        See `load_classifier`.
    """
    start = load_classifier(model)
    spacing = start.card.voxel_spacing_angstrom
    if abs(spacing - voxel_spacing_angstrom) > 0.01 * spacing:
        raise ValueError(
            f"voxel spacing of the set is {voxel_spacing_angstrom:.2f} A but the encoder of {model} was "
            f"trained at {spacing:.2f} A; extract with --voxel-spacing {spacing:g}"
        )
    return start


def _read_card(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FormatError(
            path, "file", "missing", "a finished model", "run the same training command again to resume the run"
        )
    try:
        card = json.loads(path.read_text())
        number, card = card.pop("format"), dict(card)
        card["class_names"] = tuple(str(name) for name in card["class_names"])
        digest = str(card.pop("sha256"))
        ModelCard(**card)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FormatError(path, "content", f"not a model card ({error})", "JSON as tomosift writes it") from None
    if number != _FORMAT:
        raise FormatError(path, "format", str(number), str(_FORMAT), "use the tomosift version that wrote it")
    if card.get("center_finder") != finder_digest():
        advice = "train again, or use the tomosift version that wrote it"
        raise FormatError(path, "center_finder", "other weights", "those that come with this version", advice)
    if card["encoder"] not in ENCODERS:
        raise FormatError(path, "encoder", repr(card["encoder"]), f"one of {', '.join(ENCODERS)}")
    return {**card, "sha256": digest}

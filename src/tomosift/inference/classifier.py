"""The classifier: an encoder, a head and what is needed to use them rightly. Saved as safetensors and JSON."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from tomosift.averaging.class_averages import ClassAverages
from tomosift.errors import FormatError
from tomosift.files import write_json, written_then_renamed
from tomosift.inference.heads import HEADS, HeadName, PLDAHead, build_head
from tomosift.inference.hub import download_model, is_on_hub
from tomosift.inference.novelty import SimilarityScore
from tomosift.learning.plda import PLDA
from tomosift.models.center_finder import finder_digest
from tomosift.models.decoders import DECODERS, UNet, build_decoder
from tomosift.models.encoder import Encoder
from tomosift.models.encoders import ENCODERS, build_encoder

_WEIGHTS, _CARD = "model.safetensors", "model.json"
_FORMAT = 4

SPACING_TOLERANCE = 0.01
"""Share by which the voxel spacing of boxes may differ from that of a model that they are given to."""

GENERAL = Path("general")
"""The shipped model, trained on complexes that do not exist; see its `about.json`."""


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
    min_confidence: float = 0.0
    """Particles whose best probability is lower are answered "unknown"."""
    min_similarity: float = -1.0
    """Particles whose similarity is lower are answered "unknown"."""
    head: HeadName = "linear"
    """A trained linear layer, or one of those that compare with the mean of each class and take up new classes."""
    decoder: str = ""
    """Name in `DECODERS`, of what makes masks; empty for none."""
    averages: bool = False
    """Whether averages of the classes are kept, with which particles are compared."""
    center_finder: str = field(default_factory=finder_digest)
    """Checksum of the weights that centered the boxes in training."""


class Classifier(nn.Module):
    """Boxes in, logits out. A model without classes gives embeddings; a head it has is for classes to come."""

    def __init__(self, encoder: Encoder, card: ModelCard) -> None:
        super().__init__()
        self.card = card
        self.encoder = encoder
        size, classes = encoder.embedding_size, len(card.class_names)
        self.head = build_head(card.head, size, classes)
        self.similarity = SimilarityScore(size, classes) if classes else None
        self.decoder = build_decoder(card.decoder, encoder)
        self.averages = ClassAverages(classes, card.box_size) if card.averages else None

    @property
    def plda(self) -> PLDA | None:
        """The PLDA by which this model compares embeddings; None for other heads."""
        return self.head.plda if isinstance(self.head, PLDAHead) else None

    def keep(self, averages: ClassAverages) -> None:
        """Compare particles with these averages from now on."""
        self.averages = averages
        self.card = replace(self.card, averages=True, box_size=averages.outline.shape[-1])

    def forward(self, volume: Float[Tensor, "b d d d"], is_centered: bool = False) -> Float[Tensor, "b k"]:
        """Logits, before the temperature; ``is_centered`` as for the encoder."""
        return self.logits(self.encoder(volume, is_centered))

    def logits(self, embedding: Float[Tensor, "b e"]) -> Float[Tensor, "b k"]:
        """Logits of embeddings, before the temperature."""
        if self.head is None or not self.card.class_names:
            raise ValueError("this model was trained without classes; fine-tune it with labels first")
        return self.head(embedding)  # type: ignore[no-any-return]


def save_classifier(folder: Path, classifier: Classifier) -> None:
    """Write the model into a folder, which then is complete or absent."""
    with written_then_renamed(folder / _WEIGHTS) as temporary:
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in classifier.state_dict().items()}
        temporary.write_bytes(save(tensors))  # readable by whom the umask says; the library's own files are private
    digest = hashlib.sha256((folder / _WEIGHTS).read_bytes()).hexdigest()
    write_json(folder / _CARD, {"format": _FORMAT, **asdict(classifier.card), "sha256": digest})


def shipped_models() -> tuple[str, ...]:
    """Names of the models that come with the program."""
    return tuple(sorted(path.parent.name for path in _shipped_folder().glob(f"*/{_CARD}")))


def model_folder(model: Path) -> Path:
    """Where the files of a model lie: the result of a run, a folder of their own, or, by its name, those of a shipped
    one or of one on the Hub."""
    if is_on_hub(model):
        return download_model(model)
    if not model.exists() and str(model) in shipped_models():
        return _shipped_folder() / model
    return model / "result" if (model / "result").is_dir() else model


def _shipped_folder() -> Path:
    return Path(str(resources.files("tomosift.models"))) / "weights"


def model_digest(folder: Path) -> str:
    """Checksum of the weights of the model in this folder or run, or of this shipped one.

    Raises
    ------
    FormatError
        When there is no finished model.
    """
    return str(_read_card(model_folder(folder) / _CARD)["sha256"])


def load_classifier(folder: Path) -> Classifier:
    """A model from the folder of a run, from the ``result`` folder itself, or a shipped one; ready to evaluate.

    Raises
    ------
    FormatError
        When there is no finished model, or its files are damaged or do not fit together.
    """
    folder = model_folder(folder)
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


def shipped_decoder() -> UNet:
    """What outlines particles in `GENERAL`, whatever the encoder of a model is: a tool, as what finds centers."""
    decoder = load_classifier(GENERAL).decoder
    assert isinstance(decoder, UNet)
    return decoder.float().requires_grad_(False).eval()


def load_start(model: Path, voxel_spacing_angstrom: float) -> Classifier:
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
    if abs(spacing - voxel_spacing_angstrom) > SPACING_TOLERANCE * spacing:
        raise ValueError(
            f"voxel spacing of the set is {voxel_spacing_angstrom:.2f} A but the encoder of {model} was "
            f"trained at {spacing:.2f} A; extract with --voxel-spacing {spacing:g}"
        )
    return start


def starting_encoder(
    init: Path | None, name: str, volume: Float[Tensor, "b d d d"], voxel_spacing_angstrom: float | None = None
) -> tuple[str, Encoder]:
    """Name and encoder that a training starts from, prepared on these plain boxes.

    It is that of the model ``init``, or without one a fresh one of this name. With a voxel spacing, a model of another
    is refused as by `start_from`; otherwise training gets used to that.
    """
    if init is None:
        encoder = build_encoder(name)
    else:
        start = load_classifier(init) if voxel_spacing_angstrom is None else load_start(init, voxel_spacing_angstrom)
        name, encoder = start.card.encoder, start.encoder
    encoder.prepare(volume)
    return name, encoder


def _read_card(path: Path) -> dict[str, Any]:
    if not path.parent.exists():
        known = ", ".join(shipped_models())
        raise FormatError(path.parent, "folder", "missing", f"a run, a model, or the name of a shipped one ({known})")
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
    if card.get("head", "linear") not in HEADS:
        raise FormatError(path, "head", repr(card["head"]), f"one of {', '.join(HEADS)}")
    if card.get("decoder") and card["decoder"] not in DECODERS:
        raise FormatError(path, "decoder", repr(card["decoder"]), f"one of {', '.join(DECODERS)}")
    if card["encoder"] not in ENCODERS:
        raise FormatError(path, "encoder", repr(card["encoder"]), f"one of {', '.join(ENCODERS)}")
    return {**card, "sha256": digest}

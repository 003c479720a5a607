"""Models on disk: a card in JSON and weights in safetensors; those that come with the program, runs, and the Hub."""

import hashlib
from dataclasses import asdict
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from tomosift.conventions import check_same_spacing
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.errors import FormatError
from tomosift.files import read_json, write_json, written_then_renamed
from tomosift.inference.classifier import Classifier, ModelCard, fit_embedder
from tomosift.inference.heads import HEADS
from tomosift.inference.hub import download_model, is_on_hub
from tomosift.inference.legacy import FORMAT, upgrade_card, upgrade_weights
from tomosift.models.center_finder import finder_digest
from tomosift.models.decoders import DECODERS, UNet
from tomosift.models.embedder import Embedder
from tomosift.models.encoders import ENCODERS, build_encoder
from tomosift.models.recentering import Recentering

_WEIGHTS, _CARD = "model.safetensors", "model.json"

GENERAL = Path("general")
"""The shipped model, trained on synthetic complexes; see its `about.json`."""


def save_classifier(folder: Path, classifier: Classifier) -> None:
    """Write a model into a folder, which then is complete or absent."""
    with written_then_renamed(folder / _WEIGHTS) as temporary:
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in classifier.state_dict().items()}
        temporary.write_bytes(save(tensors))  # readable as the umask allows; the library's own files are private
    digest = hashlib.sha256((folder / _WEIGHTS).read_bytes()).hexdigest()
    write_json(folder / _CARD, {"format": FORMAT, **asdict(classifier.card), "sha256": digest})


def shipped_models() -> tuple[str, ...]:
    """Names of the models that come with the program."""
    return tuple(sorted(path.parent.name for path in _shipped_folder().glob(f"*/{_CARD}")))


def model_folder(model: Path) -> Path:
    """Folder with the files of a model.

    Parameters
    ----------
    model
        A run, a folder with a model, the name of a shipped model, or one on the Hub (``hub:owner/name``).
    """
    if is_on_hub(model):
        return download_model(model)
    if not model.exists() and str(model) in shipped_models():
        return _shipped_folder() / model
    return model / "result" if (model / "result").is_dir() else model


def _shipped_folder() -> Path:
    """Folder of the shipped models."""
    return Path(str(resources.files("tomosift.models"))) / "weights"


def model_digest(model: Path) -> str:
    """Checksum of the weights of a model; ``model`` as for `model_folder`.

    Raises
    ------
    FormatError
        There is no finished model.
    """
    return str(_read_card(model_folder(model) / _CARD)["sha256"])


def load_card(model: Path) -> ModelCard:
    """The card of a model; ``model`` as for `model_folder`.

    Raises
    ------
    FormatError
        There is no finished model.
    """
    card = _read_card(model_folder(model) / _CARD)
    return ModelCard(**{name: value for name, value in card.items() if name != "sha256"})


def load_classifier(model: Path) -> Classifier:
    """Load a model, ready to evaluate; ``model`` as for `model_folder`. Models of earlier versions are accepted.

    Raises
    ------
    FormatError
        There is no finished model, or its files are damaged or do not fit together.

    Examples
    --------
    >>> load_classifier(Path("general")).card.encoder
    'radial'
    """
    folder = model_folder(model)
    card = _read_card(folder / _CARD)
    weights = folder / _WEIGHTS
    if not weights.exists():
        raise FormatError(weights, "file", "missing", "the weights of the model", "train it again")
    if hashlib.sha256(weights.read_bytes()).hexdigest() != card.pop("sha256"):
        raise FormatError(weights, "checksum", "not that of model.json", "unchanged weights", "copy the folder again")
    # The initial weights are overwritten, but drawing them must not disturb the caller's random numbers.
    with torch.random.fork_rng(devices=[]):
        embedder = Embedder(build_encoder(card["encoder"]), Recentering())
        classifier = Classifier(embedder, ModelCard(**card))
    try:
        classifier.load_state_dict(upgrade_weights(load_file(weights)))
    except (SafetensorError, RuntimeError) as error:
        first = str(error).splitlines()[-1].strip()
        raise FormatError(weights, "weights", first, f"those of a {card['encoder']} model") from None
    return classifier.eval()


@lru_cache(maxsize=1)
def shipped_decoder() -> UNet:
    """The decoder of `GENERAL`, which predicts masks of class averages whatever the encoder of a model is."""
    decoder = load_classifier(GENERAL).decoder
    assert isinstance(decoder, UNet)
    return decoder.float().requires_grad_(False).eval()


def load_start(model: Path, voxel_spacing_angstrom: float) -> Classifier:
    """Load a model from whose encoder a training starts, on subtomograms of this voxel spacing.

    Raises
    ------
    ValueError
        It was trained at another voxel spacing.
    FormatError
        See `load_classifier`.
    """
    start = load_classifier(model)
    spacing = start.card.voxel_spacing_angstrom
    check_same_spacing(voxel_spacing_angstrom, spacing, "the set", f"the encoder of {model} was trained at")
    return start


def start_embedder(
    init: Path | None, encoder: str, subtomograms: Subtomograms, voxel_spacing_angstrom: float | None = None
) -> Embedder:
    """The embedder that a training starts from, for the picking error of a set.

    Parameters
    ----------
    init
        Model whose encoder to start from; None builds one with random weights.
    encoder
        Name of the encoder to build without a model.
    subtomograms
        Set from which the picking error is estimated.
    voxel_spacing_angstrom
        A model of another voxel spacing is refused as by `load_start`; None accepts it, for training adapts to it.
    """
    if init is None:
        return fit_embedder(build_encoder(encoder), subtomograms)
    start = load_classifier(init) if voxel_spacing_angstrom is None else load_start(init, voxel_spacing_angstrom)
    return fit_embedder(start.encoder, subtomograms)


def check_card(card: ModelCard) -> None:
    """Refuse a card whose box size or voxel spacing is no positive number."""
    if not 0 < card.box_size < 1 << 20 or not 0 < card.voxel_spacing_angstrom < float("inf"):
        raise ValueError(f"box size {card.box_size} and voxel spacing {card.voxel_spacing_angstrom}")


def _read_card(path: Path) -> dict[str, Any]:
    """Read and check the fields of a model card."""
    if not path.parent.exists():
        known = ", ".join(shipped_models())
        raise FormatError(path.parent, "folder", "missing", f"a run, a model, or the name of a shipped one ({known})")
    if not path.exists():
        raise FormatError(
            path, "file", "missing", "a finished model", "run the same training command again to resume the run"
        )
    try:
        card = read_json(path)
        if not isinstance(card, dict):
            raise TypeError(f"{type(card).__name__}, expected an object")
        card = upgrade_card(card)
        number, card = card.pop("format"), dict(card)
        card["class_names"] = tuple(str(name) for name in card["class_names"])
        digest = str(card.pop("sha256"))
        check_card(ModelCard(**card))
    except FormatError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FormatError(path, "content", f"not a model card ({error})", "JSON as tomosift writes it") from None
    if number != FORMAT:
        raise FormatError(path, "format", str(number), str(FORMAT), "use the tomosift version that wrote it")
    if card.get("center_finder") != finder_digest():
        advice = "train again, or use the tomosift version that wrote it"
        raise FormatError(path, "center_finder", "other weights", "those that come with this version", advice)
    for field, value, names in (
        ("head", card.get("head", "linear"), HEADS),
        ("decoder", card.get("decoder") or next(iter(DECODERS)), tuple(DECODERS)),
        ("encoder", card["encoder"], tuple(ENCODERS)),
    ):
        if value not in names:
            raise FormatError(path, field, repr(value), f"one of {', '.join(names)}")
    return {**card, "sha256": digest}

"""Trained generators and their files in the folder of a run."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tomosift.errors import FormatError
from tomosift.files import read_json, write_json, written_then_renamed
from tomosift.models.generators import Generator, GeneratorConfig
from tomosift.physics.augmentation import normalize
from tomosift.physics.imaging import ImagingRanges

_CARD, _WEIGHTS, _FORMAT = "translator.json", "translator.safetensors", 1


@dataclass(frozen=True)
class GeneratorCard:
    """What a generator is, and for which volumes it was trained."""

    shape: GeneratorConfig
    box_size: int
    voxel_spacing_angstrom: float
    ranges: ImagingRanges
    """Imaging of the maps that the generator gets; the tilt ranges are those of the target."""


class TrainedGenerator:
    """A trained generator with its card: from imaged maps to subtomograms with the appearance of measured ones.

    Parameters
    ----------
    generator
        The network.
    card
        What it is.
    """

    def __init__(self, generator: Generator, card: GeneratorCard) -> None:
        self.generator, self.card = generator.eval(), card

    @property
    def ranges(self) -> ImagingRanges:
        """Imaging of the maps that the generator gets."""
        return self.card.ranges

    @torch.inference_mode()
    def __call__(self, volume: Float[Tensor, "b d d d"], generator: torch.Generator) -> Float[Tensor, "b d d d"]:
        """Generate subtomograms of zero mean and unit variance; ``generator`` draws the noise."""
        return self.generator(normalize(volume), generator)  # type: ignore[no-any-return]


def save_generator(folder: Path, generator: TrainedGenerator) -> None:
    """Write a generator and its card; the card comes last, so that a folder with a card is complete."""
    weights = folder / _WEIGHTS
    with written_then_renamed(weights) as temporary:
        save_file({k: v.contiguous() for k, v in generator.generator.state_dict().items()}, temporary)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    write_json(folder / _CARD, {"format": _FORMAT, **asdict(generator.card), "sha256": digest})


def generator_digest(folder: Path) -> str:
    """Return the checksum of the weights of the generator in the folder of a run.

    Raises
    ------
    FormatError
        See `load_generator`.
    """
    return _read_card(folder / _CARD)[1]


def load_generator(folder: Path) -> TrainedGenerator:
    """Load a generator from the folder of a run.

    Raises
    ------
    FormatError
        There is none, or its files are damaged or do not fit together.
    """
    card, digest = _read_card(folder / _CARD)
    weights = folder / _WEIGHTS
    if not weights.exists() or hashlib.sha256(weights.read_bytes()).hexdigest() != digest:
        raise FormatError(weights, "checksum", "not that of the card", "unchanged weights", "copy the folder again")
    with torch.random.fork_rng(devices=[]):
        generator = Generator(card.shape, card.box_size)
    try:
        generator.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise FormatError(weights, "weights", str(error).splitlines()[-1].strip(), "those of this shape") from None
    return TrainedGenerator(generator, card)


def _read_card(path: Path) -> tuple[GeneratorCard, str]:
    """Read a card and the checksum of the weights."""
    if not path.exists():
        raise FormatError(path, "file", "missing", "a finished run of `tomosift translate`", "check the folder")
    try:
        content = read_json(path)
        number, digest = content["format"], str(content["sha256"])
        ranges: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content["ranges"].items()}
        card = GeneratorCard(
            GeneratorConfig(**content["shape"]),
            int(content["box_size"]),
            float(content["voxel_spacing_angstrom"]),
            ImagingRanges(**ranges),
        )
    except FormatError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FormatError(path, "content", f"not a card ({error})", "JSON as tomosift writes it") from None
    if number != _FORMAT:
        raise FormatError(path, "format", str(number), str(_FORMAT), "use the tomosift version that wrote it")
    return card, digest

"""One-shot classification with masks (COS-Net): are two particles of one class, and which voxels are theirs?

Source: Zhou et al. 2021, "One-shot learning with attention-guided segmentation in cryo-electron tomography", Front.
Mol. Biosci. 7:613347, and its code. Its form is ``init=None, encoder="cosnet", decoder="cosnet", balanced=False``,
rate 1e-4 and 10 to 12 pairs a step; joint loss of pairs and, for both of each pair, soft Dice, all weights 1.

Deviations of the defaults, all ours: training starts from a pretrained encoder; the decoder has skip connections and
starts from the network that finds centers; every second pair is of one class, where theirs draws the classes of both
independently; AdamW with one cosine. Boxes are seen as they are, as there: simulation makes poses and noise enough.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from tomosift.data.batches import Batch
from tomosift.data.episodes import Pair, Pairs
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import Classifier, ModelCard, starting_encoder
from tomosift.inference.heads import PairHead
from tomosift.models.encoder import BOXES_TO_PREPARE
from tomosift.models.losses import soft_dice_loss
from tomosift.train.loop import Progress, Training, fit
from tomosift.train.run import Run

USES_LABELS = True
SHARES_BATCHES = False


@dataclass(frozen=True)
class Config:
    """Settings of training on pairs."""

    init: Path | None = Path("general")
    """Run or shipped model whose encoder to start from, none for random weights."""
    encoder: str = "radial"
    """Encoder to train from random weights; with `init`, the encoder of that model is taken."""
    decoder: Literal["unet", "cosnet"] = "unet"
    """What makes masks; see `tomosift train --help` for what fits which encoder."""
    frozen: bool = False
    """Leave the encoder as it is and train what comes after it."""
    balanced: bool = True
    """Every second pair is of one class; otherwise one in as many as there are classes."""
    training: Training = field(default_factory=lambda: Training(steps=1000, batch_size=12))
    """How long and how fast; the batch size counts pairs."""


class Learner(nn.Module):
    """Cross-entropy of pairs, and soft Dice of the masks of both."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, pair: Pair, generator: torch.Generator) -> dict[str, Tensor]:
        (first, dice_of_first), (second, dice_of_second) = (self._seen(part) for part in (pair.first, pair.second))
        head = self.classifier.head
        assert isinstance(head, PairHead)
        logits = head.paired(first, second)
        alike = functional.binary_cross_entropy_with_logits(logits, pair.is_same.to(logits.dtype))
        return {
            "loss": alike + dice_of_first + dice_of_second,
            "pairs": alike,
            "dice": (dice_of_first + dice_of_second) / 2,
            "accuracy": ((logits > 0) == pair.is_same).float().mean(),
        }

    def _seen(self, batch: Batch) -> tuple[Tensor, Tensor]:
        decoder = self.classifier.decoder
        assert decoder is not None
        assert batch.mask is not None
        embedding, logits = decoder(batch.volume, self.classifier.encoder)
        return embedding.float(), soft_dice_loss(logits.float(), batch.mask)


def train(config: Config, data: TrainingSets, run: Run, seed: int, progress: Progress | None = None) -> Classifier:
    """A model without classes, to enrol them in, that also makes masks; from labeled particles with masks.

    Raises
    ------
    ValueError
        When fewer than two classes have two particles, the set has no masks, or the decoder does not fit the encoder.
    """
    stream = Pairs(data.labeled, config.training.batch_size, config.balanced, seed, masks=True)
    boxes = data.unlabeled if len(data.unlabeled) else data.labeled
    plain = torch.from_numpy(boxes.volumes(boxes.spaced_rows(BOXES_TO_PREPARE)))
    name, encoder = starting_encoder(config.init, config.encoder, plain)
    if config.decoder == "cosnet" and name not in ("cosnet", "siamese"):
        raise ValueError(f"the decoder cosnet needs the encoder cosnet or siamese, got {name}; take the decoder unet")
    encoder.requires_grad_(not config.frozen)
    card = ModelCard(name, data.voxel_spacing_angstrom, data.box_size, head="pairs", decoder=config.decoder)
    classifier = Classifier(encoder, card)
    fit(Learner(classifier), stream, config.training, run, seed, progress=progress)
    encoder.requires_grad_(True)
    return classifier.eval()

"""Pair objective: are two particles of one class, and which voxels are theirs?"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tomosift.data.batches import Batch
from tomosift.data.episodes import Pair
from tomosift.inference.classifier import Classifier
from tomosift.inference.heads import PairHead
from tomosift.models.losses import soft_dice_loss


class PairObjective(nn.Module):
    """Cross-entropy of pairs, and soft Dice loss of the masks of both particles.

    Parameters
    ----------
    classifier
        With the head `pairs` and a decoder; trained in place.

    Notes
    -----
    Source: Zhou et al. 2021, Front. Mol. Biosci. 7:613347; all terms have weight 1.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, pair: Pair, generator: torch.Generator) -> dict[str, Tensor]:
        """The losses of some pairs of particles with masks."""
        (first, first_dice), (second, second_dice) = (self._embed(part) for part in (pair.first, pair.second))
        head = self.classifier.head
        assert isinstance(head, PairHead)
        logits = head.compare_pairs(first, second)
        pairs = functional.binary_cross_entropy_with_logits(logits, pair.is_same.to(logits.dtype))
        return {
            "loss": pairs + first_dice + second_dice,
            "pairs": pairs,
            "dice": (first_dice + second_dice) / 2,
            "accuracy": ((logits > 0) == pair.is_same).float().mean(),
        }

    def _embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embeddings, and the Dice loss of the predicted masks."""
        decoder = self.classifier.decoder
        assert decoder is not None
        assert batch.mask is not None
        embedding, logits = decoder(batch.volume, self.classifier.embedder)
        return embedding.float(), soft_dice_loss(logits.float(), batch.mask)

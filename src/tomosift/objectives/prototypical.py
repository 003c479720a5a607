"""Episode objective: particles of an episode are classified by the prototypes of its classes."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tomosift.data.batches import Batch
from tomosift.data.episodes import Episode, Episodes
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference.classifier import Classifier
from tomosift.inference.heads import AttentionHead, PrototypeHead
from tomosift.inference.prediction import embed
from tomosift.models.augmented_views import augment_recentered
from tomosift.models.embedder import CenterCache
from tomosift.models.losses import attention_divergence
from tomosift.physics.augmentation import ViewRanges

_ATTENTION_WEIGHT = 2.0


class EpisodeObjective(nn.Module):
    """Negative log likelihood of the queries of an episode, given the support set.

    Parameters
    ----------
    classifier
        With a head that compares embeddings with prototypes; trained in place.
    views
        Augmentation.

    Notes
    -----
    Source: Li et al. 2020, PLoS Comput. Biol. 16:e1008227; for attention heads a divergence is added.
    """

    def __init__(self, classifier: Classifier, views: ViewRanges) -> None:
        super().__init__()
        self.classifier, self.views, self.centers = classifier, views, CenterCache()

    def forward(self, episode: Episode, generator: torch.Generator) -> dict[str, Tensor]:
        """The losses of an episode."""
        support, query = (self.embed_views(part, generator) for part in (episode.support, episode.query))
        ways = len(episode.classes)
        prototypes = torch.stack([support[episode.support.label == way].mean(0) for way in range(ways)])
        head, label = self.classifier.head, episode.query.label
        assert isinstance(head, PrototypeHead)
        losses: dict[str, Tensor] = {}
        if isinstance(head, AttentionHead):
            logits, attention = head.compare_refined(query, prototypes)
            losses["divergence"] = attention_divergence(attention, label)
        else:
            logits = head.compare(query, prototypes)
        likelihood = functional.cross_entropy(logits, label)
        accuracy = (logits.argmax(1) == label).float().mean()
        total = likelihood + _ATTENTION_WEIGHT * losses.get("divergence", torch.zeros_like(likelihood))
        return {"loss": total, "accuracy": accuracy, **losses}

    def embed_views(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Embed one augmented view of each subtomogram."""
        views = augment_recentered(
            self.classifier.embedder,
            batch.volume,
            batch.index,
            batch.tilt_range_deg,
            self.views,
            self.classifier.card.voxel_spacing_angstrom,
            generator,
            self.centers,
        )
        return self.classifier.encoder(views).float()  # type: ignore[no-any-return]


def episode_score(
    classifier: Classifier, validation: Subtomograms, ways: int, shots: int, queries: int, episodes: int, seed: int
) -> Callable[[], float] | None:
    """Return a function that computes the accuracy on fixed episodes of a validation set, for early stopping.

    Parameters
    ----------
    classifier
        Being trained; its head compares embeddings with prototypes.
    validation
        Subtomograms, embedded without augmentation.
    ways, shots, queries
        Classes of an episode, support and query particles of each.
    episodes
        Number of episodes.
    seed
        Of the episodes.

    Returns
    -------
    callable or None
        None where too few classes have enough particles for an episode.
    """
    validation = validation.select(validation.labeled_rows)
    has_enough = np.bincount(validation.label, minlength=1) >= shots + queries
    if has_enough.sum() < ways:
        return None
    stream = Episodes(validation, ways, shots, queries, seed)
    head = classifier.head
    assert isinstance(head, PrototypeHead)
    label = torch.arange(ways).repeat_interleave(queries)

    @torch.inference_mode()
    def score() -> float:
        embeddings = torch.from_numpy(embed(classifier.embedder, validation)).to(head.prototype.device)
        total = 0.0
        for number in range(episodes):
            episode = embeddings[stream.rows(number)]
            support, query = episode[:, :shots], episode[:, shots:]
            predicted = head.compare(query.flatten(0, 1), support.mean(1)).argmax(1).cpu()
            total += float((predicted == label).float().mean())
        return total / episodes

    return score

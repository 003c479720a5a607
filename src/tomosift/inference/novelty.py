"""Novelty: how similar a particle is to the labeled classes, so that particles of no class can be rejected."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

_MIN_DEVIATION = 1e-3  # of an embedding's dimension; smaller ones are not scaled up


class SimilarityScore(nn.Module):
    """Cosine between a particle's embedding and the nearest class mean, after standardization over unlabeled particles.

    1 is the mean of a class, 0 as far from all classes as a random particle. In tomograms with three in ten particles
    of no class it separated those from the others with an area under the ROC curve of 0.93, where confidence had 0.77;
    the nearest labeled particles instead of class means had 0.94.

    Parameters
    ----------
    embedding_size
        Dimensions of the embeddings.
    class_count
        Number of classes.

    Notes
    -----
    Source: nearest class means after Lee et al. 2018, "A simple unified framework for detecting out-of-distribution
    samples and adversarial attacks"; the cosine and the standardization are ours.
    """

    center: Tensor
    scale: Tensor
    direction: Tensor

    def __init__(self, embedding_size: int, class_count: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(embedding_size))
        self.register_buffer("scale", torch.ones(embedding_size))
        self.register_buffer("direction", torch.zeros(class_count, embedding_size))

    @torch.no_grad()
    def fit(
        self,
        background: Float[Tensor, "m e"],
        embeddings: Float[Tensor, "n e"],
        label: Int64[Tensor, " n"],
    ) -> None:
        """Fit the standardization to particles of any class, and the class means to labeled ones."""
        self.center.copy_(background.mean(0))
        self.scale.copy_(background.std(0, unbiased=False).clamp(min=_MIN_DEVIATION))
        self.add_classes(embeddings, label)

    @torch.no_grad()
    def add_classes(self, embeddings: Float[Tensor, "n e"], label: Int64[Tensor, " n"], first: int = 0) -> None:
        """Set the means of classes ``first`` and later; labels count from that class."""
        standardized = (embeddings - self.center) / self.scale
        for k in range(first, len(self.direction)):
            members = standardized[label == k - first]
            self.direction[k] = functional.normalize(members.mean(0), dim=0) if len(members) else 0.0

    @torch.no_grad()
    def copy_from(self, earlier: "SimilarityScore") -> None:
        """Copy standardization and class means of another score, which may have fewer classes."""
        self.center.copy_(earlier.center)
        self.scale.copy_(earlier.scale)
        self.direction[: len(earlier.direction)] = earlier.direction

    def forward(self, embedding: Float[Tensor, "b e"]) -> Float[Tensor, " b"]:
        """Similarity of each particle to the most similar class, -1 to 1."""
        cosines = functional.normalize((embedding - self.center) / self.scale, dim=1) @ self.direction.T
        return cosines.amax(dim=1)

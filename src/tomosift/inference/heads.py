"""Heads: what turns an embedding into one logit per class.

A linear head is trained for its classes. The others hold one *prototype* per class, the mean embedding of its examples,
and differ in how they compare a particle with it; a class more is a row more, and nothing is trained for it.
"""

import math
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from tomosift.learning.linear_probe import LinearProbe, fit_linear_probe
from tomosift.learning.plda import PLDA, PLDA_DIMENSIONS
from tomosift.models.distributed import all_gather

HeadName = Literal["linear", "prototypes", "euclidean", "attention", "pairs", "plda"]
HEADS: tuple[HeadName, ...] = get_args(HeadName)

_MIN_DEVIATION = 1e-3  # of an embedding's dimension; smaller ones are not blown up


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
        if self.training and len(whole := all_gather(embedding)) > 1:
            mean, deviation = whole.mean(0), (whole.var(0, unbiased=False) + _MIN_DEVIATION**2).sqrt()
        return self.linear((embedding - mean) / deviation)  # type: ignore[no-any-return]

    @torch.no_grad()
    def standardize(self, embeddings: Float[Tensor, "n e"]) -> None:
        """Take mean and deviation from these embeddings."""
        self.mean.copy_(embeddings.mean(0))
        self.deviation.copy_(embeddings.std(0, unbiased=False).clamp(min=_MIN_DEVIATION))

    @torch.no_grad()
    def load_probe(self, probe: LinearProbe) -> None:
        """Become this probe, expressed in standardized embeddings; call `standardize` before."""
        weight = torch.as_tensor(probe.weight, dtype=self.linear.weight.dtype)
        bias = torch.as_tensor(probe.bias, dtype=self.linear.bias.dtype)
        self.linear.bias.copy_(bias + weight @ self.mean)
        self.linear.weight.copy_(weight * self.deviation)

    def fit_probe(
        self,
        embeddings: Float[np.ndarray, "n e"],
        label: Int[np.ndarray, " n"],
        inverse_regularization: float | None = None,
    ) -> None:
        """Standardize by these embeddings and become the linear probe that is fitted to them and their labels."""
        self.standardize(torch.from_numpy(embeddings))
        self.load_probe(fit_linear_probe(embeddings, label, self.linear.out_features, inverse_regularization))


class PrototypeHead(nn.Module):
    """Base of all heads that compare a particle with one prototype per class; members implement `compare`."""

    prototype: Tensor
    default_temperature = 1.0
    """Temperature of the logits where no class has two examples to calibrate by."""

    def __init__(self, embedding_size: int, class_count: int) -> None:
        super().__init__()
        self.register_buffer("prototype", torch.zeros(class_count, embedding_size))

    def forward(self, embedding: Float[Tensor, "b e"]) -> Float[Tensor, "b k"]:
        return self.compare(embedding, self.prototype)

    def compare(self, query: Float[Tensor, "b e"], prototypes: Float[Tensor, "k e"]) -> Float[Tensor, "b k"]:
        """Logits of particles for these prototypes."""
        raise NotImplementedError

    @torch.no_grad()
    def standardize(self, embeddings: Float[Tensor, "n e"]) -> None:
        """Look at particles of any kind before the first class; most heads have no use for that."""

    @torch.no_grad()
    def copy_from(self, earlier: "PrototypeHead") -> None:
        """Become a head of the same kind with room for more classes: its weights and, first, its prototypes."""
        state = earlier.state_dict()
        known = state.pop("prototype")
        self.load_state_dict(state, strict=False)
        self.prototype[: len(known)] = known


class CosineHead(PrototypeHead):
    """Cosine of standardized embeddings: for encoders that were not trained to be compared in any other way; ours."""

    center: Tensor
    scale: Tensor
    default_temperature = 0.1

    def __init__(self, embedding_size: int, class_count: int) -> None:
        super().__init__(embedding_size, class_count)
        self.register_buffer("center", torch.zeros(embedding_size))
        self.register_buffer("scale", torch.ones(embedding_size))

    def compare(self, query: Float[Tensor, "b e"], prototypes: Float[Tensor, "k e"]) -> Float[Tensor, "b k"]:
        unit, others = (
            functional.normalize((given - self.center) / self.scale, dim=1) for given in (query, prototypes)
        )
        return unit @ others.T

    @torch.no_grad()
    def standardize(self, embeddings: Float[Tensor, "n e"]) -> None:
        self.center.copy_(embeddings.mean(0))
        self.scale.copy_(embeddings.std(0, unbiased=False).clamp(min=_MIN_DEVIATION))


class EuclideanHead(PrototypeHead):
    """Minus the squared Euclidean distance.

    Source: Snell et al. 2017, "Prototypical networks for few-shot learning"; Li et al. 2020, PLoS Comput. Biol.
    16:e1008227, ProtoNet3D.
    """

    def compare(self, query: Float[Tensor, "b e"], prototypes: Float[Tensor, "k e"]) -> Float[Tensor, "b k"]:
        return minus_squared_distances(query, prototypes)


class AttentionHead(PrototypeHead):
    """Plain distances, and those after prototypes and particle have looked at one another, added up.

    For each particle the set of k prototypes and itself goes through one layer of self-attention (one head, residual,
    layer normalization), with gradients to the encoder stopped; the encoder learns through the plain distances.

    Source: Li et al. 2020, PLoS Comput. Biol. 16:e1008227, ProtoNet-CE; the layer follows Ye et al. 2020, "Few-shot
    learning via embedding adaptation with set-to-set functions". Deviation: no dropout within the attention.
    """

    def __init__(self, embedding_size: int, class_count: int) -> None:
        super().__init__(embedding_size, class_count)
        self.query, self.key, self.value = (nn.Linear(embedding_size, embedding_size, bias=False) for _ in range(3))
        self.out = nn.Linear(embedding_size, embedding_size)
        self.norm = nn.LayerNorm(embedding_size)

    def compare(self, query: Float[Tensor, "b e"], prototypes: Float[Tensor, "k e"]) -> Float[Tensor, "b k"]:
        return self.compare_refined(query, prototypes)[0]

    def compare_refined(
        self, query: Float[Tensor, "b e"], prototypes: Float[Tensor, "k e"]
    ) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b n n"]]:
        """Logits, and who attended to whom: rows sum to one, the particle itself is the last of n = k + 1."""
        together = torch.cat([prototypes.expand(len(query), -1, -1), query[:, None]], dim=1).detach()
        scores = self.query(together) @ self.key(together).mT / math.sqrt(query.shape[1])
        attention = scores.softmax(dim=2)
        seen = self.norm(together + self.out(attention @ self.value(together)))
        refined = -(seen[:, :-1] - seen[:, -1:]).square().sum(dim=2)
        return refined + minus_squared_distances(query, prototypes), attention


class PairHead(PrototypeHead):
    """Log odds that particle and prototype are of one class, linear in the absolute difference of their embeddings.

    Source: Zhou et al. 2021, "One-shot learning with attention-guided segmentation in cryo-electron tomography", Front.
    Mol. Biosci. 7:613347. Deviation: with several examples a particle is compared with their mean.
    """

    def __init__(self, embedding_size: int, class_count: int) -> None:
        super().__init__(embedding_size, class_count)
        self.linear = nn.Linear(embedding_size, 1)

    def compare(self, query: Float[Tensor, "b e"], prototypes: Float[Tensor, "k e"]) -> Float[Tensor, "b k"]:
        return self.linear((query[:, None] - prototypes).abs())[..., 0]  # type: ignore[no-any-return]

    def compare_pairs(self, first: Float[Tensor, "b e"], second: Float[Tensor, "b e"]) -> Float[Tensor, " b"]:
        """Log odds of each pair of a batch."""
        return self.linear((first - second).abs())[..., 0]  # type: ignore[no-any-return]


class PLDAHead(PrototypeHead):
    """Log likelihood of a particle given one example of each class, where it is known how classes and particles vary.

    Source: see `tomosift.learning.plda`. Deviation: several examples count as one that lies at their mean, which is
    as good up to five.
    """

    center: Tensor
    transform: Tensor
    shrinkage: Tensor
    default_temperature = 5.0  # embeddings stray farther than normal ones; about right for complexes that do not exist

    def __init__(self, embedding_size: int, class_count: int) -> None:
        super().__init__(embedding_size, class_count)
        directions = min(PLDA_DIMENSIONS, embedding_size)
        self.register_buffer("center", torch.zeros(embedding_size))
        self.register_buffer("transform", torch.eye(embedding_size, directions))
        self.register_buffer("shrinkage", torch.ones(directions))

    def compare(self, query: Float[Tensor, "b e"], prototypes: Float[Tensor, "k e"]) -> Float[Tensor, "b k"]:
        asked, known = (
            (functional.normalize(given, dim=1) - self.center) @ self.transform for given in (query, prototypes)
        )
        return minus_squared_distances(asked, known * self.shrinkage) / 2

    @torch.no_grad()
    def standardize(self, embeddings: Float[Tensor, "n e"]) -> None:
        self.center.copy_(functional.normalize(embeddings, dim=1).mean(0))

    @property
    def plda(self) -> PLDA:
        """The fitted PLDA as arrays."""
        return PLDA(*(part.cpu().numpy() for part in (self.center, self.transform, self.shrinkage)))

    @torch.no_grad()
    def load(self, discriminant: PLDA) -> None:
        """Compare as this says."""
        for own, given in (
            (self.center, discriminant.center),
            (self.transform, discriminant.transform),
            (self.shrinkage, discriminant.shrinkage),
        ):
            own.copy_(torch.as_tensor(given, dtype=own.dtype))


_PROTOTYPE_HEADS: dict[str, type[PrototypeHead]] = {
    "prototypes": CosineHead,
    "euclidean": EuclideanHead,
    "attention": AttentionHead,
    "pairs": PairHead,
    "plda": PLDAHead,
}


def build_head(name: HeadName, embedding_size: int, class_count: int) -> LinearHead | PrototypeHead | None:
    """A head for so many classes; none for a linear one without classes. Draws from torch's global generator."""
    if name == "linear":
        return LinearHead(embedding_size, class_count) if class_count else None
    return _PROTOTYPE_HEADS[name](embedding_size, class_count)


def minus_squared_distances(first: Float[Tensor, "b e"], second: Float[Tensor, "k e"]) -> Float[Tensor, "b k"]:
    """Minus the squared Euclidean distance of each of the first from each of the second."""
    # About a common origin, or far from it the squares would cancel.
    origin = second.detach().mean(dim=0) if len(second) else 0.0
    first, second = first - origin, second - origin
    return 2 * first @ second.T - first.square().sum(1, keepdim=True) - second.square().sum(1)

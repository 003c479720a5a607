"""Heads: the last part of a classifier, from an embedding to one logit per class.

A linear head is trained for its classes. The others hold one *prototype* per class, the mean embedding of its examples,
and differ in how they compare a particle with it. A further class is a further row, without training.
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

_MIN_DEVIATION = 1e-3  # of an embedding's dimension; smaller ones are not scaled up


class LinearHead(nn.Module):
    """Logits from standardized embeddings.

    In training, mean and standard deviation are those of the batch. In evaluation they are fixed; `standardize` takes
    them from subtomograms without augmentation after the encoder has changed. Running averages over augmented views, as
    in batch normalization, do not fit such subtomograms and cost up to 30 points of accuracy.
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
        """Set mean and standard deviation to those of these embeddings."""
        self.mean.copy_(embeddings.mean(0))
        self.deviation.copy_(embeddings.std(0, unbiased=False).clamp(min=_MIN_DEVIATION))

    @torch.no_grad()
    def load_probe(self, probe: LinearProbe) -> None:
        """Set the weights to those of a probe, expressed in standardized embeddings; call `standardize` before."""
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
    """Base of heads that compare a particle with one prototype per class; members implement `compare`."""

    prototype: Tensor
    default_temperature = 1.0
    """Temperature of the logits where no class has two examples to calibrate by."""

    def __init__(self, embedding_size: int, class_count: int) -> None:
        super().__init__()
        self.register_buffer("prototype", torch.zeros(class_count, embedding_size))

    def forward(self, embedding: Float[Tensor, "b e"]) -> Float[Tensor, "b k"]:
        return self.compare(embedding, self.prototype)

    def compare(self, query: Float[Tensor, "b e"], prototypes: Float[Tensor, "k e"]) -> Float[Tensor, "b k"]:
        """Compute the logits of queries for these prototypes."""
        raise NotImplementedError

    @torch.no_grad()
    def standardize(self, embeddings: Float[Tensor, "n e"]) -> None:
        """Fit to particles of any class before the first enrolment; most heads do not need that."""

    @torch.no_grad()
    def copy_from(self, earlier: "PrototypeHead") -> None:
        """Copy the weights and the prototypes of a head of the same kind, which may have fewer classes."""
        state = earlier.state_dict()
        known = state.pop("prototype")
        self.load_state_dict(state, strict=False)
        self.prototype[: len(known)] = known


class CosineHead(PrototypeHead):
    """Cosine of standardized embeddings; for encoders that were not trained with another comparison; ours."""

    center: Tensor
    scale: Tensor
    default_temperature = 0.1

    def __init__(self, embedding_size: int, class_count: int) -> None:
        super().__init__(embedding_size, class_count)
        self.register_buffer("center", torch.zeros(embedding_size))
        self.register_buffer("scale", torch.ones(embedding_size))

    def compare(self, query: Float[Tensor, "b e"], prototypes: Float[Tensor, "k e"]) -> Float[Tensor, "b k"]:
        unit, others = (functional.normalize((each - self.center) / self.scale, dim=1) for each in (query, prototypes))
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
    """Minus the squared distances of embeddings, plus those of embeddings refined by self-attention.

    For each particle, k prototypes and its own embedding pass through one layer of self-attention (one head, residual,
    layer normalization). Its gradients stop before the encoder, which learns from the plain distances.

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
        """Compute logits and attention, whose rows sum to one; the particle is the last of n = k + 1 entries."""
        entries = torch.cat([prototypes.expand(len(query), -1, -1), query[:, None]], dim=1).detach()
        scores = self.query(entries) @ self.key(entries).mT / math.sqrt(query.shape[1])
        attention = scores.softmax(dim=2)
        adapted = self.norm(entries + self.out(attention @ self.value(entries)))
        refined = -(adapted[:, :-1] - adapted[:, -1:]).square().sum(dim=2)
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
        """Compute the log odds of each pair of a batch to be of one class."""
        return self.linear((first - second).abs())[..., 0]  # type: ignore[no-any-return]


class PLDAHead(PrototypeHead):
    """Log likelihood of a particle given one example of each class, by a fitted PLDA.

    Source: see `tomosift.learning.plda`. Deviation: several examples count as one at their mean, which is as good for
    up to five.
    """

    center: Tensor
    transform: Tensor
    shrinkage: Tensor
    default_temperature = 5.0  # embeddings have heavier tails than a normal distribution; fits synthetic complexes

    def __init__(self, embedding_size: int, class_count: int) -> None:
        super().__init__(embedding_size, class_count)
        dimensions = min(PLDA_DIMENSIONS, embedding_size)
        self.register_buffer("center", torch.zeros(embedding_size))
        self.register_buffer("transform", torch.eye(embedding_size, dimensions))
        self.register_buffer("shrinkage", torch.ones(dimensions))

    def compare(self, query: Float[Tensor, "b e"], prototypes: Float[Tensor, "k e"]) -> Float[Tensor, "b k"]:
        coordinates, examples = (
            (functional.normalize(each, dim=1) - self.center) @ self.transform for each in (query, prototypes)
        )
        return minus_squared_distances(coordinates, examples * self.shrinkage) / 2

    @torch.no_grad()
    def standardize(self, embeddings: Float[Tensor, "n e"]) -> None:
        self.center.copy_(functional.normalize(embeddings, dim=1).mean(0))

    @property
    def plda(self) -> PLDA:
        """The fitted PLDA as arrays."""
        return PLDA(*(part.cpu().numpy() for part in (self.center, self.transform, self.shrinkage)))

    @torch.no_grad()
    def load(self, plda: PLDA) -> None:
        """Set the weights to those of a fitted PLDA."""
        for own, fitted in (
            (self.center, plda.center),
            (self.transform, plda.transform),
            (self.shrinkage, plda.shrinkage),
        ):
            own.copy_(torch.as_tensor(fitted, dtype=own.dtype))


_PROTOTYPE_HEADS: dict[str, type[PrototypeHead]] = {
    "prototypes": CosineHead,
    "euclidean": EuclideanHead,
    "attention": AttentionHead,
    "pairs": PairHead,
    "plda": PLDAHead,
}


def build_head(name: HeadName, embedding_size: int, class_count: int) -> LinearHead | PrototypeHead | None:
    """Build a head, whose weights are drawn from torch's global generator; None for a linear one without classes."""
    if name == "linear":
        return LinearHead(embedding_size, class_count) if class_count else None
    return _PROTOTYPE_HEADS[name](embedding_size, class_count)


def minus_squared_distances(first: Float[Tensor, "b e"], second: Float[Tensor, "k e"]) -> Float[Tensor, "b k"]:
    """Compute minus the squared Euclidean distance of each of the first from each of the second."""
    # About a common origin, since far from it the squares would cancel.
    origin = second.detach().mean(dim=0) if len(second) else 0.0
    first, second = first - origin, second - origin
    return 2 * first @ second.T - first.square().sum(1, keepdim=True) - second.square().sum(1)

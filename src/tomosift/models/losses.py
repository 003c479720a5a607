"""Losses of embeddings, attention matrices and masks."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional


def nt_xent(first: Float[Tensor, "b e"], second: Float[Tensor, "b e"], temperature: float) -> Float[Tensor, ""]:
    """Compute the normalized-temperature cross-entropy (NT-Xent) of two views of each of b particles.

    Each of the 2b views is classified: its class is the other view of its particle among the other 2b - 1. Embeddings
    are L2-normalized here. Chance level is log(2b - 1).

    Source: Chen et al. 2020, "A simple framework for contrastive learning of visual representations", equation 1.
    """
    embeddings = functional.normalize(torch.cat([first, second]), dim=1)
    similarity = embeddings @ embeddings.T / temperature
    similarity.fill_diagonal_(-torch.inf)
    b = len(first)
    partner = torch.arange(2 * b, device=first.device).roll(b)
    return functional.cross_entropy(similarity, partner)


def info_nce(
    query: Float[Tensor, "b e"], key: Float[Tensor, "b e"], queue: Float[Tensor, "q e"], temperature: float
) -> Float[Tensor, ""]:
    """Compute the cross-entropy of each query's own key against all keys of a queue (InfoNCE).

    No gradient flows to keys or queue. All arguments are L2-normalized here. Chance level is log(1 + q).

    Source: He et al. 2020, "Momentum contrast for unsupervised visual representation learning", equation 1.
    """
    query = functional.normalize(query, dim=1)
    key, queue = functional.normalize(key.detach(), dim=1), functional.normalize(queue.detach(), dim=1)
    positive = (query * key).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, query @ queue.T], dim=1) / temperature
    return functional.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))


def supervised_contrastive(
    embeddings: Float[Tensor, "b e"], label: Int64[Tensor, " b"], temperature: float
) -> Float[Tensor, ""]:
    """Compute the supervised contrastive loss, averaged over all pairs of particles of one class.

    The loss of a pair is the cross-entropy of the second particle against all others of the batch. Embeddings are
    L2-normalized here. Zero where no class has two particles.

    Source: Khosla et al. 2020, "Supervised contrastive learning", equation 2; all pairs count equally here.
    """
    unit = functional.normalize(embeddings, dim=1)
    is_self = torch.eye(len(label), dtype=torch.bool, device=label.device)
    logits = (unit @ unit.T / temperature).masked_fill(is_self, -torch.inf)
    is_pair = (label[:, None] == label) & ~is_self
    log_probability = torch.log_softmax(logits, dim=1)[is_pair]
    return -log_probability.mean() if len(log_probability) else embeddings.sum() * 0


def prototypical_loss(
    embeddings: Float[Tensor, "b e"], label: Int64[Tensor, " b"], temperature: float
) -> Float[Tensor, ""]:
    """Compute the cross-entropy of queries among class prototypes, by cosine.

    Particles alternate between support set and queries; a prototype is the mean of the support of its class.
    Embeddings are L2-normalized here. Particles of a class are consecutive, two or more; chance level is the logarithm
    of the number of classes.

    Source: Snell et al. 2017, "Prototypical networks for few-shot learning". Deviation: cosine over a temperature
    instead of the squared distance.
    """
    unit = functional.normalize(embeddings, dim=1)
    _, way = torch.unique(label, return_inverse=True)
    is_support = torch.arange(len(label), device=label.device) % 2 == 0
    member = functional.one_hot(way[is_support]).to(unit.dtype)
    prototypes = functional.normalize(member.T @ unit[is_support], dim=1)
    return functional.cross_entropy(unit[~is_support] @ prototypes.T / temperature, way[~is_support])


def attention_divergence(attention: Float[Tensor, "b n n"], way: Int64[Tensor, " b"]) -> Float[Tensor, ""]:
    """Compute the KL divergence of target attention from attention, averaged over all entries of all matrices.

    The target of each of n - 1 prototypes is itself. The particle (the last row) and the prototype of its class ``way``
    have a target of a half for themselves and a half for each other.

    Source: Li et al. 2020, PLoS Comput. Biol. 16:e1008227, ProtoNet-CE.
    """
    n = attention.shape[1]
    target = torch.eye(n, device=attention.device, dtype=attention.dtype).repeat(len(way), 1, 1)
    row = torch.arange(len(way), device=attention.device)
    for one in (way, torch.full_like(way, n - 1)):
        target[row, one, way] = target[row, one, n - 1] = 0.5
    return (torch.xlogy(target, target) - target * attention.clamp(min=1e-30).log()).mean()


def soft_dice_loss(
    logits: Float[Tensor, "b *d"], mask: Bool[Tensor, "b *d"], each_box: bool = False
) -> Float[Tensor, ""]:
    """Compute one minus the Dice coefficient of probabilities and masks.

    Parameters
    ----------
    logits
        Log odds of each voxel.
    mask
        Voxels of the particle.
    each_box
        Whether coefficients are computed for each box and averaged, so that large particles have no larger weight than
        small ones; otherwise all voxels of the batch count alike.

    Notes
    -----

    Source: Zhou et al. 2021, Front. Mol. Biosci. 7:613347: D = 1 - (2 sum(p g) + 1) / (sum p + sum g + 1).
    """
    probability, target = logits.sigmoid(), mask.to(logits.dtype)
    axes = tuple(range(1 if each_box else 0, logits.ndim))
    both, either = (probability * target).sum(axes), probability.sum(axes) + target.sum(axes)
    return (1 - (2 * both + 1) / (either + 1)).mean()


def triplet_loss(
    embeddings: Float[Tensor, "b e"], label: Int64[Tensor, " b"], margin: float = 0.2
) -> Float[Tensor, ""]:
    """Compute the triplet loss with semi-hard negatives, in squared distances, averaged over pairs of one class.

    For every pair the negative is the nearest particle of another class that is farther than the positive, or the
    farthest of all where none is. Embeddings are L2-normalized here. Zero where the batch has no such pair.

    Source: Schroff et al. 2015, "FaceNet: A unified embedding for face recognition and clustering", semi-hard triplets.
    """
    unit = functional.normalize(embeddings, dim=1)
    distance = (2 - 2 * unit @ unit.T).clamp(min=0)
    is_same = label[:, None] == label
    anchor, positive = torch.nonzero(is_same & ~torch.eye(len(label), dtype=torch.bool, device=label.device)).T
    if len(anchor) == 0 or bool(is_same.all()):
        return distance.sum() * 0
    to_positive, others = distance[anchor, positive], distance[anchor]
    harder = (others > to_positive[:, None]) & ~is_same[anchor]
    semi_hard = others.masked_fill(~harder, torch.inf).amin(1)
    farthest = others.masked_fill(is_same[anchor], -torch.inf).amax(1)
    negative = torch.where(harder.any(1), semi_hard, farthest)
    return functional.relu(to_positive - negative + margin).mean()

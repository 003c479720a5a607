"""Losses between embeddings."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional


def nt_xent(first: Float[Tensor, "b e"], second: Float[Tensor, "b e"], temperature: float) -> Float[Tensor, ""]:
    """Normalized-temperature cross-entropy of 2b views: each must find its partner among the other 2b - 1.

    Embeddings are L2-normalized here. Chance level is log(2b - 1).

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
    """Cross-entropy of each query's own key against all keys of a queue; no gradient reaches keys or queue.

    All arguments are L2-normalized here. Chance level is log(1 + q).

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
    """Cross-entropy of each particle's others of its class against all others of the batch, mean over such pairs.

    Embeddings are L2-normalized here. Zero where no class has two particles.

    Source: Khosla et al. 2020, "Supervised contrastive learning", equation 2; all pairs count equally here.
    """
    unit = functional.normalize(embeddings, dim=1)
    oneself = torch.eye(len(label), dtype=torch.bool, device=label.device)
    logits = (unit @ unit.T / temperature).masked_fill(oneself, -torch.inf)
    pairs = (label[:, None] == label) & ~oneself
    told = torch.log_softmax(logits, dim=1)[pairs]
    return -told.mean() if len(told) else embeddings.sum() * 0


def prototypical_loss(
    embeddings: Float[Tensor, "b e"], label: Int64[Tensor, " b"], temperature: float
) -> Float[Tensor, ""]:
    """Cross-entropy of every second particle of each class among the means of the others, by cosine.

    Embeddings are L2-normalized here. Classes must have two particles or more, side by side; chance level is the
    logarithm of their number.

    Source: Snell et al. 2017, "Prototypical networks for few-shot learning". Deviation: cosine over a temperature
    instead of the squared distance.
    """
    unit = functional.normalize(embeddings, dim=1)
    _, way = torch.unique(label, return_inverse=True)
    is_example = torch.arange(len(label), device=label.device) % 2 == 0
    member = functional.one_hot(way[is_example]).to(unit.dtype)
    prototypes = functional.normalize(member.T @ unit[is_example], dim=1)
    return functional.cross_entropy(unit[~is_example] @ prototypes.T / temperature, way[~is_example])


def attention_divergence(attention: Float[Tensor, "b n n"], way: Int64[Tensor, " b"]) -> Float[Tensor, ""]:
    """KL divergence of who should attend to whom from who does, mean over all entries of all matrices.

    Each of n - 1 prototypes should look at itself, but a particle (the last) of class ``way`` and the prototype of that
    class at each other as much as at themselves.

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
    """One minus the Dice coefficient of probabilities and masks, over all voxels of the batch together.

    With ``each_box`` the mean of what each box has: large particles then weigh no more than small ones.

    Source: Zhou et al. 2021, Front. Mol. Biosci. 7:613347: D = 1 - (2 sum(p g) + 1) / (sum p + sum g + 1).
    """
    probability, wanted = logits.sigmoid(), mask.to(logits.dtype)
    axes = tuple(range(1 if each_box else 0, logits.ndim))
    both, either = (probability * wanted).sum(axes), probability.sum(axes) + wanted.sum(axes)
    return (1 - (2 * both + 1) / (either + 1)).mean()


def triplet_loss(
    embeddings: Float[Tensor, "b e"], label: Int64[Tensor, " b"], margin: float = 0.2
) -> Float[Tensor, ""]:
    """Each particle shall be nearer to its own class than to any other, by a margin of squared distance.

    For every pair of one class the negative is the nearest that is farther off than the positive, or the farthest of
    all where none is. Embeddings are L2-normalized here. Zero where the batch holds no such pair.

    Source: Schroff et al. 2015, "FaceNet: A unified embedding for face recognition and clustering", semi-hard triplets.
    """
    unit = functional.normalize(embeddings, dim=1)
    distance = (2 - 2 * unit @ unit.T).clamp(min=0)
    same = label[:, None] == label
    anchor, positive = torch.nonzero(same & ~torch.eye(len(label), dtype=torch.bool, device=label.device)).T
    if len(anchor) == 0 or bool(same.all()):
        return distance.sum() * 0
    near, others = distance[anchor, positive], distance[anchor]
    harder = (others > near[:, None]) & ~same[anchor]
    semi_hard = others.masked_fill(~harder, torch.inf).amin(1)
    farthest = others.masked_fill(same[anchor], -torch.inf).amax(1)
    negative = torch.where(harder.any(1), semi_hard, farthest)
    return functional.relu(near - negative + margin).mean()

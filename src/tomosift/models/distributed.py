"""Distributed batches: operations over the rows of all processes.

Rank r of n processes holds particles r, r + n, r + 2n ... of a batch, the same number as every other rank. With one
process these functions change nothing.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, distributed
from torch.nn import functional


def world_size() -> int:
    """Return the number of processes that train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def all_gather(share: Tensor) -> Tensor:
    """Gather the rows of all processes in the order of the batch, differentiably.

    Gradients flow back to the rank that a row came from, summed over all processes. A rank may compute the loss of the
    whole batch, or the mean loss of its own rows compared with all. In both cases the mean gradient over processes,
    which the optimizer uses, is that of a single process with the whole batch.

    Parameters
    ----------
    share
        Rows of this rank.
    """
    return share if world_size() == 1 else _AllGather.apply(share)  # type: ignore[no-untyped-call]


class _AllGather(torch.autograd.Function):
    """All-gather whose backward pass sums the gradients of all processes."""

    @staticmethod
    def forward(context: Any, share: Tensor) -> Tensor:
        parts = [torch.empty_like(share, memory_format=torch.contiguous_format) for _ in range(world_size())]
        distributed.all_gather(parts, share.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        whole = gradients[0].contiguous().clone()
        distributed.all_reduce(whole)
        return whole[distributed.get_rank() :: world_size()]


def distributed_dropout(share: Float[Tensor, "b *f"], probability: float, training: bool) -> Float[Tensor, "b *f"]:
    """Apply the dropout that a single process would apply to the whole batch, and return the rows of this rank.

    Random numbers come from torch's global generator, which has the same seed in all processes.
    """
    count = world_size()
    if count == 1 or not training or probability == 0:
        return functional.dropout(share, probability, training)
    whole = torch.empty(len(share) * count, *share.shape[1:], dtype=share.dtype, device=share.device)
    return share * whole.bernoulli_(1 - probability)[distributed.get_rank() :: count] / (1 - probability)

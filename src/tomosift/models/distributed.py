"""Batches that several processes hold together: what one of them computes, seen by all.

Process number r of n holds particles r, r + n, r + 2n ... of a batch, the same number as every other. Without other
processes these functions change nothing.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, distributed
from torch.nn import functional


def world_size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def all_gather(share: Tensor) -> Tensor:
    """The rows of all processes in the order of the batch, from ``share``, the rows of this one.

    Gradients flow back to the process that a row came from, summed over all processes. So whether each process then
    computes the same loss of the whole batch, or the mean loss of its own rows compared with all: the mean of gradients
    over processes, which is what descends, is that of a single process with the whole batch.
    """
    return share if world_size() == 1 else _Gathered.apply(share)  # type: ignore[no-untyped-call]


class _Gathered(torch.autograd.Function):
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
    """Dropout by torch's global generator, seeded alike everywhere; a row loses what it would lose in one process."""
    count = world_size()
    if count == 1 or not training or probability == 0:
        return functional.dropout(share, probability, training)
    whole = torch.empty(len(share) * count, *share.shape[1:], dtype=share.dtype, device=share.device)
    return share * whole.bernoulli_(1 - probability)[distributed.get_rank() :: count] / (1 - probability)

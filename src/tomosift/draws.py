"""Random numbers for the particles of a batch, also where each of several processes holds a part of the batch."""

from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_AT_ONCE = 16 * 32**3  # numbers


class ShardGenerator(torch.Generator):
    """The generator of one of ``count`` processes, which holds every count-th particle of a batch from ``rank`` on.

    All processes seed theirs alike. `normal` and `uniform` draw for the whole batch and keep the rows of this process,
    so that a particle gets the numbers that a single process would have drawn for it.
    """

    rank = 0
    count = 1


def normal(shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers of this shape, whose first axis counts particles, on the generator's device."""
    whole = torch.randn(_whole(shape, generator), generator=generator, dtype=dtype, device=generator.device)
    return _share(whole, generator)


def uniform(shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers in [0, 1) of this shape, whose first axis counts particles, on the generator's device."""
    whole = torch.rand(_whole(shape, generator), generator=generator, dtype=dtype, device=generator.device)
    return _share(whole, generator)


def seeds(n: int, generator: torch.Generator) -> Int64[Tensor, " n"]:
    """A seed for each of n particles."""
    shape = _whole((n,), generator)
    return _share(torch.randint(2**62, shape, generator=generator, device=generator.device), generator)


def add_seeded_noise_(
    volume: Float[Tensor, "n *shape"], std: Float[Tensor, " n"], seed: Int64[Tensor, " n"]
) -> Float[Tensor, "n *shape"]:
    """White Gaussian noise added in place: of each particle's own standard deviation, from a seed of its own.

    A number is one of the 65,536 that share a normal distribution evenly, 4.3 deviations at most: 16 random bits look
    it up, in two thirds of the time that torch takes for its normal numbers. On a GPU torch draws them: other numbers.
    """
    rows, deviation, numbers = volume.view(len(volume), -1), std.to(volume)[:, None], seed.tolist()
    own = torch.Generator(volume.device)
    if not volume.is_cpu:
        for row, number, strength in zip(rows, numbers, deviation, strict=True):
            row.addcmul_(torch.randn_like(row, generator=own.manual_seed(number)), strength)
        return volume
    each = rows.shape[1]
    at_once = max(1, min(len(rows), _AT_ONCE // each))
    # Memory that is used again stays in the processor's cache.
    words = torch.empty(at_once, -(-each // 4), dtype=torch.int64)
    place, noise = torch.empty(at_once, each, dtype=torch.int32), torch.empty(at_once * each)
    for start in range(0, len(rows), at_once):
        part = slice(start, start + at_once)
        for word, number in zip(words, numbers[part], strict=False):
            word.random_(-(2**63), None, generator=own.manual_seed(number))
        place.copy_(words.view(torch.uint16)[:, :each])
        torch.index_select(_normal_quantiles(), 0, place.flatten(), out=noise)
        rows[part].addcmul_(noise.view(at_once, each)[: len(rows) - start], deviation[part])
    return volume


@cache
def _normal_quantiles() -> Tensor:
    """In the middle of each of 65,536 equal shares."""
    quantiles: Tensor = torch.special.ndtri((torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16)
    return quantiles.float()


def _whole(shape: Sequence[int], generator: torch.Generator) -> tuple[int, ...]:
    count = generator.count if isinstance(generator, ShardGenerator) else 1
    return (shape[0] * count, *shape[1:])


def _share(whole: Tensor, generator: torch.Generator) -> Tensor:
    return whole[generator.rank :: generator.count] if isinstance(generator, ShardGenerator) else whole

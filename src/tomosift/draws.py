"""Random numbers for the particles of a batch, also where each of several processes holds a part of the batch."""

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor


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


def seeded_noise(
    seed: Int64[Tensor, " n"],
    shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Tensor:
    """Normal numbers (n, *shape), those of each particle from a seed of its own.

    On a GPU they are drawn there: other numbers than a processor would draw, the same ones for the same seeds.
    """
    numbers: list[int] = seed.tolist()
    if torch.device(device).type != "cpu":
        own = torch.Generator(device).manual_seed(sum(numbers) % 2**63)
        return torch.randn((len(numbers), *shape), generator=own, dtype=dtype, device=device)
    drawn = torch.empty((len(numbers), *shape), dtype=dtype)
    own = torch.Generator()
    for row, number in zip(drawn, numbers, strict=True):
        row.normal_(generator=own.manual_seed(number))
    return drawn


def _whole(shape: Sequence[int], generator: torch.Generator) -> tuple[int, ...]:
    count = generator.count if isinstance(generator, ShardGenerator) else 1
    return (shape[0] * count, *shape[1:])


def _share(whole: Tensor, generator: torch.Generator) -> Tensor:
    return whole[generator.rank :: generator.count] if isinstance(generator, ShardGenerator) else whole

"""Random numbers for the particles of a batch, also where several processes hold a part of the batch each."""

from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_NUMBERS_AT_ONCE = 16 * 32**3
# The constants of SplitMix64, as signed numbers of 64 bits.
_GOLDEN, *_FACTORS = (number - 2**64 for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


class ShardGenerator(torch.Generator):
    """The generator of one of ``count`` processes, which holds every count-th particle of a batch from ``rank`` on.

    All processes seed theirs alike. `draw_normal` and `draw_uniform` draw for the whole batch and keep the rows of this
    process, so that a particle gets the numbers that a single process would have drawn for it.

    Examples
    --------
    >>> import torch
    >>> from tomosift.rng import ShardGenerator, draw_normal
    >>> whole = draw_normal((4, 2), torch.Generator().manual_seed(0))
    >>> generator = ShardGenerator()
    >>> generator.rank, generator.count = 1, 2
    >>> _ = generator.manual_seed(0)
    >>> part = draw_normal((2, 2), generator)
    >>> torch.equal(part, whole[1::2])
    True
    """

    rank = 0
    count = 1


def draw_normal(shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw normal numbers of this shape, whose first axis counts particles, on the generator's device."""
    whole = torch.randn(_whole_shape(shape, generator), generator=generator, dtype=dtype, device=generator.device)
    return _own_rows(whole, generator)


def draw_uniform(shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw numbers in [0, 1) of this shape, whose first axis counts particles, on the generator's device."""
    whole = torch.rand(_whole_shape(shape, generator), generator=generator, dtype=dtype, device=generator.device)
    return _own_rows(whole, generator)


def draw_seeds(n: int, generator: torch.Generator) -> Int64[Tensor, " n"]:
    """Draw a seed for each of n particles."""
    shape = _whole_shape((n,), generator)
    return _own_rows(torch.randint(2**62, shape, generator=generator, device=generator.device), generator)


def add_seeded_noise_(
    volume: Float[Tensor, "n *shape"], std: Float[Tensor, " n"], seed: Int64[Tensor, " n"]
) -> Float[Tensor, "n *shape"]:
    """Add white Gaussian noise in place, with a standard deviation and a seed for each particle.

    A seed gives the same noise on every device and beside any other particles. 16 random bits choose one of the 65,536
    quantiles of a normal distribution, 4.3 deviations at most. One thread draws them in two thirds of the time of
    torch's normal numbers, and several threads work in parallel.

    Parameters
    ----------
    volume
        (n, ...) changed in place.
    std
        (n,) standard deviation of the noise.
    seed
        (n,) as of `draw_seeds`.

    Returns
    -------
    Tensor
        ``volume``.
    """
    rows, deviation, seed = volume.view(len(volume), -1), std.to(volume)[:, None], seed.to(volume.device)
    each, quantiles = rows.shape[1], _normal_quantiles().to(volume.device)
    at_once = max(1, min(len(rows), _NUMBERS_AT_ONCE // each) if volume.is_cpu else len(rows))
    # Reused memory stays in the processor's cache.
    space = seed.new_empty(2, at_once, -(-each // 4))
    index, noise = seed.new_empty(at_once, each, dtype=torch.int32), quantiles.new_empty(at_once * each)
    for start in range(0, len(rows), at_once):
        part = slice(start, start + at_once)
        count = len(rows[part])
        index[:count] = _random_words(seed[part], space[:, :count]).view(torch.uint16)[:, :each]
        torch.index_select(quantiles, 0, index.flatten(), out=noise)
        rows[part].addcmul_(noise.view(at_once, each)[:count], deviation[part])
    return volume


def _random_words(seed: Int64[Tensor, " n"], space: Int64[Tensor, "2 n w"]) -> Int64[Tensor, "n w"]:
    """Compute w words of 64 random bits of every seed, in the first half of ``space``.

    Source: SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), which computes any word without those before it, so that all
    words are computed in parallel; torch's own generators draw one number after the other.
    """
    word, shifted = space.unbind()
    torch.add(seed[:, None], torch.arange(1, word.shape[1] + 1, device=seed.device) * _GOLDEN, out=word)
    for shift, factor in ((30, _FACTORS[0]), (27, _FACTORS[1]), (31, 1)):
        # Shifts of torch bring in copies of the sign instead of zeros.
        torch.bitwise_right_shift(word, shift, out=shifted).bitwise_and_(2 ** (64 - shift) - 1)
        word.bitwise_xor_(shifted)
        if factor != 1:
            word.mul_(factor)
    return word


@cache
def _normal_quantiles() -> Tensor:
    """Quantiles of the normal distribution at the centers of 65,536 equal shares."""
    quantiles: Tensor = torch.special.ndtri((torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16)
    return quantiles.float()


def _whole_shape(shape: Sequence[int], generator: torch.Generator) -> tuple[int, ...]:
    count = generator.count if isinstance(generator, ShardGenerator) else 1
    return (shape[0] * count, *shape[1:])


def _own_rows(whole: Tensor, generator: torch.Generator) -> Tensor:
    return whole[generator.rank :: generator.count] if isinstance(generator, ShardGenerator) else whole

"""What depends on the step alone: its random numbers and its learning rate."""

import math

import torch

from tomosift.rng import ShardGenerator


def step_generator(seed: int, step: int, rank: int = 0, count: int = 1) -> torch.Generator:
    """Return the generator of one step, a function of (seed, step) alone.

    A particle of the batch gets the same random numbers, whichever of the ``count`` processes holds it.
    """
    generator = ShardGenerator()
    generator.rank, generator.count = rank, count
    return generator.manual_seed(mix_seed(seed, step))


def mix_seed(seed: int, step: int) -> int:
    """Return the seed of one step; generators of neighboring steps and seeds are decorrelated by it."""
    # Neighboring seeds of one generator have correlated first numbers; a fixed odd multiplier decorrelates them.
    return ((seed * 1_000_003 + step + 1) * 0x9E3779B97F4A7C15) % (2**63)


def learning_rate_share(step: int, steps: int, warmup: float) -> float:
    """Return the share of the peak learning rate at a step: linear warm-up, then half a cosine.

    Parameters
    ----------
    step
        The first step is 0.
    steps
        Number of steps of the whole training.
    warmup
        Share of the steps in the warm-up, 0 to 1.

    Examples
    --------
    >>> from tomosift.train.schedule import learning_rate_share
    >>> [round(learning_rate_share(step, 6, 0.5), 2) for step in range(6)]
    [0.33, 0.67, 1.0, 1.0, 0.75, 0.25]
    """
    warm = max(1, round(warmup * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 + 0.5 * math.cos(math.pi * (step - warm) / max(1, steps - warm))

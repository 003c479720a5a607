"""Random numbers for the particles of a batch."""

import pytest
import torch
from scipy.stats import kstest

from tomosift.rng import _random_words, add_seeded_noise_, draw_seeds


def noise(seed: torch.Tensor, *shape: int, std: float = 1.0) -> torch.Tensor:
    return add_seeded_noise_(torch.zeros(len(seed), *shape), torch.full((len(seed),), std), seed)


def some_seeds(n: int) -> torch.Tensor:
    return draw_seeds(n, torch.Generator().manual_seed(3))


def test_noise_is_normal_and_white() -> None:
    drawn = noise(some_seeds(20), 32, 32, 32).double()
    assert kstest(drawn.flatten().numpy(), "norm").pvalue > 1e-3
    moments = [float((drawn**power).mean()) for power in (1, 2, 3, 4)]
    assert moments == pytest.approx([0, 1, 0, 3], abs=0.05)
    assert 4 < float(drawn.abs().max()) < 4.4
    lagged = [float((drawn * drawn.roll(lag, axis)).mean()) for axis in (1, 2, 3) for lag in (1, 2, 8, 16)]
    assert max(map(abs, lagged)) < 5 / drawn.numel() ** 0.5
    one_another = torch.corrcoef(drawn.flatten(1)) - torch.eye(20)
    assert float(one_another.abs().max()) < 5 / drawn[0].numel() ** 0.5


@pytest.mark.parametrize("size", [1, 3, 7, 32, 70])
def test_the_noise_of_a_particle_does_not_depend_on_the_batch(size: int) -> None:
    seed = some_seeds(11)
    batch = noise(seed, size, size, size)
    assert len(torch.unique(batch[:, 0, 0, 0])) == 11
    for row in (0, 7, 10):
        assert torch.equal(noise(seed[row : row + 1], size, size, size)[0], batch[row])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_is_added_in_place_with_the_deviation_of_each(dtype: torch.dtype) -> None:
    volume = torch.randn(9, 32, 32, 32, generator=torch.Generator().manual_seed(1), dtype=dtype)
    before, std, seed = volume.clone(), torch.linspace(0, 2, 9), some_seeds(9)
    assert add_seeded_noise_(volume, std, seed) is volume
    added = std.to(dtype)[:, None, None, None] * noise(seed, 32, 32, 32).to(dtype)
    torch.testing.assert_close(volume - before, added, atol=1e-5, rtol=0)
    assert torch.equal(volume[0], before[0])


def test_random_words_are_those_of_split_mix() -> None:
    """The first words for this seed as published with other implementations."""
    words = _random_words(torch.tensor([1234567, 5]), torch.empty(2, 2, 3, dtype=torch.int64))
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [word % 2**64 for word in words[0].tolist()] == published

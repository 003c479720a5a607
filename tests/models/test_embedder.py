"""Embedders: the center search before the encoder, and offsets that are estimated once."""

from dataclasses import replace

import pytest
import torch

from tomosift.models.embedder import CenterCache, Embedder
from tomosift.models.encoders import ENCODERS, build_encoder
from tomosift.models.recentering import Recentering, estimate_picking_error, recenter


def noise(count: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, size, size, size, generator=torch.Generator().manual_seed(seed))


def seeded(name: str, seed: int = 0) -> Embedder:
    torch.manual_seed(seed)
    return Embedder(build_encoder(name).eval(), Recentering())


RECENTERING = [name for name in ENCODERS if build_encoder(name).recenters]
OTHERS = [name for name in ENCODERS if name not in RECENTERING]


@pytest.mark.parametrize("name", [name for name in ENCODERS if build_encoder(name).center_candidates > 1])
def test_the_embedding_is_the_mean_over_center_candidates_weighted_by_their_posterior(name: str) -> None:
    embedder, batch = seeded(name), noise(2, 20)
    with torch.inference_mode():
        count = embedder.encoder.center_candidates
        offsets, posterior = embedder.recentering.find_candidates(batch, count)
        each = [embedder.encoder(recenter(batch, offsets[:, k])) for k in range(count)]
        expected = torch.einsum("mbe,bm->be", torch.stack(each), posterior)
        torch.testing.assert_close(embedder(batch), expected)
        assert not torch.allclose(expected, each[0])


@pytest.mark.parametrize("name", OTHERS)
def test_encoders_that_do_not_recenter_embed_subtomograms_as_they_are(name: str) -> None:
    embedder, batch = seeded(name), noise(2, 20)
    with torch.inference_mode():
        torch.testing.assert_close(embedder(batch), embedder.encoder(batch))
    assert embedder.recenter(batch) is batch
    assert CenterCache().recenter(embedder, batch, torch.arange(2)) is batch
    assert torch.equal(embedder.estimate_offsets(batch), torch.zeros(2, 3, dtype=torch.int64))


@pytest.mark.parametrize("name", RECENTERING)
def test_encoders_that_recenter_get_the_most_probable_center(name: str) -> None:
    embedder, batch = seeded(name), noise(3, 16)
    offsets = embedder.recentering.estimate_offsets(batch)
    assert torch.equal(embedder.estimate_offsets(batch), offsets)
    assert torch.equal(embedder.recenter(batch), recenter(batch, offsets))
    assert torch.equal(CenterCache().recenter(embedder, batch, torch.arange(3)), recenter(batch, offsets))


def test_fitting_estimates_the_picking_error_only_for_encoders_that_recenter() -> None:
    volume = noise(4, 16)
    fitted = [
        float(Embedder.fit(seeded(name).encoder, volume).recentering.picking_error) for name in ("radial", "dense")
    ]
    assert fitted == pytest.approx([estimate_picking_error(volume), float(Recentering().picking_error)])


def test_offsets_of_each_subtomogram_of_a_set_are_estimated_once() -> None:
    counts: list[int] = []

    class FirstVoxels(Recentering):
        def estimate_offsets(self, volume: torch.Tensor) -> torch.Tensor:
            counts.append(len(volume))
            return volume[:, :3, 0, 0].long()

    embedder = replace(seeded("radial"), recentering=FirstVoxels())
    volume = torch.arange(6.0)[:, None, None, None].expand(6, 4, 4, 4)
    cache = CenterCache()
    first = cache.estimate_offsets(embedder, volume[:3], torch.tensor([7, 8, 9]))
    second = cache.estimate_offsets(embedder, volume[[2, 5, 0]], torch.tensor([9, 11, 7]))
    third = cache.estimate_offsets(embedder, volume[[1, 1]], torch.tensor([8, 8]))
    assert counts == [3, 1]
    assert first[:, 0].tolist() == [0, 1, 2]
    assert second[:, 0].tolist() == [2, 5, 0]
    assert third[:, 0].tolist() == [1, 1]
    assert third.dtype == torch.int64

"""Streams are pure functions of (seed, step)."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tomosift.data.batches import BalancedStream, Batch, PairedStream, PrefetchStream, UniformStream
from tomosift.data.episodes import Episodes, Pairs
from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.particles import Particles

N, SIZE = 29, 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Subtomograms:
    """29 boxes: 18 of class a, 7 of b, 2 of c, 2 unlabeled."""
    rng = np.random.default_rng(0)
    names = np.asarray(["a"] * 18 + ["b"] * 7 + ["c"] * 2 + [""] * 2, dtype=object)
    particles = Particles.create(["t"] * N, np.zeros((N, 3)), class_name=names)
    writer = SubtomogramWriter(
        tmp_path_factory.mktemp("set"), SIZE, 10.0, shard_size=8, has_halves=True, has_masks=True
    )
    volume = rng.normal(size=(N, SIZE, SIZE, SIZE)).astype(np.float32)
    halves = rng.normal(size=(N, 2, SIZE, SIZE, SIZE)).astype(np.float32)
    writer.append(volume, particles, np.array([-60, 55]), halves, masks=volume > 0)
    return writer.close()


def same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.index, other.index) and torch.equal(one.volume, other.volume)


def test_a_batch_is_the_rows_of_the_set(data: Subtomograms) -> None:
    batch = UniformStream(data, 5, seed=1, halves=True).batch(3)
    rows = batch.index.numpy()
    np.testing.assert_array_equal(batch.volume.numpy(), data.volumes(rows))
    assert batch.halves is not None
    np.testing.assert_array_equal(batch.halves.numpy(), data.halves(rows))
    np.testing.assert_array_equal(batch.label.numpy(), data.label[rows])
    assert batch.tilt_range_deg.tolist() == [[-60, 55]] * 5
    assert batch.rotation.isnan().all()
    assert {batch.volume.dtype, batch.rotation.dtype, batch.tilt_range_deg.dtype} == {torch.float32}
    assert UniformStream(data, 5, seed=1).batch(3).halves is None
    assert same(batch.to("cpu"), batch)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 70), st.integers(0, 5))
def test_every_particle_comes_once_per_epoch(data: Subtomograms, batch_size: int, seed: int) -> None:
    stream = UniformStream(data, batch_size, seed)
    steps = -(-3 * N // batch_size)
    drawn = np.concatenate([stream.rows(step) for step in range(steps)])[: 3 * N].reshape(3, N)
    for epoch in drawn:
        assert sorted(epoch.tolist()) == list(range(N))
    assert drawn[0].tolist() != drawn[1].tolist()


def test_batches_depend_on_seed_and_step_alone(data: Subtomograms) -> None:
    for kind in (UniformStream, BalancedStream):
        forward = [kind(data, 6, 2).batch(step) for step in range(12)]
        stream = kind(data, 6, 2)
        backward = [stream.batch(step) for step in reversed(range(12))][::-1]
        assert all(same(one, other) for one, other in zip(forward, backward, strict=True))
        assert not same(kind(data, 6, 3).batch(0), forward[0])
        assert not same(forward[1], forward[0])


def test_balanced_batches_hold_each_class_equally_often(data: Subtomograms) -> None:
    stream = BalancedStream(data, 9, seed=0)
    for step in range(20):
        batch = stream.batch(step)
        assert batch.label.bincount().tolist() == [3, 3, 3]
        assert len(set(batch.index[batch.label == 1].tolist())) == 3
    shares = torch.cat([BalancedStream(data, 4).batch(step).label for step in range(300)]).bincount() / 1200
    assert torch.allclose(shares, torch.full((3,), 1 / 3), atol=0.03)


def test_support_and_query_never_share_a_particle(data: Subtomograms) -> None:
    stream = Episodes(data, ways=2, shots=3, queries=4, seed=5)
    for step in range(20):
        episode = stream.batch(step)
        assert episode.support.label.tolist() == [0] * 3 + [1] * 3
        assert episode.query.label.tolist() == [0] * 4 + [1] * 4
        assert not set(episode.support.index.tolist()) & set(episode.query.index.tolist())
        for part in (episode.support, episode.query):
            original = torch.from_numpy(data.label)[part.index]
            assert torch.equal(episode.classes[part.label], original)
    assert same(stream.batch(3).query, Episodes(data, 2, 3, 4, 5).batch(3).query)
    assert stream.batch(0).to("cpu").classes.tolist() == stream.batch(0).classes.tolist()


def test_paired_streams_give_the_same_step(data: Subtomograms) -> None:
    labeled, every = BalancedStream(data, 3), UniformStream(data, 7)
    joined = PairedStream((labeled, every)).batch(4)
    first, second = joined.parts
    assert same(first, labeled.batch(4))
    assert same(second, every.batch(4))
    assert [len(part) for part in joined.shard(1, 2).to("cpu").parts] == [1, 3]


@pytest.mark.parametrize("workers", [1, 3])
def test_prefetching_changes_nothing(data: Subtomograms, workers: int) -> None:
    stream = UniformStream(data, 4, seed=9)
    ahead = PrefetchStream(stream, workers)
    for step in (3, 4, 5, 5, 11, 2, 3):  # also where a step is requested again, or out of order
        assert same(ahead.batch(step), stream.batch(step))
    ahead.close()


def test_prefetching_passes_errors_on() -> None:
    class Broken:
        def batch(self, step: int) -> Batch:
            raise OSError(f"disk gone at {step}")

    ahead = PrefetchStream(Broken())
    with pytest.raises(OSError, match="disk gone at 2"):
        ahead.batch(2)
    ahead.close()


def test_impossible_requests_are_refused_with_advice(data: Subtomograms) -> None:
    with pytest.raises(ValueError, match="batch_size is 0"):
        UniformStream(data, 0)
    with pytest.raises(ValueError, match="select at least one"):
        UniformStream(data.empty(), 4)
    with pytest.raises(ValueError, match="label at least one"):
        BalancedStream(data.select(np.array([27, 28])), 4)
    with pytest.raises(ValueError, match="2 classes have 5 or more"):
        Episodes(data, ways=3, shots=2, queries=3)
    with pytest.raises(ValueError, match="workers is 0"):
        PrefetchStream(UniformStream(data, 4), workers=0)


@pytest.mark.parametrize(("balanced", "share"), [(True, 0.5), (False, 1 / 3)])
def test_pairs_are_of_one_class_as_often_as_requested_and_never_of_one_particle(
    balanced: bool, share: float, data: Subtomograms
) -> None:
    stream = Pairs(data, 10, balanced, seed=3)
    batches = [stream.batch(step) for step in range(100)]
    alike = torch.cat([batch.is_same for batch in batches]).float().mean()
    assert abs(float(alike) - share) < 0.06
    for batch in batches:
        assert torch.equal(batch.first.label == batch.second.label, batch.is_same)
        assert not bool((batch.first.index == batch.second.index).any())
        assert int(torch.cat([batch.first.label, batch.second.label]).min()) >= 0
    assert same(batches[7].first, Pairs(data, 10, balanced, seed=3).batch(7).first)


def test_masks_belong_to_their_boxes_and_survive_sharding(data: Subtomograms) -> None:
    batch = Pairs(data, 6, masks=True).batch(0).shard(1, 2)
    assert batch.first.mask is not None
    np.testing.assert_array_equal(batch.first.mask.numpy(), data.masks(batch.first.index.numpy()))
    assert len(batch.first) == len(batch.is_same) == 3
    with pytest.raises(ValueError, match="1 classes have two or more labeled particles"):
        Pairs(data.select(data.label == 0), 6)

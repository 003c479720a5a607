"""The stream is a function of seed and step, never repeats itself, and keeps what it says of its boxes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tomosift.simulation.structures.distractors import random_distractor
from tomosift.simulation.structures.synthetic_complexes import LARGEST_RADIUS_ANGSTROM
from tomosift.simulation.synthetic_stream import WIDE_RANGES, SyntheticComplexStream

STREAM = SyntheticComplexStream(classes=4, per_class=3, seed=5, box_size=16)


def test_batch_is_a_function_of_seed_and_step() -> None:
    first, again, later, other = (
        STREAM.batch(2),
        STREAM.batch(2),
        STREAM.batch(3),
        replace(STREAM, seed=6).batch(2),
    )
    assert torch.equal(first.volume, again.volume)
    assert not torch.equal(first.volume, later.volume)
    assert not torch.equal(first.volume, other.volume)
    assert first.label.tolist() == [8, 8, 8, 9, 9, 9, 10, 10, 10, 11, 11, 11]
    assert later.label.min() == 12
    assert later.index.tolist() == list(range(36, 48))


def test_boxes_are_normalized_and_say_how_they_were_imaged() -> None:
    batch = STREAM.batch(0)
    assert batch.volume.shape == (12, 16, 16, 16)
    assert batch.volume.mean(dim=(1, 2, 3)).abs().max() < 1e-4
    assert (batch.volume.std(dim=(1, 2, 3)) - 1).abs().max() < 1e-2
    half = (batch.tilt_range_deg[:, 1] - batch.tilt_range_deg[:, 0]) / 2
    assert half.min() >= WIDE_RANGES.max_tilt_deg[0] - 1e-3
    assert half.max() <= WIDE_RANGES.max_tilt_deg[1] + 1e-3


def test_particles_of_one_complex_are_similar_without_noise() -> None:
    still = replace(WIDE_RANGES, has_noise=False, has_wedge=False, rotation_max_deg=0.0, shift_voxels=(0.0, 0.0))
    same = replace(STREAM, ranges=replace(still, scale=(1.0, 1.0)), least_shift_voxels=0.0, max_neighbors=0)
    flat = same.batch(1).volume.flatten(1)
    flat = flat / flat.norm(dim=1, keepdim=True)
    alike = flat @ flat.T
    own = torch.block_diag(*4 * [torch.ones(3, 3)]) > 0
    assert alike[own].min() > 0.8
    assert alike[own].mean() > alike[~own].mean() + 0.2


def test_halves_share_the_particle_and_not_the_noise() -> None:
    batch = replace(STREAM, ranges=replace(WIDE_RANGES, snr=(0.01, 0.01)), halves=True).batch(0)
    assert batch.halves is not None
    assert batch.halves.shape == (12, 2, 16, 16, 16)
    both = batch.halves.flatten(2)
    correlation = (both[:, 0] * both[:, 1]).mean(dim=1)
    assert correlation.abs().max() < 0.2


def test_distractors_are_among_the_classes() -> None:
    plain, mixed = STREAM.batch(0), replace(STREAM, distractors=1).batch(0)
    assert mixed.volume.shape == plain.volume.shape
    assert not torch.equal(plain.volume[-3:], mixed.volume[-3:])


@pytest.mark.parametrize("seed", range(24))
def test_distractors_fit_where_complexes_fit(seed: int) -> None:
    beads = random_distractor(np.random.default_rng(seed))
    again = random_distractor(np.random.default_rng(seed))
    assert torch.equal(beads, again)
    assert len(beads) > 3
    assert (beads[:, 4] > 0).all()
    assert beads[:, :3].norm(dim=1).max() <= 1.05 * LARGEST_RADIUS_ANGSTROM
    assert beads[:, :3].mean(dim=0).norm() < 20


def test_no_real_structure_is_ever_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    # What learns from the stream has no homologue of anything: that is how families are kept apart.
    def opened(*args: object, **kwargs: object) -> None:
        raise AssertionError("a structure was opened")

    for name in ("load_atlas_entry", "entry_density", "atlas_names"):
        monkeypatch.setattr(f"tomosift.simulation.structures.atlas.{name}", opened)
    monkeypatch.setattr("tomosift.simulation.structures.densities.template", opened)
    monkeypatch.setattr("tomosift.simulation.subtomograms.template", opened)
    assert len(replace(STREAM, distractors=2).batch(0)) == 12

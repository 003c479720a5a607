"""Synthetic complexes resemble complexes: centered, connected, within their limits, and never the same."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from tomosift.physics.imaging import lab_protocol
from tomosift.simulation.structures.synthetic_complexes import (
    LARGEST_KDA,
    LARGEST_RADIUS_ANGSTROM,
    SMALLEST_KDA,
    _random_walk,
    _symmetrize,
    synthetic_complex,
    synthetic_complexes,
    synthetic_names,
)
from tomosift.simulation.subtomograms import simulate_synthetic_complexes


@pytest.mark.parametrize("seed", range(40))
def test_complex_is_centered_compact_and_of_a_protein_s_density(seed: int) -> None:
    beads = synthetic_complex(np.random.default_rng(seed))
    assert beads[:, :3].mean(dim=0).abs().max() < 1e-3
    assert beads[:, :3].norm(dim=1).max() <= LARGEST_RADIUS_ANGSTROM
    kda = float(beads[:, 4].sum()) / 3500
    assert SMALLEST_KDA <= kda <= 1.9 * LARGEST_KDA
    # Every bead has a neighbor within reach: nothing floats about alone.
    distance, _ = cKDTree(beads[:, :3].numpy()).query(beads[:, :3].numpy(), k=2)
    assert distance[:, 1].max() < 30


def test_same_generator_same_complex_and_other_seeds_others() -> None:
    first, again, other = (synthetic_complex(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.allclose(first, other)


@pytest.mark.parametrize(("group", "copies"), [("C3", 3), ("C7", 7), ("T", 12), ("O", 24), ("I", 60)])
def test_copies_obey_their_point_group_and_do_not_cut_each_other(group: str, copies: int) -> None:
    rng = np.random.default_rng(5)
    position = _symmetrize(_random_walk(30.0, rng), group, rng)
    one = len(position) // copies
    for turn in Rotation.create_group(group):
        assert cKDTree(position).query(turn.apply(position))[0].max() < 1e-6
    assert cKDTree(position[:one]).query(position[one:])[0].min() >= 12.9


def test_complexes_are_named_and_as_dense_as_protein() -> None:
    assert synthetic_names(3, 9) == ("random-9-0000", "random-9-0001", "random-9-0002")
    templates = synthetic_complexes(3, 9, 10.0)
    still = torch.eye(3).expand(3, 3, 3)
    for density in templates.render(torch.arange(3), still, torch.zeros(3, 3), 48):
        assert 1.5 < float(density.max()) < 15


def test_sets_hold_their_complexes_and_other_particles_of_the_same_ones(tmp_path: Path) -> None:
    clean = replace(lab_protocol(), snr=(float("inf"), float("inf")))
    first, again, others = (
        simulate_synthetic_complexes(2, 3, clean, 5, tmp_path / name, box_size=16, seed_of_particles=seed)
        for name, seed in (("first", None), ("again", 5), ("others", 6))
    )
    assert first.class_names == again.class_names == others.class_names == synthetic_names(2, 5)
    rows = np.arange(6)
    assert np.array_equal(first.volumes(rows), again.volumes(rows))
    assert not np.array_equal(first.volumes(rows), others.volumes(rows))

"""Beads drawn in any pose are the map of the same beads, turned: place, size, density, and nothing where none is."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tomosift.physics.fourier import low_pass
from tomosift.physics.rotation import random_rotations
from tomosift.physics.wedge import apply_mask
from tomosift.simulation.structures.bead_models import beads_density
from tomosift.simulation.structures.bead_templates import BeadTemplates, prepare_beads
from tomosift.simulation.structures.densities import mask, template_radius_angstrom

# Two bodies of different weight and width, in Angstrom: no symmetry.
LOPSIDED = torch.tensor([[40.0, 0.0, -10.0, 7.0, 9e4], [-30.0, 25.0, 0.0, 9.0, 6e4], [0.0, -45.0, 20.0, 6.0, 3e4]])
SMALL = torch.tensor([[0.0, 0.0, 0.0, 8.0, 5e4]])
EYE = torch.eye(3)


@pytest.fixture(scope="module")
def templates() -> BeadTemplates:
    return prepare_beads((LOPSIDED, SMALL), 10.0)


def within(volume: torch.Tensor) -> torch.Tensor:
    """What both ways of cutting at Nyquist leave alone."""
    return apply_mask(volume, low_pass(volume.shape[-1], torch.tensor([0.6])))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([27, 32]), st.floats(0.8, 1.25))
def test_turned_moved_and_magnified_beads_are_those_of_a_map(seed: int, size: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    rotation = random_rotations(1, generator)
    shift = 6 * torch.rand(1, 3, generator=generator) - 3
    ours = prepare_beads((LOPSIDED,), 10.0).render(
        torch.tensor([0]), rotation, shift, size, scale=torch.tensor([scale])
    )
    posed = LOPSIDED.clone()
    posed[:, :3] = scale * LOPSIDED[:, :3] @ rotation[0].T + 10.0 * shift
    posed[:, 3] *= scale
    posed[:, 4] *= scale**3
    whole = beads_density(posed, 10.0, size)[None]
    assert float((within(ours) - within(whole)).norm() / within(whole).norm()) < 0.02
    assert float(ours.sum()) == pytest.approx(float(whole.sum()), rel=5e-3)


def test_radius_and_level_are_those_of_the_density(templates: BeadTemplates) -> None:
    density = beads_density(LOPSIDED, 10.0, 32)
    assert 10.0 * float(templates.radius_voxels[0]) == pytest.approx(template_radius_angstrom(density, 10.0))
    drawn = templates.render(torch.tensor([0]), EYE[None], torch.zeros(1, 3), 32)[0]
    same = (drawn > templates.mask_level[0]) == mask(density)
    assert same.float().mean() > 0.999


def test_whole_voxel_shift_moves_voxels_exactly(templates: BeadTemplates) -> None:
    resting = templates.render(torch.tensor([0]), EYE[None], torch.zeros(1, 3), 32)
    moved = templates.render(torch.tensor([0]), EYE[None], torch.tensor([[3.0, -2.0, 5.0]]), 32)
    inner = (slice(None), slice(6, 26), slice(6, 26), slice(6, 26))  # what rings at the faces does not come round
    torch.testing.assert_close(moved[inner], resting.roll((3, -2, 5), dims=(1, 2, 3))[inner], atol=1e-3, rtol=0)


def test_each_box_has_its_own_molecule_and_only_where_shown(templates: BeadTemplates) -> None:
    label, eye = torch.tensor([0, 1, 0]), EYE.expand(3, 3, 3)
    drawn = templates.render(label, eye, torch.zeros(3, 3), 24, is_visible=torch.tensor([True, True, False]))
    assert drawn[2].abs().max() == 0
    alone = templates.render(label[1:2], eye[:1], torch.zeros(1, 3), 24)
    torch.testing.assert_close(drawn[1], alone[0])
    assert float(drawn[0].sum()) * 1000 == pytest.approx(float(LOPSIDED[:, 4].sum()), rel=1e-3)


def test_beads_far_outside_never_come_in_again_at_the_other_face(templates: BeadTemplates) -> None:
    for far in (16.0, 24.0, 40.0, 1000.0):
        drawn = templates.render(torch.tensor([1]), EYE[None], torch.tensor([[0.0, 0.0, far]]), 32)
        assert drawn[..., :8].abs().max() < 1e-3 * templates.mask_level[1] / 0.1
    assert drawn.abs().max() == 0


def test_to_a_device_and_back(templates: BeadTemplates) -> None:
    there = templates.to("cpu")
    assert len(there) == len(templates) == 2
    assert there.largest_scale == math.inf

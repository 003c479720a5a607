"""The fast fidelity: what is recorded is true, what is promised holds, and seeds decide everything."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tomosift.data.subtomogram_set import open_subtomograms
from tomosift.physics.imaging import ImagingRanges, lab_protocol
from tomosift.physics.rotation import rotate_upsampled, upsample
from tomosift.simulation.batch import simulate_batch
from tomosift.simulation.crowding import PreparedTemplates, prepare_templates
from tomosift.simulation.structures.densities import template
from tomosift.simulation.subtomograms import (
    SubtomogramSetConfig,
    draw_labels,
    simulate_subtomograms,
)

NAMES = ("groel", "igg", "apoferritin")
CLEAN = ImagingRanges(
    has_ctf=False, has_noise=False, has_wedge=False, voxel_spacing_angstrom=(16.0, 16.0), shift_voxels=(-2.0, 2.0)
)
NOISY = ImagingRanges(snr=(0.2, 0.2), voxel_spacing_angstrom=(16.0, 16.0), shift_voxels=(-2.0, 2.0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.fixture(scope="module")
def densities() -> torch.Tensor:
    return torch.stack([template(name, 16.0, 16) for name in NAMES])


@pytest.fixture(scope="module")
def templates(densities: torch.Tensor) -> PreparedTemplates:
    return prepare_templates(densities, 16.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_same_seed_same_boxes_and_another_seed_others(templates: PreparedTemplates) -> None:
    first, again, other = (simulate_batch(templates, LABELS, NOISY, seeded(s), box_size=16) for s in (4, 4, 5))
    assert torch.equal(first.volume, again.volume)
    assert torch.equal(first.mask, again.mask)
    assert not torch.allclose(first.volume, other.volume)


def test_recorded_pose_and_shift_reproduce_the_clean_box(templates: PreparedTemplates, densities: torch.Tensor) -> None:
    batch = simulate_batch(templates, LABELS, CLEAN, seeded(1), box_size=16, max_neighbors=0)
    fine = upsample(densities[LABELS])
    expected = rotate_upsampled(fine, 2, batch.rotation, batch.shift_zyx_voxels)
    error = (batch.volume - expected).norm() / expected.norm()
    assert float(error) < 0.05
    assert batch.shift_zyx_voxels.abs().max() <= 2


def test_mask_is_where_the_target_is_and_not_its_neighbors(templates: PreparedTemplates) -> None:
    alone = simulate_batch(templates, LABELS, CLEAN, seeded(2), box_size=16, max_neighbors=0)
    crowded = simulate_batch(templates, LABELS, CLEAN, seeded(2), box_size=16, max_neighbors=4)
    # The target's conditions are drawn first, so neighbors change neither its pose nor its mask.
    assert torch.equal(alone.mask, crowded.mask)
    inside = alone.volume[alone.mask].mean()
    outside = alone.volume[~alone.mask].mean()
    assert inside > 10 * outside.abs()
    assert (crowded.volume - alone.volume)[alone.mask].abs().max() < 0.5 * alone.volume.max()


def test_number_of_neighbors_runs_from_none_to_the_most(templates: PreparedTemplates) -> None:
    labels = torch.zeros(80, dtype=torch.int64)
    batch = simulate_batch(templates, labels, CLEAN, seeded(3), box_size=16, max_neighbors=2)
    assert set(batch.neighbors.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("max_neighbors", [0, 3])
def test_snr_holds_in_the_box_that_is_returned(templates: PreparedTemplates, max_neighbors: int) -> None:
    labels = torch.arange(60) % 3
    batch = simulate_batch(templates, labels, NOISY, seeded(6), box_size=16, max_neighbors=max_neighbors, halves=True)
    assert batch.halves is not None
    # Half the difference of the halves is pure noise of the same variance as that of their mean.
    noise = (batch.halves[:, 0] - batch.halves[:, 1]) / 2
    noise_variance = noise.var(dim=(1, 2, 3)).mean()
    total_variance = batch.volume.var(dim=(1, 2, 3)).mean()
    assert float((total_variance - noise_variance) / noise_variance) == pytest.approx(0.2, abs=0.06)


def test_halves_have_the_volume_as_mean_and_independent_noise(templates: PreparedTemplates) -> None:
    ranges = replace(NOISY, snr=(1e-4, 1e-4))
    batch = simulate_batch(templates, LABELS, ranges, seeded(7), box_size=16, halves=True)
    assert batch.halves is not None
    torch.testing.assert_close(batch.halves.mean(dim=1), batch.volume)
    for first, second in batch.halves.flatten(2):
        assert abs(float(torch.corrcoef(torch.stack((first, second)))[0, 1])) < 0.15


def test_density_stays_positive_where_the_target_is(templates: PreparedTemplates) -> None:
    ranges = replace(NOISY, has_noise=False, defocus_um=(2.0, 2.0))
    batch = simulate_batch(templates, LABELS, ranges, seeded(8), box_size=16, max_neighbors=0)
    for volume, mask in zip(batch.volume, batch.mask, strict=True):
        assert volume[mask].mean() > volume[~mask].mean()


def test_protocol_shifts_are_whole_voxels_up_to_eight(densities: torch.Tensor) -> None:
    prepared = prepare_templates(densities, 10.0)
    batch = simulate_batch(prepared, LABELS, lab_protocol(), seeded(9), box_size=32, max_neighbors=1)
    assert torch.equal(batch.shift_zyx_voxels, batch.shift_zyx_voxels.round())
    assert batch.shift_zyx_voxels.abs().max() <= 8
    assert batch.volume.shape == (6, 32, 32, 32)
    assert batch.tilt_range_deg.tolist() == [[-60.0, 60.0]] * 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.tensor([0, 3])}, "labels from 0 to 3"),
        ({"ranges": ImagingRanges()}, "voxel_spacing_angstrom"),
        ({"ranges": replace(CLEAN, scale=(0.9, 1.2))}, "largest_scale"),
        ({"max_neighbors": -1}, "max_neighbors"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    templates: PreparedTemplates, change: dict[str, object], message: str
) -> None:
    arguments = {"labels": LABELS, "ranges": CLEAN, "max_neighbors": 0, **change}
    with pytest.raises(ValueError, match=message):
        simulate_batch(templates, generator=seeded(), box_size=16, **arguments)  # type: ignore[arg-type]


def small(**changes: object) -> SubtomogramSetConfig:
    settings = {
        "classes": NAMES,
        "per_class": 4,
        "box_size": 16,
        "voxel_spacing_angstrom": 16.0,
        "ranges": NOISY,
        "batch_size": 5,
        "shard_size": 4,
        "max_neighbors": 1,
        **changes,
    }
    return SubtomogramSetConfig(**settings)  # type: ignore[arg-type]


def test_set_on_disk_holds_every_class_pose_and_condition(tmp_path: Path) -> None:
    opened = simulate_subtomograms(small(halves=True), tmp_path / "set")
    assert len(opened) == 12
    assert opened.class_names == NAMES
    assert np.bincount(opened.label).tolist() == [4, 4, 4]
    assert opened.has_halves
    assert opened.volumes(np.arange(12)).shape == (12, 16, 16, 16)
    determinant = np.linalg.det(opened.particles.rotation)
    np.testing.assert_allclose(determinant, 1, atol=1e-4)
    np.testing.assert_allclose(opened.particles.columns["simulatedSnr"], 0.2, rtol=1e-5)
    assert opened.provenance["simulated"]["seed"] == 0
    assert opened.tilt_range_deg.tolist() == [[-60.0, 60.0]] * 12


def test_interrupted_set_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = simulate_subtomograms(small(), tmp_path / "whole")

    def stop(done: int, total: int) -> None:
        if done >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_subtomograms(small(), tmp_path / "broken", progress=stop)
    resumed = simulate_subtomograms(small(), tmp_path / "broken")
    np.testing.assert_array_equal(resumed.volumes(np.arange(12)), whole.volumes(np.arange(12)))
    assert resumed.particles.particle_id.tolist() == whole.particles.particle_id.tolist()
    assert len(open_subtomograms(tmp_path / "broken")) == 12


def test_own_templates_replace_those_of_the_names(tmp_path: Path, densities: torch.Tensor) -> None:
    mine = dict(zip(("first", "second"), densities, strict=False))
    opened = simulate_subtomograms(small(classes=("first", "second")), tmp_path / "set", templates=mine)
    assert opened.class_names == ("first", "second")
    with pytest.raises(ValueError, match="expected groel"):
        simulate_subtomograms(small(), tmp_path / "other", templates=mine)


@pytest.mark.parametrize("seed", [0, 1])
def test_every_block_of_labels_holds_each_class_once(seed: int) -> None:
    order = draw_labels(5, 7, seed).reshape(7, 5)
    assert (np.sort(order, axis=1) == np.arange(5)).all()


@pytest.mark.parametrize("changes", [{"classes": ()}, {"classes": ("igg", "igg")}, {"per_class": 0}, {"seed": -1}])
def test_settings_that_cannot_be_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        small(**changes)

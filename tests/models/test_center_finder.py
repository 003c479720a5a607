"""The shipped center finder: its card says what it was trained on, and it finds the centers of real structures."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tomosift.io.volumes import open_volume
from tomosift.models.center_finder import (
    CENTER_GRID,
    INPUT_GRID,
    center_finder,
    finder_digest,
    fourier_crop,
    weights_path,
)
from tomosift.models.recentering import Recentering
from tomosift.physics.augmentation import normalize
from tomosift.physics.imaging import lab_protocol
from tomosift.simulation.structures.atlas import atlas_names
from tomosift.simulation.subtomograms import SubtomogramSetConfig, simulate_subtomograms


@pytest.mark.parametrize("size", [16, 24, 31, 40])
def test_a_coarse_grid_keeps_voxel_0_and_low_frequencies(size: int) -> None:
    axis = torch.arange(size) / size
    wave = torch.cos(2 * torch.pi * 3 * axis)
    box = (wave[:, None, None] + wave[:, None] + wave).expand(size, size, size)[None]
    small = fourier_crop(box)[0]
    line = torch.cos(2 * torch.pi * 3 * torch.arange(INPUT_GRID) / INPUT_GRID)
    expected = line[:, None, None] + line[:, None] + line
    assert torch.allclose(small, expected / expected.square().mean().sqrt(), atol=1e-4)


def test_logits_cover_the_box_and_do_not_depend_on_the_batch() -> None:
    small = fourier_crop(torch.randn(3, 32, 32, 32, generator=torch.Generator().manual_seed(0)))
    finder = center_finder()
    logits = finder(small)
    assert logits.shape == (3, CENTER_GRID, CENTER_GRID, CENTER_GRID)
    assert torch.allclose(logits[1], finder(small[1:2])[0], atol=1e-4)


def test_loading_draws_no_random_numbers() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    center_finder.cache_clear()
    center_finder()
    assert torch.equal(torch.rand(2), expected)


def test_weights_are_small_and_their_card_says_how_they_were_made() -> None:
    assert weights_path().stat().st_size < 2 << 20
    assert len(finder_digest()) == 64
    card = json.loads(weights_path().with_suffix(".json").read_text())
    assert card["sha256"] == finder_digest()
    assert {"made_by", "options", "imaging", "errors_on_the_atlas", "license"} <= set(card)


def test_centers_of_shifted_and_crowded_real_structures_are_found(tmp_path: Path) -> None:
    ranges = replace(lab_protocol(), snr=(0.1, 0.1))
    config = SubtomogramSetConfig(atlas_names(), 8, ranges=ranges, seed=1)
    subtomograms = simulate_subtomograms(config, tmp_path / "set")
    columns = subtomograms.particles.columns
    true = np.column_stack([columns[f"simulatedShift{axis}Voxels"].to_numpy(float) for axis in "ZYX"])
    volume = torch.from_numpy(subtomograms.volumes(np.arange(len(subtomograms))))
    error = Recentering.fit(volume).estimate_offsets(volume).numpy() - true
    # The center of the box would be off by 4.6 voxels per axis.
    assert np.sqrt(np.square(error).mean()) < 2.6


def test_the_center_estimated_in_real_ribosomes_moves_along_with_them(real_data: Path) -> None:
    folder = real_data / "subtomograms" / "derived_real_ribosomes"
    boxes = [open_volume(path).read() for path in sorted(folder.glob("*.mrc"))]
    volume = normalize(torch.from_numpy(np.stack(boxes).astype(np.float32)))
    recentering = Recentering()
    before = recentering.estimate_offsets(volume)
    generator, errors = torch.Generator().manual_seed(0), []
    for _ in range(6):
        shift = torch.randint(-5, 6, (3,), generator=generator)
        after = recentering.estimate_offsets(volume.roll(tuple(shift.tolist()), (1, 2, 3)))
        errors.append((after - before - shift).float().norm(dim=1))
    distance = torch.cat(errors)
    assert float(distance.median()) <= 1.5
    assert float((distance > 4).float().mean()) < 0.3

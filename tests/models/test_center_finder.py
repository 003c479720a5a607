"""The network that comes with the program: what it was made from is told, and how well it finds real structures."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tomosift.io.volumes import open_volume
from tomosift.models.center_finder import COARSE, PLACES, center_finder, finder_digest, fourier_crop, weights_path
from tomosift.models.recentering import estimate_centers, estimate_picking_error
from tomosift.physics.augmentation import normalized
from tomosift.physics.imaging import lab_protocol
from tomosift.simulate.structures.atlas import atlas_names
from tomosift.simulate.subtomograms import SubtomogramSetConfig, simulate_subtomograms


@pytest.mark.parametrize("size", [16, 24, 31, 40])
def test_coarse_boxes_keep_voxel_0_and_what_is_coarse(size: int) -> None:
    axis = torch.arange(size) / size
    wave = torch.cos(2 * torch.pi * 3 * axis)
    box = (wave[:, None, None] + wave[:, None] + wave).expand(size, size, size)[None]
    small = fourier_crop(box)[0]
    line = torch.cos(2 * torch.pi * 3 * torch.arange(COARSE) / COARSE)
    expected = line[:, None, None] + line[:, None] + line
    assert torch.allclose(small, expected / expected.square().mean().sqrt(), atol=1e-4)


def test_answer_covers_the_box_and_does_not_depend_on_the_batch() -> None:
    small = fourier_crop(torch.randn(3, 32, 32, 32, generator=torch.Generator().manual_seed(0)))
    finder = center_finder()
    together = finder(small)
    assert together.shape == (3, PLACES, PLACES, PLACES)
    assert torch.allclose(together[1], finder(small[1:2])[0], atol=1e-4)


def test_loading_draws_no_random_numbers() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    center_finder.cache_clear()
    center_finder()
    assert torch.equal(torch.rand(2), expected)


def test_weights_are_small_and_their_card_tells_their_making() -> None:
    assert weights_path().stat().st_size < 2 << 20
    assert len(finder_digest()) == 64
    card = json.loads(weights_path().with_suffix(".json").read_text())
    assert card["sha256"] == finder_digest()
    assert {"made_by", "options", "imaging", "errors_on_the_atlas", "license"} <= set(card)


def test_real_structures_off_center_and_crowded_are_found(tmp_path: Path) -> None:
    ranges = replace(lab_protocol(), snr=(0.1, 0.1))
    boxes = simulate_subtomograms(SubtomogramSetConfig(atlas_names(), 8, ranges=ranges, seed=1), tmp_path / "set")
    columns = boxes.particles.columns
    true = np.column_stack([columns[f"simulatedShift{axis}Voxels"].to_numpy(float) for axis in "ZYX"])
    volume = torch.from_numpy(boxes.volumes(np.arange(len(boxes))))
    error = estimate_centers(volume, estimate_picking_error(volume)).numpy() - true
    # The middle of the box would be off by 4.6 voxels per axis.
    assert np.sqrt(np.square(error).mean()) < 2.6


def test_middle_found_in_real_ribosomes_moves_along_with_them(real_data: Path) -> None:
    folder = real_data / "subtomograms" / "derived_real_ribosomes"
    boxes = [open_volume(path).read() for path in sorted(folder.glob("*.mrc"))]
    volume = normalized(torch.from_numpy(np.stack(boxes).astype(np.float32)))
    before = estimate_centers(volume)
    generator, errors = torch.Generator().manual_seed(0), []
    for _ in range(6):
        moved = torch.randint(-5, 6, (3,), generator=generator)
        after = estimate_centers(volume.roll(tuple(moved.tolist()), (1, 2, 3)))
        errors.append((after - before - moved).float().norm(dim=1))
    distance = torch.cat(errors)
    assert float(distance.median()) <= 1.5
    assert float((distance > 4).float().mean()) < 0.3

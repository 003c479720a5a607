"""Blocks cover every grid point once, and describe it as the subtomogram extracted there."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tomosift.data.extraction.tomogram_sources import open_tomograms
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.data.normalization import normalize_volumes
from tomosift.io.volumes import write_volume
from tomosift.models.descriptors.grid import compute_grid_descriptors, first_center_voxel
from tomosift.picking.blocks import Blocks
from tomosift.picking.detection import describe_block

SHAPE = (40, 150, 61)


@pytest.fixture(scope="module")
def tomogram(tmp_path_factory: pytest.TempPathFactory) -> Tomogram:
    folder = tmp_path_factory.mktemp("tomogram")
    volume = 5 + np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    write_volume(folder / "a.mrc", volume, 10.0)
    return open_tomograms(folder)["a"]


@pytest.mark.parametrize("stride", [2, 4])
def test_every_grid_point_is_in_one_block(stride: int, tomogram: Tomogram) -> None:
    blocks = Blocks(tomogram, 10.0, 32, stride)
    visits = np.zeros(blocks.grid.shape_zyx, dtype=int)
    for block in blocks:
        visits[block.slices_zyx] += 1
    assert (visits == 1).all()
    assert len(list(blocks)) == len(blocks) == (1 if stride == 4 else 2)
    assert blocks.grid.shape_zyx == tuple((edge - 1) // stride + 1 for edge in SHAPE)
    assert blocks.grid.spacing_angstrom == 10.0 * stride


def test_blocks_hold_the_tomogram_around_their_grid_points(tomogram: Tomogram) -> None:
    data = np.asarray(tomogram.open().data)
    blocks = Blocks(tomogram, 10.0, 32, 2)
    for block in blocks:
        first = first_center_voxel(32, 2)
        voxel = 2 * np.array(block.start_zyx)
        assert block.volume[first, first, first] == data[tuple(voxel)]


def test_grid_points_are_described_as_the_subtomograms_extracted_there(tomogram: Tomogram) -> None:
    blocks = Blocks(tomogram, 10.0, 32, 2)
    comparisons = 0
    for block in blocks:
        descriptors = describe_block(blocks, block, torch.device("cpu"))
        for index in np.ndindex(*block.count_zyx):
            center = 2 * (np.array(block.start_zyx) + index)
            if ((center < 16) | (center > np.array(SHAPE) - 16)).any() or sum(index) % 9:
                continue
            box = torch.from_numpy(normalize_volumes(tomogram.crop(center, 32)[None]))
            torch.testing.assert_close(descriptors[index], compute_grid_descriptors(box)[0], atol=1e-3, rtol=0)
            comparisons += 1
    assert comparisons > 20


def test_a_tomogram_of_another_voxel_spacing_is_resampled_as_in_extraction(tmp_path: Path) -> None:
    """The density is smooth enough for both samplings."""
    grid = np.stack(np.meshgrid(*[np.arange(64.0)] * 3, indexing="ij"))
    volume = np.sin(grid[0] / 5) + np.cos(grid[1] / 4 + grid[2] / 6)
    write_volume(tmp_path / "a.mrc", volume.astype(np.float32), 12.5)
    tomogram = open_tomograms(tmp_path)["a"]
    blocks = Blocks(tomogram, 10.0, 16, 4)
    block = next(iter(blocks))
    first = first_center_voxel(16, 4)
    index = np.array([10, 8, 9])  # in grid steps
    z, y, x = index * 40.0 / 12.5
    expected = np.sin(z / 5) + np.cos(y / 4 + x / 6)
    assert block.volume[tuple(first + 4 * index)] == pytest.approx(expected, abs=0.03)


def test_density_is_positive_and_nan_becomes_the_mean(tmp_path: Path) -> None:
    volume = np.ones((32, 32, 32), dtype=np.float32)
    volume[3, 3, 3] = 7.0
    volume[4, 4, 4] = np.nan
    write_volume(tmp_path / "a.zarr", volume, 10.0)
    block = next(iter(Blocks(open_tomograms(tmp_path, is_inverted=True)["a"], 10.0, 16, 1)))
    first = first_center_voxel(16, 1)
    assert block.volume[first + 3, first + 3, first + 3] == -7.0
    assert np.isfinite(block.volume).all()


def test_points_around_positions_are_all_near_ones_once(tomogram: Tomogram) -> None:
    grid = Blocks(tomogram, 10.0, 32, 2).grid
    position = np.array([[100.0, 300.0, 77.0], [110.0, 310.0, 90.0]])
    around = grid.points_around(position, 45.0)
    assert len(np.unique(around)) == len(around)
    everything = grid.positions_zyx_angstrom(np.arange(grid.size))
    distance = np.linalg.norm(everything[:, None] - position, axis=2).min(axis=1)
    assert set(np.flatnonzero(distance <= 45.0)) <= set(around.tolist())

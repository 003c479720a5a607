"""Blocks cover every place once, and say the same as boxes cut at these places."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tomosift.data.extraction.tomogram_sources import open_tomograms
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.data.set_reader import normalized
from tomosift.io.volumes import write_volume
from tomosift.models.grid_descriptors import compute_grid_descriptors, first_center_voxel
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
def test_every_place_of_the_lattice_is_in_one_block(stride: int, tomogram: Tomogram) -> None:
    blocks = Blocks(tomogram, 10.0, 32, stride)
    seen = np.zeros(blocks.lattice.shape_zyx, dtype=int)
    for block in blocks:
        seen[block.places] += 1
    assert (seen == 1).all()
    assert len(list(blocks)) == len(blocks) == (1 if stride == 4 else 2)
    assert blocks.lattice.shape_zyx == tuple((edge - 1) // stride + 1 for edge in SHAPE)
    assert blocks.lattice.spacing_angstrom == 10.0 * stride


def test_blocks_hold_the_tomogram_about_their_places(tomogram: Tomogram) -> None:
    data = np.asarray(tomogram.open().data)
    blocks = Blocks(tomogram, 10.0, 32, 2)
    for block in blocks:
        first = first_center_voxel(32, 2)
        place = 2 * np.array(block.start_zyx)
        assert block.volume[first, first, first] == data[tuple(place)]


def test_places_whose_boxes_lie_in_the_tomogram_are_described_as_these_boxes(tomogram: Tomogram) -> None:
    blocks = Blocks(tomogram, 10.0, 32, 2)
    compared = 0
    for block in blocks:
        told = describe_block(blocks, block, torch.device("cpu"))
        for index in np.ndindex(*block.count_zyx):
            center = 2 * (np.array(block.start_zyx) + index)
            if ((center < 16) | (center > np.array(SHAPE) - 16)).any() or sum(index) % 9:
                continue
            box = torch.from_numpy(normalized(tomogram.crop(center, 32)[None]))
            torch.testing.assert_close(told[index], compute_grid_descriptors(box)[0], atol=1e-3, rtol=0)
            compared += 1
    assert compared > 20


def test_a_tomogram_of_another_voxel_spacing_is_looked_at_as_its_boxes_are_cut(tmp_path: Path) -> None:
    """Smooth enough that both samplings hold it."""
    grid = np.stack(np.meshgrid(*[np.arange(64.0)] * 3, indexing="ij"))
    volume = np.sin(grid[0] / 5) + np.cos(grid[1] / 4 + grid[2] / 6)
    write_volume(tmp_path / "a.mrc", volume.astype(np.float32), 12.5)
    fine = open_tomograms(tmp_path)["a"]
    blocks = Blocks(fine, 10.0, 16, 4)
    block = next(iter(blocks))
    first = first_center_voxel(16, 4)
    place = np.array([10, 8, 9])  # in steps
    at = place * 40.0 / 12.5
    expected = np.sin(at[0] / 5) + np.cos(at[1] / 4 + at[2] / 6)
    assert block.volume[tuple(first + 4 * place)] == pytest.approx(expected, abs=0.03)


def test_density_is_positive_and_what_is_no_number_becomes_the_mean(tmp_path: Path) -> None:
    volume = np.ones((32, 32, 32), dtype=np.float32)
    volume[3, 3, 3] = 7.0
    volume[4, 4, 4] = np.nan
    write_volume(tmp_path / "a.zarr", volume, 10.0)
    block = next(iter(Blocks(open_tomograms(tmp_path, inverted=True)["a"], 10.0, 16, 1)))
    first = first_center_voxel(16, 1)
    assert block.volume[first + 3, first + 3, first + 3] == -7.0
    assert np.isfinite(block.volume).all()


def test_places_around_positions_are_all_near_ones_once(tomogram: Tomogram) -> None:
    lattice = Blocks(tomogram, 10.0, 32, 2).lattice
    position = np.array([[100.0, 300.0, 77.0], [110.0, 310.0, 90.0]])
    around = lattice.around(position, 45.0)
    assert len(np.unique(around)) == len(around)
    everything = lattice.positions(np.arange(lattice.size))
    distance = np.linalg.norm(everything[:, None] - position, axis=2).min(axis=1)
    assert set(np.flatnonzero(distance <= 45.0)) <= set(around.tolist())

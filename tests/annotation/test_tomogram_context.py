"""Sections of tomograms around particles."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tomosift.annotation.tomogram_context import TomogramContext
from tomosift.data.extraction.extract import extract
from tomosift.data.extraction.tomogram_sources import open_tomograms
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.io.volumes import write_volume
from tomosift.particles import Particles

VOXELS = np.array([[20, 60, 100], [20, 4, 4], [20, 125, 157]])


@pytest.fixture
def extracted(tmp_path: Path) -> Subtomograms:
    """Three particles, one in the center and two at corners, each a bright spot in the tomogram."""
    volume = np.random.default_rng(0).normal(size=(40, 130, 160)).astype(np.float32)
    for z, y, x in VOXELS:
        volume[z - 2 : z + 3, max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] += 20
    write_volume(tmp_path / "tomograms" / "TS_01.mrc", volume, 10.0)
    particles = Particles.create(["TS_01"] * 3, VOXELS * 10.0)
    tomograms = open_tomograms(tmp_path / "tomograms")
    return extract(particles, tomograms, tmp_path / "set", voxel_spacing_angstrom=10.0, box_size=16)


@pytest.mark.parametrize("row", range(3))
def test_mark_lies_on_the_particle_also_near_the_border(extracted: Subtomograms, row: int, tmp_path: Path) -> None:
    section = TomogramContext(extracted).render_section(row)
    assert section is not None
    (tmp_path / "section.png").write_bytes(section.png)
    pixels = np.asarray(Image.open(tmp_path / "section.png"), dtype=float)
    assert pixels.shape == (80, 80)
    across, down, edge = section.mark
    assert edge == pytest.approx(16 / 80)
    bright = pixels[int(down * 80) - 1 : int(down * 80) + 2, int(across * 80) - 1 : int(across * 80) + 2]
    assert bright.mean() > np.percentile(pixels, 98)


def test_a_removed_tomogram_gives_no_section(extracted: Subtomograms, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "tomograms")
    context = TomogramContext(extracted)
    assert context.has_tomograms
    assert context.render_section(0) is None

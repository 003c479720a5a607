"""Extraction from files: what comes from where, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tomosift.compute.engine import Engine
from tomosift.data.subtomogram_set import open_subtomograms
from tomosift.io.volumes import write_volume
from tomosift.workflows.check import check
from tomosift.workflows.extract import describe_set, extract_subtomograms


def test_function_extracts_the_set_of_the_command(world: Any, chain: Any, tmp_path: Path) -> None:
    subtomograms = extract_subtomograms(
        world.paths.particles,
        tmp_path / "set",
        tomograms=world.paths.tomograms,
        voxel_spacing_angstrom=16.0,
        box_size=16,
    )
    expected = open_subtomograms(chain.subtomograms)
    np.testing.assert_array_equal(subtomograms.volumes(np.arange(45)), expected.volumes(np.arange(45)))
    sentence = "45 subtomograms of 16^3 voxels at 16 A from 3 tomograms, with half subtomograms"
    assert describe_set(subtomograms) == f"{tmp_path / 'set'}: {sentence}"


def test_files_of_another_program_are_imported_with_their_size(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).standard_normal((3, 16, 16, 16)).astype(np.float32)
    for number, part in enumerate(volume):
        write_volume(tmp_path / "files" / f"particle_{number}.mrc", part, 12.0)
    subtomograms = extract_subtomograms(tmp_path / "files", tmp_path / "set")
    assert (len(subtomograms), subtomograms.box_size, subtomograms.voxel_spacing_angstrom) == (3, 16, 12.0)


def test_empty_positions_need_tomograms_and_engines_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="empty positions are sampled from tomograms"):
        extract_subtomograms(tmp_path, tmp_path / "set", empty=3)
    with pytest.raises(ValueError, match="workers is 0, expected 1 or more with slurm"):
        extract_subtomograms(tmp_path, tmp_path / "set", engine=Engine(slurm=True))


def test_check_of_the_world_has_no_error(world: Any) -> None:
    findings = check(world.paths.particles, world.paths.tomograms, box_size=16)
    assert {finding.level for finding in findings} <= {"ok", "note", "warning"}
    with pytest.raises(ValueError, match="box size is 0 voxels"):
        check(world.paths.particles, world.paths.tomograms, box_size=0)

"""The command that simulates boxes: sets with classes and masks that training takes as they are."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tomosift.cli.main import main
from tomosift.data.subtomogram_set import open_subtomograms

Refused = Callable[..., str]
SMALL = ("--per-class", "3", "--box-size", "16", "--voxel-spacing", "16", "--max-neighbors", "1")


def test_real_and_random_complexes_come_with_classes_and_masks(tmp_path: Path) -> None:
    main(["boxes", "--classes", "groel", "apoferritin", "--out", str(tmp_path / "real"), *SMALL])
    main(["boxes", "--random", "3", "--out", str(tmp_path / "random"), *SMALL, "--seed", "5"])
    real, random = open_subtomograms(tmp_path / "real"), open_subtomograms(tmp_path / "random")
    assert real.class_names == ("groel", "apoferritin")
    assert len(set(random.class_names)) == 3
    assert np.bincount(random.label).tolist() == [3, 3, 3]
    assert real.has_masks
    assert random.masks(range(9)).any(axis=(1, 2, 3)).all()
    main(["boxes", "--random", "3", "--out", str(tmp_path / "again"), *SMALL, "--seed", "5", "--no-masks"])
    again = open_subtomograms(tmp_path / "again")
    np.testing.assert_array_equal(again.volumes(range(9)), random.volumes(range(9)))
    assert not again.has_masks


def test_bad_requests_end_in_one_sentence(tmp_path: Path, refused: Refused) -> None:
    out = ("--out", tmp_path / "set", *SMALL)
    assert "either --classes or --random" in refused("boxes", *out)
    assert "either --classes or --random" in refused("boxes", "--classes", "groel", "--random", 2, *out)
    assert "snr is 0 to 0.1" in refused("boxes", "--random", 2, "--snr", 0, 0.1, *out)
    assert not (tmp_path / "set").exists()

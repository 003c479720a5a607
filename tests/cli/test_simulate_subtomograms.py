"""The command simulate subtomograms: sets with classes and masks that training takes as they are."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tomosift.cli.main import main
from tomosift.data.subtomogram_set import open_subtomograms

Refuse = Callable[..., str]
SMALL = ("--per-class", "3", "--box-size", "16", "--voxel-spacing", "16", "--max-neighbors", "1")


def simulate(*words: str) -> None:
    main(["simulate", "subtomograms", *words, *SMALL])


def test_structures_and_synthetic_complexes_have_classes_and_masks(tmp_path: Path) -> None:
    simulate("--structures", "groel", "apoferritin", "--out", str(tmp_path / "known"))
    simulate("--synthetic", "3", "--out", str(tmp_path / "synthetic"), "--seed", "5")
    known, synthetic = open_subtomograms(tmp_path / "known"), open_subtomograms(tmp_path / "synthetic")
    assert known.class_names == ("groel", "apoferritin")
    assert len(set(synthetic.class_names)) == 3
    assert np.bincount(synthetic.label).tolist() == [3, 3, 3]
    assert known.has_masks
    assert synthetic.masks(range(9)).any(axis=(1, 2, 3)).all()
    simulate("--synthetic", "3", "--out", str(tmp_path / "again"), "--seed", "5", "--no-masks")
    again = open_subtomograms(tmp_path / "again")
    np.testing.assert_array_equal(again.volumes(range(9)), synthetic.volumes(range(9)))
    assert not again.has_masks


def test_wrong_requests_are_refused_in_one_sentence(tmp_path: Path, refuse: Refuse) -> None:
    words = ("simulate", "subtomograms", "--out", tmp_path / "set", *SMALL)
    assert "either --structures or --synthetic" in refuse(*words)
    assert "either --structures or --synthetic" in refuse(*words, "--structures", "groel", "--synthetic", 2)
    assert "snr is 0 to 0.1" in refuse(*words, "--synthetic", 2, "--snr", 0, 0.1)
    assert not (tmp_path / "set").exists()

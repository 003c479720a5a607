"""Template matching assigns subtomograms to the structures they were simulated from."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from tomosift.evaluation.benchmark.template_matching import match_templates, template_bank
from tomosift.physics.imaging import lab_protocol
from tomosift.simulation.subtomograms import SubtomogramSetConfig, simulate_subtomograms

NAMES = ("groel", "stnv-capsid", "hsp90-sba1")


def test_true_structures_correlate_best(tmp_path: Path) -> None:
    ranges = replace(lab_protocol(), snr=(0.3, 0.3), shift_voxels=(-3.0, 3.0))
    config = SubtomogramSetConfig(NAMES, per_class=10, box_size=32, ranges=ranges, max_neighbors=0)
    boxes = simulate_subtomograms(config, tmp_path / "set")
    bank = template_bank(NAMES, ranges, 10.0, 32, rotations=60)
    scores = match_templates(boxes, bank, max_shift_voxels=3)
    assert scores.shape == (30, 3)
    assert float(np.abs(scores).max()) <= 1.0
    assert float((scores.argmax(axis=1) == boxes.label).mean()) >= 0.9
    unshifted = match_templates(boxes, bank, max_shift_voxels=0)
    assert (unshifted <= scores + 1e-6).all()
    assert unshifted.mean() < scores.mean()

"""Poses of real particles: what the angles of a file mean is decided by the particles themselves."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tomosift.io import angles
from tomosift.io.volumes import open_volume
from tomosift.physics.rotation import rotate


def test_real_ribosomes_agree_after_their_relion_angles_are_undone_and_not_after_the_opposite(real_data: Path) -> None:
    folder = real_data / "subtomograms" / "derived_real_ribosomes"
    table = pd.read_csv(folder / "labels.csv")
    boxes = [torch.from_numpy(open_volume(folder / name).read().astype(np.float32)) for name in table["file"]]
    axis = torch.fft.fftfreq(32)
    half = torch.fft.rfftfreq(32)
    frequency = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + half**2).sqrt()
    # 150 to 60 A: at lower resolution is the common outline of the subtomograms, at higher resolution noise.
    band = (frequency > 0.08) & (frequency < 0.2)
    volume = torch.fft.irfftn(torch.fft.rfftn(torch.stack(boxes), dim=(1, 2, 3)) * band, s=(32, 32, 32), dim=(1, 2, 3))
    pose = torch.from_numpy(angles.from_relion(table[["rot", "tilt", "psi"]].to_numpy())).float()
    offset = torch.arange(32) - 16
    inside = (offset[:, None, None] ** 2 + offset[:, None] ** 2 + offset**2) < 10**2

    def agreement(turn: torch.Tensor) -> float:
        flat = rotate(volume, turn)[:, inside]
        correlation = torch.corrcoef(flat)
        return float(correlation[~torch.eye(len(flat), dtype=torch.bool)].mean())

    undone = agreement(pose.transpose(1, 2))
    assert undone > 1.5 * agreement(pose)
    assert undone > 1.5 * agreement(torch.eye(3).expand_as(pose))

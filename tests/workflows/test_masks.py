"""Masks that cannot be written are refused before the work."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.inference.model_files import load_classifier
from tomosift.workflows.masks import check_masks


def test_two_tomograms_never_share_a_label_volume(chain: Any, tmp_path: Path) -> None:
    subtomograms = open_subtomograms(chain.subtomograms)
    first, second = subtomograms.tomogram_names[:2]
    names = np.where(subtomograms.particles.tomogram == first, "TS 1", subtomograms.particles.tomogram)
    names = np.where(subtomograms.particles.tomogram == second, "TS/1", names).astype(object)
    renamed = replace(subtomograms, particles=replace(subtomograms.particles, tomogram=names))
    model = load_classifier(Path("general"))
    check_masks(tmp_path / "masks.mrcs", model, renamed)
    grids = dict.fromkeys(renamed.tomogram_names, subtomograms.grids[first])
    with (
        mock.patch.object(Subtomograms, "grids", mock.PropertyMock(return_value=grids)),
        pytest.raises(ValueError, match=r"would both be written to .*TS_1\.zarr; write masks to \.mrcs"),
    ):
        check_masks(tmp_path / "masks.zarr", model, renamed)

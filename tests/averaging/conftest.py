"""Particles of three classes and their class averages."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tomosift.averaging.alignment_input import prepare_alignment
from tomosift.averaging.class_averages import ClassAverages
from tomosift.averaging.multireference_alignment import compute_class_averages
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference.classifier import fit_embedder
from tomosift.inference.model_files import shipped_decoder
from tomosift.models.embedder import Embedder
from tomosift.models.encoders import build_encoder


@pytest.fixture(scope="module")
def labeled(write_ball_particles: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Subtomograms:
    """Fourteen particles of each class."""
    subtomograms: Subtomograms = write_ball_particles(tmp_path_factory.mktemp("labeled") / "set", 14, 0).subtomograms
    return subtomograms


@pytest.fixture(scope="module")
def queries(write_ball_particles: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Subtomograms:
    """Eight other particles of each class."""
    subtomograms: Subtomograms = write_ball_particles(tmp_path_factory.mktemp("queries") / "set", 8, 1).subtomograms
    return subtomograms


@pytest.fixture(scope="module")
def embedder(labeled: Subtomograms) -> Embedder:
    torch.manual_seed(0)
    return fit_embedder(build_encoder("radial").eval(), labeled)


@pytest.fixture(scope="module")
def averages(few_rotations: None, labeled: Subtomograms, embedder: Embedder) -> ClassAverages:
    """Averages of all particles by their true labels."""
    alignment, confidence = prepare_alignment(embedder, labeled), np.ones(len(labeled))
    return compute_class_averages(labeled, alignment, labeled.label, confidence, 3, shipped_decoder())

"""Detection predicts for each grid point what the model predicts for the subtomogram there."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tomosift.data.normalization import normalize_volumes
from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.model_files import load_classifier
from tomosift.io.volumes import write_volume
from tomosift.models.embedder import Embedder
from tomosift.models.encoders import build_encoder
from tomosift.models.recentering import Recentering
from tomosift.picking.detection import detect, extract_picks

RADII = {"ball": 50.0, "shell": 60.0}


@pytest.fixture(scope="module")
def model(picking_world: Any) -> Classifier:
    return load_classifier(picking_world.detector)


@torch.inference_mode()
def test_log_odds_are_those_of_subtomograms_extracted_at_the_grid_points(picking_world: Any, model: Classifier) -> None:
    """Descriptors agree within 1e-3, log odds therefore within a few times that, and the map is float16."""
    tomogram = picking_world.tomograms["b"]
    calls: list[tuple[int, int]] = []
    detections = detect(model, tomogram, progress=lambda done, total, note="": calls.append((done, total)))
    assert calls == [(1, 1)]
    assert detections.class_names == ("ball", "shell")
    rng = np.random.default_rng(0)
    edges = np.array(tomogram.grid.shape_zyx)
    voxels = np.concatenate(
        [
            rng.integers(8, edges - 8, (40, 3)),
            np.clip(np.rint(picking_world.particles["b"].position_zyx_angstrom / 10.0).astype(int), 8, edges - 9),
        ]
    )
    boxes = torch.from_numpy(normalize_volumes(np.stack([tomogram.crop(voxel, 16) for voxel in voxels])))
    probability = (model.logits(model.encoder(boxes)) / model.card.temperature).double().softmax(1)
    assert model.card.class_names == ("ball", "shell", "background")
    best, label = probability[:, :2].max(1)
    there = tuple(voxels.T)
    assert (detections.label[there] == label.numpy()).mean() > 0.97  # two classes may be equally improbable
    expected = torch.logit(best).numpy()
    np.testing.assert_allclose(detections.log_odds[there], expected, atol=2e-3, rtol=2e-3)
    np.testing.assert_allclose(detections.probability[there], best, atol=1e-3)


def test_particles_are_sorted_by_confidence_and_have_a_class(picking_world: Any, model: Classifier) -> None:
    detections = detect(model, picking_world.tomograms["b"])
    confident, particles = (extract_picks(detections, "b", RADII, threshold) for threshold in (0.9, 0.5))
    assert 0 < len(confident) <= len(particles)
    assert (np.diff(particles.score) <= 0).all()
    assert particles.score.min() >= 0.5
    assert confident.score.min() >= 0.9 - 1e-3
    assert set(particles.class_name) == {"ball", "shell"}
    assert set(particles.tomogram) == {"b"}
    position = particles.position_zyx_angstrom
    distance = np.linalg.norm(position[:, None] - position, axis=-1) + 1e9 * np.eye(len(position))
    assert distance.min() > 50.0 - 2 * 10.0  # refinement moves each by half a step at most along each axis


def test_twice_the_stride_gives_every_other_grid_point_of_the_map(picking_world: Any, model: Classifier) -> None:
    fine, coarse = (detect(model, picking_world.tomograms["b"], stride) for stride in (1, 2))
    assert coarse.grid.spacing_angstrom == 20.0
    # Away from the border, where boxes of both lie in the tomogram.
    one, other = (part.astype(float)[4:-4, 4:-4, 4:-4] for part in (fine.log_odds[::2, ::2, ::2], coarse.log_odds))
    np.testing.assert_allclose(one, other, atol=5e-3, rtol=2e-3)


def test_no_particle_is_detected_where_the_mask_is_zero(picking_world: Any, model: Classifier) -> None:
    tomogram = picking_world.tomograms["b"]
    mask = np.ones(tomogram.grid.shape_zyx, dtype=np.int8)
    mask[:, :, 24:] = 0
    whole, part = (extract_picks(detect(model, tomogram, mask=one), "b", RADII, 0.5) for one in (None, mask))
    assert (whole.position_zyx_angstrom[:, 2] > 240).any()
    assert 0 < len(part) < len(whole)
    assert part.position_zyx_angstrom[:, 2].max() <= 240
    assert len(extract_picks(detect(model, tomogram, mask=0 * mask), "b", RADII, 0.5)) == 0


def test_the_mask_is_sampled_at_the_nearest_voxel_of_a_tomogram_of_another_spacing(
    picking_world: Any, model: Classifier
) -> None:
    grid = replace(picking_world.tomograms["b"].grid, voxel_spacing_angstrom=12.5)
    tomogram = replace(picking_world.tomograms["b"], grid=grid)
    mask = np.zeros(grid.shape_zyx, dtype=np.int8)
    mask[:, 10:20, 10:20] = 1
    detections = detect(model, tomogram, mask=mask)
    position = detections.grid.positions_zyx_angstrom(np.flatnonzero(detections.log_odds.ravel() > -30.0))
    nearest = np.rint(position / 12.5)[:, 1:]
    assert nearest.min() == 10
    assert nearest.max() == 19


def test_inverted_density_gives_the_same_detections(
    picking_world: Any, model: Classifier, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, tomogram = tmp_path_factory.mktemp("inverted"), picking_world.tomograms["b"]
    write_volume(folder / "b.mrc", -np.asarray(tomogram.open().data), 10.0)
    dark = replace(tomogram, path=folder / "b.mrc", is_inverted=True)
    np.testing.assert_array_equal(detect(model, dark).log_odds, detect(model, tomogram).log_odds)


@pytest.mark.parametrize(
    ("encoder", "names", "mask", "stride", "sentence"),
    [
        ("dense", ("ball",), None, None, "the model knows ball, but no class 'background'; train one"),
        ("dense", (), None, None, "the model knows no classes, but no class 'background'"),
        ("radial", ("background", "ball"), None, None, "the encoder of the model is radial, expected dense"),
        ("dense", ("background", "ball"), (24, 48, 40), None, r"the mask of b has \(24, 48, 40\) voxels, expected"),
        ("dense", ("background", "ball"), None, 0, "stride is 0, expected a multiple of 1"),
        ("dense", ("background", "ball"), None, -2, "stride is -2, expected a multiple of 1"),
    ],
)
def test_unusable_models_masks_and_strides_are_refused_in_one_sentence(
    picking_world: Any, encoder: str, names: tuple[str, ...], mask: Any, stride: Any, sentence: str
) -> None:
    embedder = Embedder(build_encoder(encoder), Recentering())
    other = Classifier(embedder, ModelCard(encoder, 10.0, 16, class_names=names)).eval()
    ones = None if mask is None else np.ones(mask)
    with pytest.raises(ValueError, match=sentence):
        detect(other, picking_world.tomograms["b"], stride, ones)

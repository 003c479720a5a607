"""A scan says of each place what the model says of the box there."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tomosift.data.set_reader import normalized
from tomosift.inference.classifier import Classifier, ModelCard, load_classifier
from tomosift.io.volumes import write_volume
from tomosift.models.encoders import build_encoder
from tomosift.picking.detection import detect, extract_picks

FEW = {"ball": 50.0, "shell": 60.0}


@pytest.fixture(scope="module")
def model(scanned_world: Any) -> Classifier:
    return load_classifier(scanned_world.detector)


@torch.inference_mode()
def test_log_odds_are_those_of_boxes_cut_at_the_same_places(scanned_world: Any, model: Classifier) -> None:
    """Descriptors agree within 1e-3, log odds therefore within a few times that, and the map is kept in float16."""
    tomogram = scanned_world.tomograms["b"]
    seen: list[tuple[int, int]] = []
    found = detect(model, tomogram, done=lambda *now: seen.append(now))
    assert seen == [(1, 1)]
    assert found.class_names == ("ball", "shell")
    rng = np.random.default_rng(0)
    edges = np.array(tomogram.grid.shape_zyx)
    places = np.concatenate(
        [
            rng.integers(8, edges - 8, (40, 3)),
            np.clip(np.rint(scanned_world.particles["b"].position_zyx_angstrom / 10.0).astype(int), 8, edges - 9),
        ]
    )
    boxes = torch.from_numpy(normalized(np.stack([tomogram.crop(place, 16) for place in places])))
    probability = (model(boxes, is_centered=True) / model.card.temperature).double().softmax(1)
    assert model.card.class_names == ("ball", "shell", "background")
    best, kind = probability[:, :2].max(1)
    there = tuple(places.T)
    assert (found.label[there] == kind.numpy()).mean() > 0.97  # two classes may be equally improbable
    expected = torch.logit(best).numpy()
    np.testing.assert_allclose(found.log_odds[there], expected, atol=2e-3, rtol=2e-3)
    np.testing.assert_allclose(found.probability[there], best, atol=1e-3)


def test_particles_come_the_most_probable_first_with_class_and_probability(
    scanned_world: Any, model: Classifier
) -> None:
    found = detect(model, scanned_world.tomograms["b"])
    sure, all_of_them = (extract_picks(found, "b", FEW, least) for least in (0.9, 0.5))
    assert 0 < len(sure) <= len(all_of_them)
    assert (np.diff(all_of_them.score) <= 0).all()
    assert all_of_them.score.min() >= 0.5
    assert sure.score.min() >= 0.9 - 1e-3
    assert set(all_of_them.class_name) == {"ball", "shell"}
    assert set(all_of_them.tomogram) == {"b"}
    position = all_of_them.position_zyx_angstrom
    distance = np.linalg.norm(position[:, None] - position, axis=-1) + 1e9 * np.eye(len(position))
    assert distance.min() > 50.0 - 2 * 10.0  # each was moved by half a step at most along each axis


def test_a_coarser_stride_gives_every_other_place_of_the_map(scanned_world: Any, model: Classifier) -> None:
    fine, coarse = (detect(model, scanned_world.tomograms["b"], stride) for stride in (1, 2))
    assert coarse.lattice.spacing_angstrom == 20.0
    # Away from the border, where boxes of both lie in the tomogram.
    one, other = (part.astype(float)[4:-4, 4:-4, 4:-4] for part in (fine.log_odds[::2, ::2, ::2], coarse.log_odds))
    np.testing.assert_allclose(one, other, atol=5e-3, rtol=2e-3)


def test_where_the_mask_is_zero_nothing_is_found(scanned_world: Any, model: Classifier) -> None:
    tomogram = scanned_world.tomograms["b"]
    mask = np.ones(tomogram.grid.shape_zyx, dtype=np.int8)
    mask[:, :, 24:] = 0
    whole, part = (extract_picks(detect(model, tomogram, mask=given), "b", FEW, 0.5) for given in (None, mask))
    assert (whole.position_zyx_angstrom[:, 2] > 240).any()
    assert 0 < len(part) < len(whole)
    assert part.position_zyx_angstrom[:, 2].max() <= 240
    assert len(extract_picks(detect(model, tomogram, mask=0 * mask), "b", FEW, 0.5)) == 0


def test_the_mask_is_looked_up_at_the_nearest_voxel_of_a_tomogram_of_another_spacing(
    scanned_world: Any, model: Classifier
) -> None:
    grid = replace(scanned_world.tomograms["b"].grid, voxel_spacing_angstrom=12.5)
    tomogram = replace(scanned_world.tomograms["b"], grid=grid)
    mask = np.zeros(grid.shape_zyx, dtype=np.int8)
    mask[:, 10:20, 10:20] = 1
    found = detect(model, tomogram, mask=mask)
    position = found.lattice.positions(np.flatnonzero(found.log_odds.ravel() > -30.0))
    nearest = np.rint(position / 12.5)[:, 1:]
    assert nearest.min() == 10
    assert nearest.max() == 19


def test_inverted_density_is_scanned_as_if_it_were_not(
    scanned_world: Any, model: Classifier, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, tomogram = tmp_path_factory.mktemp("inverted"), scanned_world.tomograms["b"]
    write_volume(folder / "b.mrc", -np.asarray(tomogram.open().data), 10.0)
    dark = replace(tomogram, path=folder / "b.mrc", inverted=True)
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
def test_what_cannot_be_scanned_is_refused_in_one_sentence(
    scanned_world: Any, encoder: str, names: tuple[str, ...], mask: Any, stride: Any, sentence: str
) -> None:
    other = Classifier(build_encoder(encoder), ModelCard(encoder, 10.0, 16, class_names=names)).eval()
    given = None if mask is None else np.ones(mask)
    with pytest.raises(ValueError, match=sentence):
        detect(other, scanned_world.tomograms["b"], stride, given)

"""Pictures of subtomograms, and the map of embeddings."""

import io

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from tomosift.evaluation.embedding_map import map_embeddings
from tomosift.evaluation.report.markup import encode_png
from tomosift.evaluation.report.pictures import (
    average_by_class,
    project_slab,
    render_thumbnails,
    slab_thickness,
    to_gray_levels,
)
from tomosift.physics.rotation import random_rotations, rotate


def blob(size: int = 24) -> torch.Tensor:
    """Three unequal Gaussians off the center."""
    axis = torch.arange(size, dtype=torch.float32) - size // 2
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    centers = torch.tensor([[5.0, 0, 0], [0, -4, 2], [-2, 3, -5]])
    return sum(
        (w * torch.exp(-((grid - c) ** 2).sum(-1) / 8) for w, c in zip((1, 2, 3), centers, strict=True)),
        torch.zeros(size, size, size),
    )


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_a_png_reads_back_as_it_was() -> None:
    gray = np.random.default_rng(0).integers(0, 256, (7, 13)).astype(np.uint8)
    np.testing.assert_array_equal(np.rint(imread(io.BytesIO(encode_png(gray)), format="png") * 255), gray)


def test_gray_levels_span_black_to_white_and_a_constant_is_gray() -> None:
    levels = to_gray_levels(np.linspace(-2, 3, 100).reshape(10, 10), -1.0, 2.0)
    assert levels.min() == 0
    assert levels.max() == 255
    assert len(np.unique(levels)) == 32
    assert (to_gray_levels(np.ones((2, 2)), 1.0, 1.0) == 128).all()


@pytest.mark.parametrize("size", [8, 9, 24])
def test_a_slab_is_centered_on_the_center_voxel(size: int) -> None:
    box = np.zeros((1, size, size, size))
    box[0, size // 2, 1, 2] = 1.0
    np.testing.assert_array_equal(np.argwhere(project_slab(box, 0, 1)[0]), [[1, 2]])
    thickness = slab_thickness(size)
    assert thickness % 2 == 1
    assert project_slab(box, 0, thickness)[0, 1, 2] == pytest.approx(1 / thickness)
    assert project_slab(box, 1, 1).max() == (1.0 if size // 2 == 1 else 0.0)


@pytest.mark.parametrize(("size", "edge"), [(24, 24), (50, 25), (97, 32)])
def test_thumbnails_fit_the_edge_and_follow_the_rows(size: int, edge: int) -> None:
    pictures = render_thumbnails(lambda rows: np.full((len(rows), size, size, size), 1.0, np.float32), np.arange(3), 48)
    assert pictures.shape == (3, edge, edge)


def test_average_of_particles_with_orientations_shows_the_particle() -> None:
    particle, n = blob(), 60
    rotation = random_rotations(n, torch.Generator().manual_seed(0))
    boxes = rotate(particle.expand(n, -1, -1, -1).contiguous(), rotation).numpy()
    boxes = boxes + np.random.default_rng(0).normal(size=boxes.shape).astype(np.float32)
    pose = rotation.numpy().astype(float)
    labels = np.zeros(n, int)
    (aligned,) = average_by_class(lambda rows: boxes[rows], [labels], pose, 1, seed=0)
    (plain,) = average_by_class(lambda rows: boxes[rows], [labels], np.full_like(pose, np.nan), 1, seed=0)
    assert aligned[0] is not None
    assert plain[0] is not None
    assert (aligned[0].is_aligned, plain[0].is_aligned) == (True, False)
    assert correlation(aligned[0].density, particle.numpy()) > 0.9
    assert correlation(plain[0].density, particle.numpy()) < 0.7


def test_an_average_is_the_mean_of_its_class_and_a_class_without_particle_has_none() -> None:
    boxes = np.random.default_rng(0).normal(size=(130, 4, 4, 4)).astype(np.float32)
    predicted, true = np.arange(130) % 2, np.where(np.arange(130) < 100, 2, -1)
    called, truly = average_by_class(
        lambda rows: boxes[rows], [predicted, true], np.full((130, 3, 3), np.nan), 3, seed=0
    )
    assert called[2] is None
    assert truly[0] is None
    assert called[1] is not None
    assert truly[2] is not None
    np.testing.assert_allclose(called[1].density, boxes[1::2].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(truly[2].density, boxes[:100].mean(axis=0), atol=1e-6)
    assert (truly[2].count, truly[2].members) == (100, 100)


def test_a_class_with_few_orientations_is_averaged_without_alignment() -> None:
    pose = np.full((10, 3, 3), np.nan)
    pose[:4] = np.eye(3)
    boxes = np.zeros((10, 4, 4, 4), np.float32)
    (few,) = average_by_class(lambda rows: boxes[rows], [np.zeros(10, int)], pose, 1, seed=0)
    pose[:5] = np.eye(3)
    (half,) = average_by_class(lambda rows: boxes[rows], [np.zeros(10, int)], pose, 1, seed=0)
    assert few[0] is not None
    assert half[0] is not None
    assert (few[0].is_aligned, few[0].count) == (False, 10)
    assert (half[0].is_aligned, half[0].count, half[0].members) == (True, 5, 10)


def test_averaging_leaves_the_volumes_untouched() -> None:
    boxes = np.random.default_rng(0).normal(size=(5, 8, 8, 8)).astype(np.float32)
    before = boxes.copy()
    average_by_class(lambda rows: boxes, [np.zeros(5, int)], np.tile(np.eye(3)[::-1], (5, 1, 1)), 1, seed=0)
    np.testing.assert_array_equal(boxes, before)


def test_the_map_keeps_groups_apart_and_repeats_itself() -> None:
    generator = np.random.default_rng(0)
    groups = np.arange(60) % 2
    embeddings = generator.normal(size=(60, 8)) + groups[:, None] * 20
    plane, method = map_embeddings(embeddings, seed=3)
    assert method == "t-SNE"
    assert plane.min() >= 0
    assert plane.max() <= 1
    distance = np.linalg.norm(plane[:, None] - plane[None], axis=-1) + np.eye(60) * 9
    assert (groups[distance.argmin(axis=1)] == groups).all()
    np.testing.assert_array_equal(map_embeddings(embeddings, seed=3)[0], plane)


@pytest.mark.parametrize(("n", "width"), [(1, 4), (2, 1), (12, 5), (40, 1)])
def test_few_particles_or_dimensions_are_mapped_by_pca(n: int, width: int) -> None:
    plane, method = map_embeddings(np.random.default_rng(0).normal(size=(n, width)), seed=0)
    assert method == "PCA"
    assert plane.shape == (n, 2)
    assert np.isfinite(plane).all()


def test_equal_embeddings_map_to_one_point() -> None:
    plane, _ = map_embeddings(np.ones((50, 6)), seed=0)
    assert len(np.unique(plane, axis=0)) == 1

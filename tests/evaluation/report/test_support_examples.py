"""Examples of the support set: the most similar one of a particle, and the outline of a mask."""

import numpy as np
import torch

from tomosift.evaluation.report import nearest_examples
from tomosift.evaluation.report.sections.support import draw_outline
from tomosift.inference.heads import CosineHead


def test_nearest_example_is_the_most_similar_one_for_the_head() -> None:
    rng = np.random.default_rng(0)
    examples = rng.normal(size=(4, 8)).astype(np.float32)
    particles = np.concatenate([examples, examples[::-1], -examples]) + 5
    head = CosineHead(8, 0)
    head.standardize(torch.from_numpy(particles))
    assert nearest_examples(head, particles, examples + 5)[:8].tolist() == [0, 1, 2, 3, 3, 2, 1, 0]


def test_outline_is_the_border_of_the_mask_and_nothing_else_is_white() -> None:
    picture, mask = np.full((6, 6), 255, dtype=np.uint8), np.zeros((6, 6), dtype=bool)
    mask[1:4, 2:5] = True
    drawn = draw_outline(picture, mask)
    assert drawn.shape == (12, 12)
    white = drawn == 255
    assert white[2:8, 4:10].sum() == white.sum() == 20  # the border of 6 x 6 pixels
    assert not white[3:7, 5:9].any()

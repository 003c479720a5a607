"""Labels against picks: classes, counts, positions and the box of each class."""

from dataclasses import replace

import numpy as np
import pytest

from tomosift.data.checks.label_counts import check_box_sizes, check_labels
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.particles import Particles

World = tuple[Particles, dict[str, Tomogram]]


def labels_of(world: World, rows: list[int], names: list[str], offset: float = 0.0) -> Particles:
    chosen = world[0].select(np.array(rows))
    return Particles.create(chosen.tomogram, chosen.position_zyx_angstrom + offset, class_name=names)


@pytest.mark.parametrize(
    ("names", "offset", "levels", "words"),
    [
        (["a", "b", "b", "a"], 2.0, ("note", "ok"), "all 4 labels have their particle, 3 A from its label"),
        (["a", "a", "a", "a"], 0.0, ("warning", "ok"), "one class only"),
        (["a", "b", "b", "a"], 40.0, ("note", "error"), "4 of 4 labels belong to no particle within 30 A"),
    ],
)
def test_labels_are_counted_and_matched(
    world: World, names: list[str], offset: float, levels: tuple[str, str], words: str
) -> None:
    findings = check_labels(world[0], labels_of(world, [0, 1, 45, 46], names, offset), 30.0)
    assert tuple(finding.level for finding in findings) == levels
    assert words in " ".join(finding.sentence for finding in findings)


def test_two_classes_of_one_particle_are_an_error(world: World) -> None:
    finding = check_labels(world[0], labels_of(world, [0, 0], ["a", "b"]), 30.0)[1]
    assert finding.level == "error"
    assert "labels of two classes" in finding.sentence


def test_the_box_is_compared_with_the_particles_of_each_class(world: World) -> None:
    particles, tomograms = world
    labels = replace(particles, class_name=np.where(np.arange(len(particles)) < 5, "few", "many").astype(object))
    (finding,) = check_box_sizes(labels, tomograms, 8, 10.0)
    assert finding.about == "box size, many"
    assert "80 A" in finding.sentence

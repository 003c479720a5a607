"""Do the labels fit the picks: classes, counts, and particles at their places?"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tomosift.data.checks.box_size import check_box_size, measure_mean_particle
from tomosift.data.checks.findings import Finding, count_noun, join_names
from tomosift.data.checks.label_matching import find_labeled_rows
from tomosift.data.checks.tables import check_classes
from tomosift.data.extraction.tomograms import Tomogram, find_tomograms
from tomosift.particles import Particles

FEWEST_TO_MEASURE = 20
"""Labels of a class from which on the size of its particles is measured."""


def check_labels(particles: Particles, labels: Particles, tolerance_angstrom: float) -> tuple[Finding, ...]:
    """Check labels against the picks: classes with their counts, and the particle of each label.

    Parameters
    ----------
    particles, labels
        The picks and the labels.
    tolerance_angstrom
        Largest distance between a label and its particle.
    """
    labeled = labels.select(np.flatnonzero(labels.class_name.astype(str) != ""))
    notes: list[str] = []
    try:
        rows = find_labeled_rows(particles, labeled, tolerance_angstrom, notes.append)
    except ValueError as error:
        return check_classes(labeled), Finding("labels", "error", str(error), {"labels": len(labeled)})
    distance = np.linalg.norm(particles.position_zyx_angstrom[rows] - labeled.position_zyx_angstrom, axis=1)
    known = distance[np.isfinite(distance)]
    measured: dict[str, float] = {"labels": len(labeled), "unlabeled": len(labels) - len(labeled)}
    measured |= {"median_distance_angstrom": float(np.median(known))} if len(known) else {}
    far = f", {np.median(known):.0f} A from its label in the median" if len(known) else ""
    classes = labeled.class_name.astype(str)
    twice = [int(row) for row in np.unique(rows) if len(set(classes[rows == row])) > 1]
    if twice:
        listed = join_names([str(particles.particle_id[row]) for row in twice])
        sentence = f"{count_noun(len(twice), 'particle')} ({listed}) have labels of two classes; keep one of the two"
        return check_classes(labeled), Finding("labels", "error", sentence, measured)
    if notes:
        return check_classes(labeled), Finding("labels", "note", notes[0].removeprefix("note: "), measured)
    sentence = f"all {count_noun(len(labeled), 'label')} have their particle{far}"
    return check_classes(labeled), Finding("labels", "ok", sentence, measured)


def check_box_sizes(
    labels: Particles, tomograms: Mapping[str, Tomogram], box_size: int, voxel_spacing_angstrom: float
) -> tuple[Finding, ...]:
    """Check the box against the particles of each class that has enough labels to measure their size.

    Parameters
    ----------
    labels
        Particles with classes.
    tomograms
        By name.
    box_size, voxel_spacing_angstrom
        Of the subtomograms to be extracted.
    """
    key_of = find_tomograms(map(str, labels.tomogram), tomograms).key_of
    keys = np.array([key_of.get(str(name), "") for name in labels.tomogram], dtype=object)
    box_angstrom, findings = box_size * voxel_spacing_angstrom, []
    for name in sorted({str(name) for name in labels.class_name} - {""}):
        is_mine = (labels.class_name == name) & np.isfinite(labels.position_zyx_angstrom).all(axis=1)
        position_of = {
            key: labels.position_zyx_angstrom[is_mine & (keys == key)]
            for key in tomograms
            if (is_mine & (keys == key)).any()
        }
        if sum(map(len, position_of.values())) >= FEWEST_TO_MEASURE:
            with_labels = {key: tomograms[key] for key in position_of}
            mean = measure_mean_particle(with_labels, position_of, 1.5 * box_angstrom)
            finding = check_box_size(box_angstrom, box_size, mean, None)
            findings.append(replace(finding, about=f"box size, {name}"))
    return tuple(findings)

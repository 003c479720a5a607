"""Self-training adds the most confident detections of classes with few picks, away from all picks."""

import numpy as np

from tomosift.particles import Particles
from tomosift.picking.self_training import concatenate_picks, grow_picks


def table(*rows: tuple[str, float, float]) -> Particles:
    """Particles with these classes, positions along x and scores."""
    position = np.array([[0.0, 0.0, x] for _, x, _ in rows]).reshape(-1, 3)
    score = np.array([score for _, _, score in rows])
    return Particles.create(["t"] * len(rows), position, class_name=[name for name, _, _ in rows], score=score)


def rows_of(particles: Particles) -> list[tuple[str, float]]:
    return [
        (str(name), float(x))
        for name, x in zip(particles.class_name, particles.position_zyx_angstrom[:, 2], strict=True)
    ]


def test_picks_move_to_the_nearest_detection_of_their_class() -> None:
    picks = table(("a", 100, np.nan), ("b", 500, np.nan), ("a", 900, np.nan))
    detections = table(("a", 112, 0.9), ("a", 85, 0.99), ("b", 120, 0.9), ("a", 505, 0.9), ("a", 950, 0.9))
    assert rows_of(grow_picks(picks, detections, [], 9, 30.0, 60.0)) == [("a", 112), ("b", 500), ("a", 900)]
    assert rows_of(picks)[0] == ("a", 100)  # the picks themselves are left alone


def test_the_most_confident_detections_are_added_up_to_a_number_per_pick() -> None:
    picks = table(("a", 0, np.nan), ("a", 5000, np.nan))
    detections = table(*(("a", 300.0 * k, 0.9 + 0.001 * k) for k in range(1, 11)))
    more = rows_of(grow_picks(picks, detections, ["a"], 3, 30.0, 60.0))
    assert more[2:] == [("a", 300.0 * k) for k in (10, 9, 8, 7, 6, 5)]
    assert len(grow_picks(picks, detections, ["a"], 99, 30.0, 60.0)) == 12


def test_detections_near_a_pick_or_of_other_classes_are_not_added() -> None:
    picks = table(("a", 0, np.nan), ("b", 1000, np.nan))
    detections = table(("a", 50, 0.99), ("a", 1060, 0.99), ("a", 1061, 0.95), ("b", 2000, 0.99), ("c", 3000, 0.99))
    assert rows_of(grow_picks(picks, detections, ["a"], 9, 30.0, 60.0)) == [("a", 0), ("b", 1000), ("a", 1061)]


def test_without_detections_picks_stay() -> None:
    picks = table(("a", 0, np.nan))
    assert rows_of(grow_picks(picks, table(), ["a"], 9, 30.0, 60.0)) == [("a", 0)]


def test_concatenated_tables_keep_their_order_and_name_each_particle_once() -> None:
    both = concatenate_picks([table(("a", 1, 0.5), ("b", 2, 0.7)), table(("c", 3, 0.9))])
    assert rows_of(both) == [("a", 1), ("b", 2), ("c", 3)]
    assert both.score.tolist() == [0.5, 0.7, 0.9]
    assert len(set(both.particle_id)) == 3

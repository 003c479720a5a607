"""Few picks grow by what is surely found: the surest, of their classes, away from all picks."""

import numpy as np

from tomosift.particles import Particles
from tomosift.picking.self_training import concatenate_picks, grow_picks


def table(*rows: tuple[str, float, float]) -> Particles:
    """Particles of these classes, places along x, and scores."""
    position = np.array([[0.0, 0.0, x] for _, x, _ in rows]).reshape(-1, 3)
    score = np.array([score for _, _, score in rows])
    return Particles.create(["t"] * len(rows), position, class_name=[name for name, _, _ in rows], score=score)


def shown(particles: Particles) -> list[tuple[str, float]]:
    return [
        (str(name), float(x))
        for name, x in zip(particles.class_name, particles.position_zyx_angstrom[:, 2], strict=True)
    ]


def test_picks_go_to_the_nearest_particle_found_of_their_class() -> None:
    picks = table(("a", 100, np.nan), ("b", 500, np.nan), ("a", 900, np.nan))
    found = table(("a", 112, 0.9), ("a", 85, 0.99), ("b", 120, 0.9), ("a", 505, 0.9), ("a", 950, 0.9))
    assert shown(grow_picks(picks, found, [], 9, 30.0, 60.0)) == [("a", 112), ("b", 500), ("a", 900)]
    assert shown(picks)[0] == ("a", 100)  # the picks themselves are left alone


def test_the_surest_are_added_so_many_for_every_pick() -> None:
    picks = table(("a", 0, np.nan), ("a", 5000, np.nan))
    found = table(*(("a", 300.0 * k, 0.9 + 0.001 * k) for k in range(1, 11)))
    more = shown(grow_picks(picks, found, ["a"], 3, 30.0, 60.0))
    assert more[2:] == [("a", 300.0 * k) for k in (10, 9, 8, 7, 6, 5)]
    assert len(grow_picks(picks, found, ["a"], 99, 30.0, 60.0)) == 12


def test_nothing_near_any_pick_and_nothing_of_other_classes_is_added() -> None:
    picks = table(("a", 0, np.nan), ("b", 1000, np.nan))
    found = table(("a", 50, 0.99), ("a", 1060, 0.99), ("a", 1061, 0.95), ("b", 2000, 0.99), ("c", 3000, 0.99))
    assert shown(grow_picks(picks, found, ["a"], 9, 30.0, 60.0)) == [("a", 0), ("b", 1000), ("a", 1061)]


def test_where_nothing_was_found_picks_stay() -> None:
    picks = table(("a", 0, np.nan))
    assert shown(grow_picks(picks, table(), ["a"], 9, 30.0, 60.0)) == [("a", 0)]


def test_joined_tables_keep_their_order_and_name_each_particle_once() -> None:
    both = concatenate_picks([table(("a", 1, 0.5), ("b", 2, 0.7)), table(("c", 3, 0.9))])
    assert shown(both) == [("a", 1), ("b", 2), ("c", 3)]
    assert both.score.tolist() == [0.5, 0.7, 0.9]
    assert len(set(both.particle_id)) == 3

"""Splits into training and validation particles: by tomogram, never by particle.

Particles of one tomogram share its ice, defocus, alignment errors and neighbors. With a split by particle a
classifier recognizes the tomogram, and its accuracy is overestimated.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomosift.data.class_names import encode_labels
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.particles import Particles

_TARGET_PARTS = 10  # of which one is held out
_HELD_OUT = 5  # seed word of `split_held_out`, so that its draws are independent of others of the same seed
_HOLD_OUT_EVERY = 5


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of each part, ascending; unpacks into its parts."""

    parts: tuple[NDArray[np.int64], ...]
    by_tomogram: bool
    """False where there were too few tomograms and particles had to be split instead."""
    notice: str
    """A warning for the reader of results from this split; empty where there is none."""

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, part: int) -> NDArray[np.int64]:
        return self.parts[part]


def split_by_tomogram(particles: Particles, fractions: Sequence[float], seed: int = 0) -> Split:
    """Split particles by tomogram so that each part has about its fraction of every class.

    Tomograms go, largest first, to the part whose class counts they bring closest to the target; the seed breaks ties
    and orders tomograms of equal size. Every part gets at least one tomogram. With fewer tomograms than parts the
    function splits particles instead, class by class, and sets ``notice``.

    Parameters
    ----------
    particles
        With their tomograms and, where known, classes.
    fractions
        Relative size of each part; every particle belongs to one.
    seed
        Of the draws.

    Raises
    ------
    ValueError
        A fraction is not positive, or there are fewer particles than parts.

    Examples
    --------
    >>> import numpy as np
    >>> from tomosift.data.splits import split_by_tomogram
    >>> from tomosift.particles import Particles
    >>> particles = Particles.create(["TS_01", "TS_02", "TS_01", "TS_03"], np.zeros((4, 3)))
    >>> train, validation = split_by_tomogram(particles, [0.75, 0.25])
    >>> sorted([*train, *validation]) == [0, 1, 2, 3]
    True
    """
    shares = np.asarray(fractions, dtype=np.float64)
    if not len(shares) or not (shares > 0).all() or not np.isfinite(shares).all():
        raise ValueError(f"fractions are {list(fractions)}, expected positive numbers")
    shares = shares / shares.sum()
    if len(particles) < len(shares):
        raise ValueError(f"{len(particles)} particles cannot be split into {len(shares)} parts; give more particles")
    generator = np.random.default_rng([seed, 11])
    label, class_names = encode_labels(particles.class_name, None)
    names, tomogram = np.unique(particles.tomogram.astype(str), return_inverse=True)
    if len(names) < len(shares):
        plural = "tomogram" if len(names) == 1 else "tomograms"
        notice = (
            f"{len(names)} {plural} cannot fill {len(shares)} parts, so particles were split instead: the parts share "
            "tomograms and accuracies will be overestimated"
        )
        return Split(_split_particles(label, shares, generator), False, notice)
    counts = np.zeros((len(names), len(class_names) + 1))
    # The column after the last class counts the unlabeled.
    np.add.at(counts, (tomogram.reshape(-1), label), 1)
    part_of = _assign_tomograms(counts, shares, generator)
    of_particle = part_of[tomogram.reshape(-1)]
    return Split(tuple(np.flatnonzero(of_particle == part) for part in range(len(shares))), True, "")


def _assign_tomograms(
    counts: NDArray[np.float64], shares: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Assign each tomogram to a part, greedily."""
    totals = np.maximum(counts.sum(axis=0), 1)
    # The particle count weighs as much as one class, so that parts keep their size when one class dominates.
    weights = np.concatenate([counts / totals, counts.sum(axis=1, keepdims=True) / counts.sum()], axis=1)
    target = shares[:, None] * weights.sum(axis=0)
    filled = np.zeros_like(target)
    order = generator.permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    part_of = np.full(len(counts), -1, dtype=np.int64)
    for done, row in enumerate(order):
        empty = np.setdiff1d(np.arange(len(shares)), part_of)
        candidates = empty if len(counts) - done <= len(empty) else np.arange(len(shares))
        before = ((filled - target) ** 2).sum(axis=1)
        after = ((filled + weights[row] - target) ** 2).sum(axis=1)
        gain = ((after - before) / shares)[candidates]
        best = candidates[np.flatnonzero(gain <= gain.min() + 1e-12)]
        part_of[row] = generator.choice(best)
        filled[part_of[row]] += weights[row]
    return part_of


def _split_particles(
    label: NDArray[np.int64], shares: NDArray[np.float64], generator: np.random.Generator
) -> tuple[NDArray[np.int64], ...]:
    """Deal a shuffled, class-sorted line of particles out, each to the part furthest behind its share."""
    shuffled = generator.permutation(len(label))
    line = shuffled[np.argsort(label[shuffled], kind="stable")]
    part_of = np.empty(len(label), dtype=np.int64)
    dealt = np.zeros(len(shares))
    for done, row in enumerate(line):
        part_of[row] = int(np.argmax(shares * (done + 1) - dealt))
        dealt[part_of[row]] += 1
    return tuple(np.flatnonzero(part_of == part) for part in range(len(shares)))


def sample_labels(data: Subtomograms, per_class: int, seed: int = 0) -> NDArray[np.int64]:
    """Draw ``per_class`` labeled particles of every class; return their rows, ascending.

    A class that has fewer gives all.

    For one seed the rows for a smaller ``per_class`` are among those for a larger one, so that learning curves add
    labels instead of replacing them.

    Raises
    ------
    ValueError
        ``per_class`` is not positive, or no particle is labeled.
    """
    if per_class < 1:
        raise ValueError(f"per_class is {per_class}, expected at least 1")
    if not len(data.labeled_rows):
        raise ValueError(f"{data.path} has no labeled particle; label at least one per class")
    chosen = []
    for label in range(len(data.class_names)):
        members = np.flatnonzero(data.label == label)
        chosen.append(np.random.default_rng([seed, 12, label]).permutation(members)[:per_class])
    return np.sort(np.concatenate(chosen))


def split_held_out(labeled: Subtomograms, seed: int = 0) -> tuple[Subtomograms, Subtomograms]:
    """Split labeled particles into a training set and a held-out set of every fifth particle of each class.

    The order is drawn. Each class gives at least one particle to the held-out set.
    """
    order = np.random.default_rng([seed, _HELD_OUT]).permutation(len(labeled))
    rank = np.zeros(len(labeled), dtype=int)
    for label in np.unique(labeled.label):
        mine = order[labeled.label[order] == label]
        rank[mine] = np.arange(len(mine))
    return labeled.select(rank % _HOLD_OUT_EVERY != 0), labeled.select(rank % _HOLD_OUT_EVERY == 0)


def split_target(target: Subtomograms) -> tuple[Subtomograms, Subtomograms]:
    """Return target subtomograms to train on, and every tenth, which is held out.

    Neither part has subtomograms that reach beyond their tomogram: critics would recognize how these are filled.
    """
    whole = target.select(target.whole_rows())
    is_held_out = np.arange(len(whole)) % _TARGET_PARTS == _TARGET_PARTS - 1
    return whole.select(~is_held_out), whole.select(is_held_out)

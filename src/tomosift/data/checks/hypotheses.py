"""Which reading of the coordinates does the density speak for? Mistakes are weighed against the picks as given.

For each mistake that users make, the mean filtered density at the corrected picks is compared with that at the picks as
given. Three numbers decide. The z-score of a reading compares the density at its positions with that of the same
positions moved by random offsets within the plane. The paired test compares the two readings pick by pick. And the
z-score must exceed that of the picks as given by a factor, for particles in thin or crowded tomograms often lie near
mistaken positions too. Thresholds are of benchmarks/check_mistakes.py.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.data.checks.density_evidence import DensityMap, choose_tomograms, filter_tomogram
from tomosift.data.checks.findings import join_names
from tomosift.data.checks.mistakes import Hypothesis, PickGeometry, is_inside, list_mirrors, list_mistakes, rescale
from tomosift.data.extraction.tomograms import Tomogram

CLEAR_Z, CLEAR_T, CLEAR_RATIO = 7.0, 3.5, 1.5
"""Least z-score, paired statistic and ratio of z-scores by which a mistake is clear."""
CLEAR_OFFSET_T, CLEAR_OFFSET_RATIO = 5.0, 2.0
"""The same for a common offset, of which there are many, and for picks of another tomogram."""
FEWEST_PICKS = 6
"""Picks in the tomograms that are read; fewer decide nothing."""
_MOST_PICKS = 400  # of each tomogram
_DIAMETERS = (1.0, 1.5)  # times the assumed one; hollow particles stand out at the larger only
_INSIDE = 0.95  # share of the picks that are inside after a correction
_INSIDE_FOR_OFFSET = 0.3  # share of the picks as given from which on a common offset is searched
_MOVED = 0.35  # diameters by which half of the picks move at least; less is no other reading
_SCALES = (0.5, 2.0)
_SCORED = 8  # discrete mistakes whose z-score is computed
_TIE_T = 2.0  # paired statistic up to which the commoner of two mistakes is named


@dataclass(frozen=True, eq=False)
class Verdict:
    """The outcome of the comparison."""

    z_given: float
    """z-score of the picks as given; positive where density differs in the direction of the particles."""
    mistake: Hypothesis | None = None
    """The correction that the density clearly speaks for."""
    z_corrected: float = 0.0
    exchanged: Mapping[str, str] = field(default_factory=dict)
    """Tomogram -> the one in which its picks clearly stand out instead."""

    @property
    def is_mistaken(self) -> bool:
        """Whether the density clearly speaks against the picks as given."""
        return self.mistake is not None or bool(self.exchanged)

    @property
    def least_ratio(self) -> float:
        """The ratio by which the z-score must exceed that of the picks as given."""
        is_simple = self.mistake is not None and not self.mistake.name.startswith("offset")
        return CLEAR_RATIO if is_simple else CLEAR_OFFSET_RATIO

    def describe(self) -> str:
        """Return a clause that says what was measured, what seems to be wrong, and what to do."""
        if self.mistake is not None:
            return (
                f"density stands out at the picks only if {self.mistake.change} (z-score {self.z_corrected:.1f}, as "
                f"given {self.z_given:.1f}): {self.mistake.advice}"
            )
        pairs = [f"the picks of {key} in {other}" for key, other in self.exchanged.items()]
        return (
            f"density stands out at {join_names(pairs)} rather than in their own tomogram; check which tomogram each "
            "pick belongs to"
        )

    def as_measured(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        names = [self.mistake.name] if self.mistake is not None else ["another tomogram"]
        return {"z_score": self.z_given, "z_score_corrected": self.z_corrected, "hypotheses": names}


class _Scale:
    """The readings of all picks in maps of one diameter."""

    def __init__(self, picks: PickGeometry, maps: Mapping[str, DensityMap], diameter_angstrom: float) -> None:
        self.picks, self.maps = picks, maps
        self.diameter_voxels = diameter_angstrom / picks.voxel_spacing_angstrom
        self.rows = {key: np.flatnonzero(picks.tomogram == key) for key in maps}

    def values(self, voxel_zyx: NDArray[np.float64]) -> NDArray[np.float64]:
        result = np.zeros(len(voxel_zyx))
        for key, rows in self.rows.items():
            result[rows] = self.maps[key].sample(voxel_zyx[rows])
        return result

    def z_score(self, voxel_zyx: NDArray[np.float64]) -> float:
        """Sum of the values over the standard deviation of that sum at random offsets, which differ by tomogram."""
        null = np.sum([self.maps[key].sample_moved(voxel_zyx[rows]) for key, rows in self.rows.items()], axis=0)
        return float((self.values(voxel_zyx).sum() - null.mean()) / max(float(null.std()), 1e-9))

    def is_another_reading(self, voxel_zyx: NDArray[np.float64]) -> bool:
        moved = np.linalg.norm(voxel_zyx - self.picks.voxel_zyx, axis=1) / self.diameter_voxels
        inside = float(is_inside(voxel_zyx, self.picks.shape_zyx).mean())
        return bool(np.median(moved) >= _MOVED) and inside >= _INSIDE


def weigh_hypotheses(
    picks: PickGeometry, tomograms: Mapping[str, Tomogram], diameter_angstrom: float
) -> Verdict | None:
    """Weigh the common mistakes against the picks as given; None where there is too little to measure.

    Parameters
    ----------
    picks
        With finite positions, inside their tomograms or not.
    tomograms
        Those that may be read; of large ones a few are.
    diameter_angstrom
        Of the particles, to a factor of about 1.5.
    """
    count = {key: int((picks.tomogram == key).sum()) for key in tomograms}
    names = choose_tomograms(tomograms, {key: n for key, n in count.items() if n})
    some = _select(picks, names)
    if some is None:
        return None
    verdicts = []
    diameters = [factor * diameter_angstrom for factor in _DIAMETERS]
    filtered = {name: filter_tomogram(tomograms[name], diameters) for name in names}
    for k, diameter in enumerate(diameters):
        usable = {name: one for name, maps in filtered.items() if (one := maps[k]) is not None}
        chosen = _select(some, list(usable))
        if chosen is not None:
            scale = _Scale(chosen, usable, diameter)
            verdicts.append(_weigh(scale))
    if not verdicts:
        return None
    # The shell of a hollow particle stands out beside its center at one scale; the other shows that picks are right.
    given = max(verdicts, key=lambda one: one.z_given)
    clear = [
        one
        for one in verdicts
        if one.exchanged or (one.mistake is not None and one.z_corrected >= one.least_ratio * given.z_given)
    ]
    return max(clear, key=lambda one: one.z_corrected) if clear else replace(given, mistake=None, exchanged={})


def _select(picks: PickGeometry, names: list[str]) -> PickGeometry | None:
    """The picks of these tomograms, thinned out evenly; None if they are too few."""
    parts = [np.flatnonzero(picks.tomogram == name) for name in names]
    rows = np.concatenate(
        [np.zeros(0, int), *(part[np.unique(np.linspace(0, len(part) - 1, _MOST_PICKS).astype(int))] for part in parts)]
    )
    if len(rows) < FEWEST_PICKS:
        return None
    return replace(
        picks,
        position_zyx_angstrom=picks.position_zyx_angstrom[rows],
        shape_zyx=picks.shape_zyx[rows],
        voxel_spacing_angstrom=picks.voxel_spacing_angstrom[rows],
        tomogram=picks.tomogram[rows],
    )


def _weigh(scale: _Scale) -> Verdict:
    given = scale.picks.voxel_zyx
    z_given = scale.z_score(given)
    candidates = [*_best_of_each_kind(scale)]
    scored = [(scale.z_score(one.voxel_zyx), one) for one in candidates]
    if not scored:
        return _find_exchange(scale, abs(z_given))
    sign = float(np.sign(max([z_given, *(z for z, _ in scored)], key=abs)))
    z_given *= sign
    values = {id(one): sign * scale.values(one.voxel_zyx) for _, one in scored}
    z_best, best = max(scored, key=lambda pair: sign * pair[0])
    for z, one in sorted(scored, key=lambda pair: pair[1].handicap):
        is_commoner = one.handicap < best.handicap
        if is_commoner and _paired_statistic(values[id(best)], values[id(one)]) < _TIE_T:
            z_best, best = z, one
            break
    z_best *= sign
    is_offset = best.name.startswith("offset")
    least_t, ratio = (CLEAR_OFFSET_T, CLEAR_OFFSET_RATIO) if is_offset else (CLEAR_T, CLEAR_RATIO)
    t = _paired_statistic(values[id(best)], sign * scale.values(given))
    if z_best >= CLEAR_Z and t >= least_t and z_best >= ratio * z_given:
        return Verdict(z_given, best, z_best)
    return _find_exchange(scale, z_given)


def _paired_statistic(value: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Mean difference over its standard error; 0 for none."""
    difference = value - other
    deviation = float(difference.std(ddof=1))
    return float(difference.mean() / max(deviation / np.sqrt(len(difference)), 1e-9))


def _best_of_each_kind(scale: _Scale) -> Iterator[Hypothesis]:
    """The hypotheses that are scored in full: the best discrete ones, and the best scale and offset of either sign."""
    picks = scale.picks
    discrete = [
        one
        for one in (*list_mistakes(picks), *list_mirrors(picks))
        if scale.is_another_reading(one.voxel_zyx) and one.fits(picks.shape_zyx)
    ]
    yield from sorted(discrete, key=lambda one: -abs(scale.values(one.voxel_zyx).sum()))[:_SCORED]
    yield from _best_scales(scale)
    if is_inside(picks.voxel_zyx, picks.shape_zyx).mean() >= _INSIDE_FOR_OFFSET:
        yield from _best_offsets(scale)


def _best_scales(scale: _Scale) -> Iterator[Hypothesis]:
    """The best of all factors between 0.5 and 2, in steps that move no pick by more than a fifth of a diameter."""
    picks = scale.picks
    extent = float((np.abs(picks.voxel_zyx).max(axis=1) / scale.diameter_voxels).max())
    count = int(np.clip(np.log(_SCALES[1] / _SCALES[0]) * max(extent, 1.0) / 0.2, 40, 800))
    factors = np.exp(np.linspace(np.log(_SCALES[0]), np.log(_SCALES[1]), count))
    step = np.log(factors[1] / factors[0])

    def score(factor: float) -> float:
        moved = rescale(picks, factor)
        if not scale.is_another_reading(moved.voxel_zyx) or not moved.fits(picks.shape_zyx):
            return 0.0
        return float(scale.values(moved.voxel_zyx).sum())

    scores = np.array([score(factor) for factor in factors])
    for sign in (1.0, -1.0):
        if (sign * scores).max() <= 0:
            continue
        finer = factors[int(np.argmax(sign * scores))] * np.exp(np.linspace(-step, step, 21))
        yield rescale(picks, float(finer[int(np.argmax([sign * score(factor) for factor in finer]))]))


def _best_offsets(scale: _Scale) -> Iterator[Hypothesis]:
    """The offset, common to all tomograms, at which density stands out most, in either direction."""
    total = _sum_correlations(scale)
    if total is None:
        return
    correlation, voxels = total
    center = np.array(correlation.shape) // 2
    for sign in (1.0, -1.0):
        peak = np.array(np.unravel_index(int(np.argmax(sign * correlation)), correlation.shape))
        offset = (peak - center) * voxels
        moved = scale.picks.voxel_zyx + offset
        inside = float(is_inside(moved, scale.picks.shape_zyx).mean())
        if inside >= 0.5 and np.linalg.norm(offset) >= _MOVED * float(np.median(scale.diameter_voxels)):
            listed = ", ".join(f"{value:+.0f}" for value in offset)
            advice = f"add about {listed} voxels (z, y, x) to the coordinates, or find out what was cropped or padded"
            change, length = f"they are moved by {listed} voxels (z, y, x)", float(np.linalg.norm(offset))
            yield Hypothesis(f"offset {listed}", change, advice, moved, 0.2, length)


def _sum_correlations(scale: _Scale) -> tuple[NDArray[np.float32], int] | None:
    """Correlations with all offsets, over the tomograms whose maps have the grid spacing of the first."""
    first = next(iter(scale.maps))
    size = scale.maps[first].bin_size
    spacing = float(scale.picks.voxel_spacing_angstrom[scale.rows[first][0]])
    parts = []
    for key, rows in scale.rows.items():
        same = abs(float(scale.picks.voxel_spacing_angstrom[rows[0]]) / spacing - 1) < 1e-2
        if same and scale.maps[key].bin_size == size:
            parts.append(scale.maps[key].correlate(scale.picks.voxel_zyx[rows]))
    if not parts:
        return None
    shape = np.min([part.shape for part in parts], axis=0)
    total = np.zeros(shape, dtype=np.float32)
    for part in parts:
        low = np.array(part.shape) // 2 - shape // 2
        total += part[tuple(slice(a, a + n) for a, n in zip(low, shape, strict=True))]
    return total, size


def _find_exchange(scale: _Scale, z_given: float) -> Verdict:
    """Find tomograms whose picks do not stand out in themselves and clearly do in another one."""
    rows_of = {key: rows for key, rows in scale.rows.items() if len(rows) >= FEWEST_PICKS}
    spacing = {key: float(scale.picks.voxel_spacing_angstrom[rows[0]]) for key, rows in scale.rows.items()}
    scores: dict[tuple[str, str], float] = {}
    values: dict[tuple[str, str], NDArray[np.float64]] = {}
    for key, rows in rows_of.items():
        for other, density in scale.maps.items():
            voxel = scale.picks.voxel_zyx[rows] * spacing[key] / spacing[other]
            scores[key, other] = density.z_score(voxel)
            values[key, other] = density.sample(voxel)
    if not scores:
        return Verdict(z_given)
    sign = float(np.sign(max(scores.values(), key=abs)))
    exchanged, highest = {}, 0.0
    for key in rows_of:
        other = max(scale.maps, key=lambda name, key=key: sign * scores[key, name])  # type: ignore[misc]
        z, z_own = sign * scores[key, other], sign * scores[key, key]
        t = _paired_statistic(sign * values[key, other], sign * values[key, key])
        if other != key and z >= CLEAR_Z and t >= CLEAR_OFFSET_T and z >= CLEAR_OFFSET_RATIO * z_own:
            exchanged[key], highest = other, max(highest, z)
    return Verdict(z_given, z_corrected=highest, exchanged=exchanged)

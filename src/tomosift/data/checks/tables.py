"""Does the particle table fit the tomograms: names, numbers, classes, half tomograms?"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tomosift.data.checks.findings import Finding, count_noun, join_names
from tomosift.data.extraction.tomograms import Tomogram, find_tomograms
from tomosift.particles import Particles

FEWEST_LABELS = 5
FEWEST_PARTICLES = 50


def check_numbers(particles: Particles) -> Finding:
    """Check that positions are numbers and that there are enough picks."""
    wrong = np.flatnonzero(~np.isfinite(particles.position_zyx_angstrom).all(axis=1))
    oriented = np.isfinite(particles.rotation).all(axis=(1, 2)).sum()
    measured = {"picks": len(particles), "not_numbers": len(wrong), "with_orientation": int(oriented)}
    if len(wrong):
        sentence = (
            f"{len(wrong)} of {count_noun(len(particles), 'pick')} have positions that are not numbers, the first is "
            f"{particles.particle_id[wrong[0]]}; remove them or give their positions"
        )
        return Finding("picks", "error", sentence, measured)
    if len(particles) < FEWEST_PARTICLES:
        sentence = (
            f"there are only {count_noun(len(particles), 'pick')}; learning from unlabeled particles needs hundreds, "
            "so give all picks, not only the labeled ones"
        )
        return Finding("picks", "note", sentence, measured)
    return Finding("picks", "ok", f"{len(particles)} picks, {oriented} with an orientation", measured)


def check_names(particles: Particles, tomograms: Mapping[str, Tomogram]) -> tuple[Finding, dict[str, str]]:
    """Check that every tomogram name has a tomogram; also return name -> key of those that have one."""
    match = find_tomograms([str(name) for name in particles.tomogram], tomograms)
    key_of, without = match.key_of, [*match.missing, *match.ambiguous]
    unused = sorted(set(tomograms) - set(key_of.values()))
    measured = {"matched": len(key_of), "unmatched": without, "without_picks": unused}
    if particles.is_named_by_file and match.missing:
        fault = (
            f"the table names no tomogram, and its own name {match.missing[0]!r} is none of "
            f"{join_names(list(tomograms))}; add a column rlnTomoName (STAR) or tomogram (CSV), or name the file after "
            "its tomogram"
        )
        return Finding("names", "error", fault, measured), key_of
    if fault := match.describe_fault(list(tomograms)):
        return Finding("names", "error", fault, measured), key_of
    if unused:
        tomograms_without = f"{count_noun(len(unused), 'tomogram')} have no picks ({join_names(unused)})"
        sentence = f"every name in the table has its tomogram; {tomograms_without}"
        return Finding("names", "note", sentence, measured), key_of
    sentence = f"all {count_noun(len(key_of), 'tomogram name')} in the table have a tomogram"
    return Finding("names", "ok", sentence, measured), key_of


def check_counts(keys: NDArray[np.object_]) -> Finding:
    """Check the number of picks per tomogram, from the tomogram key of each pick (n,)."""
    names, counts = np.unique(keys.astype(str), return_counts=True)
    if not len(names):
        return Finding("picks per tomogram", "error", "no pick belongs to a tomogram; see the names")
    measured = dict(zip(names.tolist(), counts.tolist(), strict=True))
    if len(names) == 1:
        sentence = (
            f"all {counts[0]} picks are in one tomogram, so accuracy on a tomogram outside the training set cannot be "
            "measured; give several"
        )
        return Finding("picks per tomogram", "note", sentence, measured)
    counted = f"{counts.min()} to {counts.max()} picks per tomogram, {np.median(counts):.0f} in the median"
    return Finding("picks per tomogram", "ok", f"{len(names)} tomograms with {counted}", measured)


def check_classes(particles: Particles) -> Finding:
    """Check that the table has at least two classes with enough labels each."""
    names, counts = np.unique([str(name) for name in particles.class_name if name], return_counts=True)
    measured = dict(zip(names.tolist(), counts.tolist(), strict=True))
    if not len(names):
        sentence = "the table has no classes; take labels from another file or label some particles first"
        return Finding("classes", "note", sentence, measured)
    listed = join_names([f"{name} ({count})" for name, count in zip(names, counts, strict=True)], most=8)
    few = [str(name) for name, count in zip(names, counts, strict=True) if count < FEWEST_LABELS]
    if len(names) == 1:
        sentence = f"there is one class only ({listed}); sorting needs at least two, for example one of false picks"
        return Finding("classes", "warning", sentence, measured)
    if few:
        sentence = f"{listed}; {join_names(few)} have fewer than {FEWEST_LABELS} labels: label a few more"
        return Finding("classes", "note", sentence, measured)
    return Finding("classes", "ok", listed, measured)


def check_halves(tomograms: Mapping[str, Tomogram]) -> Finding:
    """Check that all tomograms or none have half tomograms."""
    with_halves = [key for key, tomogram in tomograms.items() if tomogram.half_paths is not None]
    measured = {"with_halves": len(with_halves), "tomograms": len(tomograms)}
    if len(with_halves) == len(tomograms):
        return Finding("halves", "ok", "even and odd half tomograms were found for every tomogram", measured)
    if with_halves:
        sentence = (
            f"half tomograms were found for {len(with_halves)} of {len(tomograms)} tomograms and will not be used; "
            "give them for all or none"
        )
        return Finding("halves", "note", sentence, measured)
    sentence = "no even and odd half tomograms were found; they are not needed but help"
    return Finding("halves", "note", sentence, measured)

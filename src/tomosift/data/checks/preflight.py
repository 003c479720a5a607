"""A look at picks and tomograms before the work starts, in plain words."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tomosift.data.checks.box_size import check_box, check_centering, mean_particle
from tomosift.data.checks.findings import Finding, listed, plural
from tomosift.data.checks.positions import (
    Placed,
    check_duplicates,
    check_inside,
    check_origin,
    inside,
    table_pixel_angstrom,
)
from tomosift.data.checks.volumes import check_contrast, check_spacing, check_tilts, check_values
from tomosift.data.extraction.tomograms import Tomogram, match_tomograms
from tomosift.particles import Particles

MOST_TOMOGRAMS = 12
"""Tomograms whose voxels are read, spread evenly over the list; headers and tables of all are looked at."""
FEWEST_LABELS = 5
FEWEST_PARTICLES = 50


def run_preflight(
    particles: Particles,
    tomograms: Mapping[str, Tomogram],
    *,
    box_size: int,
    voxel_spacing_angstrom: float,
    particle_diameter_angstrom: float | None = None,
) -> tuple[Finding, ...]:
    """What is right, odd or wrong about picks and tomograms, one finding per question.

    Never raises for bad input: what is wrong is a finding, and questions that cannot be asked after it are left out.

    Parameters
    ----------
    box_size, voxel_spacing_angstrom
        Of the boxes that will be cut.
    particle_diameter_angstrom
        Where it is known; else it is read off the mean of the boxes.
    """
    if not len(particles):
        return (Finding("picks", "error", "the particle table is empty; check the file"),)
    if not tomograms:
        return (Finding("names", "error", "there is no tomogram; check the paths"),)
    findings = [_check_numbers(particles)]
    finite = np.isfinite(particles.position_zyx_angstrom).all(axis=1)
    names_found, key_of = _check_names(particles, tomograms)
    findings.append(names_found)
    keys = np.array([key_of.get(str(name), "") for name in particles.tomogram], dtype=object)
    rows = np.flatnonzero(finite & (keys != ""))
    used = {key: tomograms[key] for key in sorted(set(key_of.values()))}
    findings += [_check_counts(keys[keys != ""]), _check_classes(particles)]
    if not len(rows):
        return tuple(findings)
    pixel = table_pixel_angstrom(particles)
    placed = _placed(particles, keys, rows, used, pixel)
    box_angstrom = box_size * voxel_spacing_angstrom
    findings += check_spacing(used, pixel)
    findings.append(check_inside(placed, box_angstrom / float(np.median(placed.voxel_spacing_angstrom))))
    diameter = particle_diameter_angstrom
    findings.append(check_duplicates(placed, 0.5 * diameter if diameter else 0.15 * box_angstrom))
    if (origin := check_origin(placed)) is not None:
        findings.append(origin)
    findings.append(_check_halves(used))
    looked = {key: used[key] for key in _spread(list(used))}
    values = check_values(looked)
    findings.append(values)
    if values.measured.get("constant"):
        return tuple(findings)
    findings += check_tilts(looked)
    within = inside(placed.voxel_zyx, placed.shape_zyx)
    position_of = {
        key: placed.position_zyx_angstrom[within & (placed.tomogram == key)]
        for key in looked
        if (within & (placed.tomogram == key)).any()
    }
    if not position_of:
        return tuple(findings)
    findings.append(check_contrast(looked, position_of, box_angstrom))
    with_picks = {key: looked[key] for key in position_of}
    found = mean_particle(with_picks, position_of, max(1.5 * box_angstrom, 2.5 * (diameter or 0)))
    findings.append(check_box(box_angstrom, box_size, found, diameter))
    if (centering := check_centering(found)) is not None:
        findings.append(centering)
    return tuple(findings)


def _spread(names: list[str]) -> list[str]:
    return [names[k] for k in np.unique(np.linspace(0, len(names) - 1, MOST_TOMOGRAMS).astype(int))]


def _placed(
    particles: Particles,
    keys: NDArray[np.object_],
    rows: NDArray[np.int_],
    tomograms: Mapping[str, Tomogram],
    pixel_angstrom: float | None,
) -> Placed:
    grids = [tomograms[key].grid for key in keys[rows]]
    return Placed(
        position_zyx_angstrom=particles.position_zyx_angstrom[rows],
        shape_zyx=np.array([grid.shape_zyx for grid in grids], dtype=np.float64),
        voxel_spacing_angstrom=np.array([grid.voxel_spacing_angstrom for grid in grids]),
        tomogram=keys[rows],
        pixel_angstrom=pixel_angstrom,
        source=particles.source,
    )


def _check_numbers(particles: Particles) -> Finding:
    wrong = np.flatnonzero(~np.isfinite(particles.position_zyx_angstrom).all(axis=1))
    turned = np.isfinite(particles.rotation).all(axis=(1, 2)).sum()
    measured = {"picks": len(particles), "not_numbers": len(wrong), "with_orientation": int(turned)}
    if len(wrong):
        sentence = (
            f"{len(wrong)} of {plural(len(particles), 'pick')} have positions that are not numbers, the first is "
            f"{particles.particle_id[wrong[0]]}; remove them or give their positions"
        )
        return Finding("picks", "error", sentence, measured)
    if len(particles) < FEWEST_PARTICLES:
        sentence = (
            f"there are only {plural(len(particles), 'pick')}; learning from unlabeled particles needs hundreds, so "
            "give all picks, not only the labeled ones"
        )
        return Finding("picks", "note", sentence, measured)
    return Finding("picks", "ok", f"{len(particles)} picks, {turned} with an orientation", measured)


def _check_names(particles: Particles, tomograms: Mapping[str, Tomogram]) -> tuple[Finding, dict[str, str]]:
    names = [str(name) for name in dict.fromkeys(particles.tomogram)]
    key_of: dict[str, str] = {}
    without: list[str] = []
    for name in names:
        try:
            key_of |= match_tomograms([name], tomograms)
        except ValueError:
            without.append(name)
    idle = sorted(set(tomograms) - set(key_of.values()))
    measured = {"matched": len(key_of), "unmatched": without, "without_picks": idle}
    if without:
        try:
            match_tomograms(names, tomograms)
        except ValueError as error:
            return Finding("names", "error", str(error), measured), key_of
    if idle:
        sentence = (
            f"every name in the table has its tomogram; {plural(len(idle), 'tomogram')} have no picks ({listed(idle)})"
        )
        return Finding("names", "note", sentence, measured), key_of
    sentence = f"all {plural(len(names), 'tomogram name')} in the table have a tomogram"
    return Finding("names", "ok", sentence, measured), key_of


def _check_counts(keys: NDArray[np.object_]) -> Finding:
    names, counts = np.unique(keys.astype(str), return_counts=True)
    if not len(names):
        return Finding("picks per tomogram", "error", "no pick belongs to a tomogram; see the names")
    measured = dict(zip(names.tolist(), counts.tolist(), strict=True))
    spread = f"{counts.min()} to {counts.max()} picks per tomogram, {np.median(counts):.0f} in the middle"
    if len(names) == 1:
        sentence = (
            f"all {counts[0]} picks are in one tomogram, so accuracy on a tomogram that was not learned from cannot be "
            "measured; give several"
        )
        return Finding("picks per tomogram", "note", sentence, measured)
    return Finding("picks per tomogram", "ok", f"{len(names)} tomograms with {spread}", measured)


def _check_classes(particles: Particles) -> Finding:
    names, counts = np.unique([str(name) for name in particles.class_name if name], return_counts=True)
    measured = dict(zip(names.tolist(), counts.tolist(), strict=True))
    if not len(names):
        sentence = "the table has no classes; labels come from another file, or the first ones are yours to give"
        return Finding("classes", "note", sentence, measured)
    said = listed([f"{name} ({count})" for name, count in zip(names, counts, strict=True)], most=8)
    few = [str(name) for name, count in zip(names, counts, strict=True) if count < FEWEST_LABELS]
    if len(names) == 1:
        sentence = f"there is one class only ({said}); sorting needs at least two, for example one of false picks"
        return Finding("classes", "warning", sentence, measured)
    if few:
        sentence = f"{said}; fewer than {FEWEST_LABELS} labels of {listed(few)} say little: label a few more"
        return Finding("classes", "note", sentence, measured)
    return Finding("classes", "ok", said, measured)


def _check_halves(tomograms: Mapping[str, Tomogram]) -> Finding:
    halved = [key for key, tomogram in tomograms.items() if tomogram.half_paths is not None]
    measured = {"with_halves": len(halved), "tomograms": len(tomograms)}
    if len(halved) == len(tomograms):
        return Finding("halves", "ok", "even and odd half tomograms were found for every tomogram", measured)
    if halved:
        sentence = (
            f"half tomograms were found for {len(halved)} of {len(tomograms)} tomograms and will not be used; give "
            "them for all or none"
        )
        return Finding("halves", "note", sentence, measured)
    return Finding(
        "halves", "note", "no even and odd half tomograms were found; they are not needed but help", measured
    )

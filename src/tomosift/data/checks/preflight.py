"""All checks of picks and tomograms before extraction, in plain sentences."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tomosift.data.checks.box_size import check_box_size, check_centering, measure_mean_particle
from tomosift.data.checks.contrast import decide_contrast
from tomosift.data.checks.findings import Finding
from tomosift.data.checks.hypotheses import weigh_hypotheses
from tomosift.data.checks.mistakes import PickGeometry, is_inside
from tomosift.data.checks.positions import check_duplicates, check_origin, check_positions, table_pixel_angstrom
from tomosift.data.checks.tables import check_classes, check_counts, check_halves, check_names, check_numbers
from tomosift.data.checks.tilts import check_tilts
from tomosift.data.checks.volumes import check_headers, check_values
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.particles import Particles


@dataclass(frozen=True, eq=False)
class Preflight:
    """The result of `run_preflight`."""

    findings: tuple[Finding, ...]
    """One for each question."""
    tomograms: dict[str, Tomogram]
    """All tomograms, with the sign of their density decided."""


MOST_TOMOGRAMS = 12
"""Tomograms whose voxels are read, evenly spaced in the list; headers and tables of all are checked."""
_BOX_OVER_DIAMETER = 2.0  # where the diameter is not stated


def run_preflight(
    particles: Particles,
    tomograms: Mapping[str, Tomogram],
    *,
    box_size: int,
    voxel_spacing_angstrom: float,
    particle_diameter_angstrom: float | None = None,
    is_stated_inverted: bool = False,
) -> Preflight:
    """Check picks and tomograms, with one finding per question, and decide the sign of the density.

    Wrong input never raises: it is a finding, and questions that depend on it are left out.

    Parameters
    ----------
    particles
        The picks.
    tomograms
        By name, as of `open_tomograms`.
    box_size, voxel_spacing_angstrom
        Of the subtomograms to be extracted.
    particle_diameter_angstrom
        Where it is known; else it is measured in the mean of the boxes.
    is_stated_inverted
        The user states that density is dark in the files.
    """
    same = {key: replace(tomogram, is_inverted=is_stated_inverted) for key, tomogram in tomograms.items()}
    if not len(particles):
        return Preflight((Finding("picks", "error", "the particle table is empty; check the file"),), same)
    if not tomograms:
        return Preflight((Finding("names", "error", "there is no tomogram; check the paths"),), same)
    names, key_of = check_names(particles, tomograms)
    keys = np.array([key_of.get(str(name), "") for name in particles.tomogram], dtype=object)
    findings = [check_numbers(particles), names, check_counts(keys[keys != ""]), check_classes(particles)]
    rows = np.flatnonzero(np.isfinite(particles.position_zyx_angstrom).all(axis=1) & (keys != ""))
    if not len(rows):
        return Preflight(tuple(findings), same)
    used = {key: tomograms[key] for key in sorted(set(key_of.values()))}
    picks = _locate(particles, keys, rows, used)
    box_angstrom, diameter = box_size * voxel_spacing_angstrom, particle_diameter_angstrom
    readable = {key: used[key] for key in _evenly_spaced(list(used))}
    values = check_values(readable)
    findings += _check_geometry(picks, used, box_angstrom, diameter)
    has_density = not values.measured.get("constant")
    verdict = weigh_hypotheses(picks, readable, diameter or box_angstrom / _BOX_OVER_DIAMETER) if has_density else None
    box_voxels = box_angstrom / float(np.median(picks.voxel_spacing_angstrom))
    positions = check_positions(picks, box_voxels, verdict)
    findings += [positions, values]
    if has_density:
        findings += check_tilts(readable)
    if has_density and not (verdict is not None and verdict.is_mistaken and positions.level == "error"):
        # At mistaken positions neither sign nor size of the particles can be measured.
        found, is_inverted = _check_boxes(picks, readable, box_angstrom, box_size, diameter, is_stated_inverted)
        findings += found
        same = {key: replace(tomogram, is_inverted=is_inverted) for key, tomogram in tomograms.items()}
    return Preflight(tuple(findings), same)


def _evenly_spaced(names: list[str]) -> list[str]:
    return [names[k] for k in np.unique(np.linspace(0, len(names) - 1, MOST_TOMOGRAMS).astype(int))]


def _locate(
    particles: Particles, keys: NDArray[np.object_], rows: NDArray[np.int_], tomograms: Mapping[str, Tomogram]
) -> PickGeometry:
    """The picks of these rows with the grids of their tomograms."""
    grids = [tomograms[key].grid for key in keys[rows]]
    return PickGeometry(
        position_zyx_angstrom=particles.position_zyx_angstrom[rows],
        shape_zyx=np.array([grid.shape_zyx for grid in grids], dtype=np.float64),
        voxel_spacing_angstrom=np.array([grid.voxel_spacing_angstrom for grid in grids]),
        tomogram=keys[rows],
        pixel_angstrom=table_pixel_angstrom(particles),
        source=particles.source,
    )


def _check_geometry(
    picks: PickGeometry, tomograms: Mapping[str, Tomogram], box_angstrom: float, diameter: float | None
) -> list[Finding]:
    """Findings on headers and distances of picks, for which no voxel is read."""
    findings = check_headers(tomograms, picks.pixel_angstrom)
    findings.append(check_duplicates(picks, 0.5 * diameter if diameter else 0.15 * box_angstrom))
    if (origin := check_origin(picks)) is not None:
        findings.append(origin)
    findings.append(check_halves(tomograms))
    return findings


def _check_boxes(
    picks: PickGeometry,
    tomograms: Mapping[str, Tomogram],
    box_angstrom: float,
    box_size: int,
    diameter: float | None,
    is_stated_inverted: bool,
) -> tuple[list[Finding], bool]:
    """Findings on the voxels around the picks, and whether the sign of the density is to be turned."""
    within = is_inside(picks.voxel_zyx, picks.shape_zyx)
    position_of = {
        key: picks.position_zyx_angstrom[within & (picks.tomogram == key)]
        for key in tomograms
        if (within & (picks.tomogram == key)).any()
    }
    if not position_of:
        return [], is_stated_inverted
    turned, contrast = decide_contrast(tomograms, position_of, box_angstrom, is_stated_inverted)
    findings = [contrast]
    with_picks = {key: tomograms[key] for key in position_of}
    mean = measure_mean_particle(with_picks, position_of, max(1.5 * box_angstrom, 2.5 * (diameter or 0)))
    findings.append(check_box_size(box_angstrom, box_size, mean, diameter))
    if (centering := check_centering(mean)) is not None:
        findings.append(centering)
    return findings, any(tomogram.is_inverted for tomogram in turned.values())

"""Are the tomograms what they should be: sampled as stated, filled, of the right contrast?"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomosift.data.checks.findings import Finding, count_noun, join_names
from tomosift.data.extraction.tomograms import Tomogram, estimate_contrast
from tomosift.io.volumes import open_volume

USUAL_SPACINGS = (1.0, 60.0)
"""Angstrom; other voxel spacings are nearly always a wrong unit."""
SECTIONS = 24
"""Sections of each tomogram that are read to find values that are no numbers."""
HEADER_TOLERANCE = 0.01
"""Relative difference up to which a stated voxel spacing agrees with a header or a table."""


def check_headers(tomograms: Mapping[str, Tomogram], pixel_angstrom: float | None) -> list[Finding]:
    """Compare the voxel spacing in use with the headers, the usual range and the pixel size of the picks."""
    spacings = {name: tomogram.grid.voxel_spacing_angstrom for name, tomogram in tomograms.items()}
    findings = [_check_spacing_of_headers(tomograms, spacings)]
    if pixel_angstrom is not None and spacings:
        findings.append(_check_pixel_size(pixel_angstrom, spacings))
    return findings


def _format_spacings(spacings: Mapping[str, float]) -> str:
    return join_names([f"{spacing:g}" for spacing in sorted({round(one, 3) for one in spacings.values()})]) + " A"


def _check_spacing_of_headers(tomograms: Mapping[str, Tomogram], spacings: Mapping[str, float]) -> Finding:
    distinct, listed = sorted({round(spacing, 3) for spacing in spacings.values()}), _format_spacings(spacings)
    headers = {name: tomogram.open().voxel_spacing_angstrom for name, tomogram in tomograms.items()}
    silent = [name for name, header in headers.items() if header is None]
    other = [name for name, header in headers.items() if header and abs(header / spacings[name] - 1) > HEADER_TOLERANCE]
    measured = {"voxel_spacing_angstrom": distinct, "header_unknown": len(silent), "header_differs": len(other)}
    odd = [name for name, spacing in spacings.items() if not USUAL_SPACINGS[0] <= spacing <= USUAL_SPACINGS[1]]
    if odd:
        sentence = (
            f"voxel spacing of {join_names(odd)} is {spacings[odd[0]]:g} A, which no tomogram has; check the unit"
        )
        return Finding("voxel spacing", "warning", sentence, measured)
    if other:
        sentence = (
            f"{join_names(other)}: the header says {headers[other[0]]:g} A and {spacings[other[0]]:g} A is used; make "
            "sure which is right, for sizes and positions depend on it"
        )
        return Finding("voxel spacing", "warning", sentence, measured)
    if silent:
        sentence = f"{listed} is used as stated; {count_noun(len(silent), 'header')} do not state it"
        return Finding("voxel spacing", "note", sentence, measured)
    if len(distinct) > 1:
        sentence = f"tomograms have {len(distinct)} voxel spacings ({listed}); extraction resamples to one"
        return Finding("voxel spacing", "note", sentence, measured)
    return Finding("voxel spacing", "ok", f"{listed} in every tomogram, as the headers say", measured)


def _check_pixel_size(pixel_angstrom: float, spacings: Mapping[str, float]) -> Finding:
    listed = _format_spacings(spacings)
    binning = float(np.median(list(spacings.values()))) / pixel_angstrom
    stated = f"the table of picks states {pixel_angstrom:g} A per pixel"
    measured = {"pixel_angstrom": pixel_angstrom, "binning": binning}
    if abs(binning - 1) <= HEADER_TOLERANCE:
        return Finding("pixel size", "ok", f"{stated}, as the tomograms have", measured)
    if binning < 1:
        sentence = f"{stated}, coarser than the tomograms' {listed}; check that they belong together"
        return Finding("pixel size", "warning", sentence, measured)
    sentence = f"{stated}, so the tomograms ({listed}) are binned {binning:.3g} times"
    return Finding("pixel size", "note", sentence, measured)


def check_values(tomograms: Mapping[str, Tomogram]) -> Finding:
    """Find values that are no numbers, and tomograms in which nothing varies."""
    broken: list[str] = []
    flat: list[str] = []
    for tomogram in tomograms.values():
        for path in (tomogram.path, *(tomogram.half_paths or ())):
            share, is_constant = _read_values(path)
            if share:
                broken.append(f"{path.name} ({100 * share:.2g} % of what was read)")
            if is_constant:
                flat.append(path.name)
    measured = {"not_numbers": len(broken), "constant": len(flat)}
    if flat:
        sentence = f"{join_names(flat)}: every value is the same, so there is nothing in it; reconstruct it again"
        return Finding("values", "error", sentence, measured)
    if broken:
        sentence = f"{join_names(broken)}: values that are not numbers (NaN or infinite); reconstruct or mask them"
        return Finding("values", "error", sentence, measured)
    count = f"{SECTIONS} sections of each of {count_noun(len(tomograms), 'tomogram')}"
    return Finding("values", "ok", f"all values are numbers and vary, in {count} that were read", measured)


def _read_values(path: Path) -> tuple[float, bool]:
    """Share of values that are no numbers, and whether all others are equal."""
    data = open_volume(path).data
    lowest, highest, wrong, total = np.inf, -np.inf, 0, 0
    for section in np.unique(np.linspace(0, data.shape[0] - 1, SECTIONS).astype(int)):
        plane = np.asarray(data[section])
        finite = plane[np.isfinite(plane)]
        wrong, total = wrong + plane.size - finite.size, total + plane.size
        if finite.size:
            lowest, highest = min(lowest, float(finite.min())), max(highest, float(finite.max()))
    return wrong / max(total, 1), not highest > lowest


def check_contrast(
    tomograms: Mapping[str, Tomogram], position_of: Mapping[str, NDArray[np.float64]], box_angstrom: float
) -> Finding:
    """Check that picked positions are bright in memory, and so that the contrast is stated the right way round.

    Parameters
    ----------
    tomograms
        By name.
    position_of
        Tomogram name -> (n, 3) picks in Angstrom.
    box_angstrom
        Edge of the boxes to be extracted.
    """
    by_sign: dict[int, list[str]] = {1: [], -1: [], 0: []}
    reason = ""
    for name, position in position_of.items():
        sign, reason = _estimate_sign(tomograms[name], position, box_angstrom)
        by_sign[sign].append(name)
    bright, dark, unsure = by_sign[1], by_sign[-1], by_sign[0]
    measured = {"bright": len(bright), "dark": len(dark), "unsure": len(unsure)}
    is_stated = any(tomogram.is_inverted for tomogram in tomograms.values())
    then = " after --inverted" if is_stated else ""
    if dark and not bright:
        advice = "leave out --inverted" if is_stated else "add --inverted"
        share = _format_share(dark, position_of)
        sentence = f"picked positions are darker than their surroundings{then} in {share}; {advice}"
        return Finding("contrast", "warning", sentence, measured)
    if dark:
        sentence = (
            f"picked positions are dark in {join_names(dark)} and bright in {join_names(bright)}; bring the tomograms "
            "to one contrast, or check the picks"
        )
        return Finding("contrast", "warning", sentence, measured)
    if bright:
        share = _format_share(bright, position_of)
        sentence = f"picked positions are brighter than their surroundings{then} in {share}, as needed"
        return Finding("contrast", "ok", sentence, measured)
    sentence = (
        f"the contrast of particles cannot be estimated{reason}; inspect them, and state --inverted if they are dark"
    )
    return Finding("contrast", "note", sentence, measured)


def _estimate_sign(tomogram: Tomogram, position: NDArray[np.float64], box_angstrom: float) -> tuple[int, str]:
    """Sign of the contrast, and the reason where it cannot be estimated."""
    reason, largest = "", round(box_angstrom / tomogram.grid.voxel_spacing_angstrom)
    # In a thin tomogram no large box lies wholly inside. Much smaller ones would compare a particle with itself.
    for size in (largest, round(0.75 * largest), round(0.5 * largest)):
        try:
            return estimate_contrast(tomogram, position, size, most_boxes=60).sign, ""
        except ValueError as error:
            reason = f" ({error})"
    return 0, reason


def _format_share(some: Sequence[str], every: Mapping[str, object]) -> str:
    return f"{len(some)} of {count_noun(len(every), 'tomogram')} that were read"

"""Are the tomograms what they should be: sampled as stated, and filled?"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tomosift.data.checks.findings import Finding, count_noun, join_names
from tomosift.data.extraction.tomograms import Tomogram
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

"""Are the tomograms what they should be: sampled as stated, filled, of the right contrast, tilted as stated?"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomosift.data.checks.findings import Finding, listed, plural
from tomosift.data.checks.missing_wedge import WedgeEstimate, estimate_wedge
from tomosift.data.extraction.tomograms import Tomogram, estimate_contrast
from tomosift.io.volumes import open_volume

USUAL_SPACINGS = (1.0, 60.0)
"""Angstrom; other voxel spacings are nearly always a wrong unit."""
SECTIONS = 24
"""Sections of each tomogram that are read to find values that are no numbers."""
RANGE_TOLERANCE_DEG = 8.0
AXIS_TOLERANCE_DEG = 10.0
CERTAIN = 0.25
"""Share of the usual power below which a direction is empty beyond doubt."""
SAME_SPACING = 0.01


def check_spacing(tomograms: Mapping[str, Tomogram], pixel_angstrom: float | None) -> list[Finding]:
    """Voxel spacing as used against the file's header, the usual and the pixel size of the picks."""
    findings = []
    spacings = {name: tomogram.grid.voxel_spacing_angstrom for name, tomogram in tomograms.items()}
    distinct = sorted({round(spacing, 3) for spacing in spacings.values()})
    said = listed([f"{spacing:g}" for spacing in distinct]) + " A"
    headers = {name: tomogram.open().voxel_spacing_angstrom for name, tomogram in tomograms.items()}
    silent = [name for name, header in headers.items() if header is None]
    other = [name for name, header in headers.items() if header and abs(header / spacings[name] - 1) > SAME_SPACING]
    measured = {"voxel_spacing_angstrom": distinct, "header_unknown": len(silent), "header_differs": len(other)}
    odd = [name for name, spacing in spacings.items() if not USUAL_SPACINGS[0] <= spacing <= USUAL_SPACINGS[1]]
    if odd:
        sentence = f"voxel spacing of {listed(odd)} is {spacings[odd[0]]:g} A, which no tomogram has; check the unit"
        findings.append(Finding("voxel spacing", "warning", sentence, measured))
    elif other:
        sentence = (
            f"{listed(other)}: the header says {headers[other[0]]:g} A and {spacings[other[0]]:g} A is used; make sure "
            "which is right, for sizes and positions hang on it"
        )
        findings.append(Finding("voxel spacing", "warning", sentence, measured))
    elif silent:
        sentence = f"{said} is used as stated; the headers of {plural(len(silent), 'tomogram')} do not say"
        findings.append(Finding("voxel spacing", "note", sentence, measured))
    elif len(distinct) > 1:
        sentence = f"tomograms have {len(distinct)} voxel spacings ({said}); boxes are brought to one"
        findings.append(Finding("voxel spacing", "note", sentence, measured))
    else:
        findings.append(Finding("voxel spacing", "ok", f"{said} in every tomogram, as the headers say", measured))
    if pixel_angstrom is not None and spacings:
        binning = float(np.median(list(spacings.values()))) / pixel_angstrom
        says = f"the picks' table says {pixel_angstrom:g} A a pixel"
        numbers = {"pixel_angstrom": pixel_angstrom, "binning": binning}
        if abs(binning - 1) <= SAME_SPACING:
            findings.append(Finding("pixel size", "ok", f"{says}, as the tomograms have", numbers))
        elif binning < 1:
            sentence = f"{says}, coarser than the tomograms' {said}; check that they belong together"
            findings.append(Finding("pixel size", "warning", sentence, numbers))
        else:
            sentence = f"{says}, so the tomograms ({said}) are binned {binning:.3g} times"
            findings.append(Finding("pixel size", "note", sentence, numbers))
    return findings


def check_values(tomograms: Mapping[str, Tomogram]) -> Finding:
    """Values that are no numbers, and tomograms in which nothing varies."""
    broken: list[str] = []
    flat: list[str] = []
    for tomogram in tomograms.values():
        for path in (tomogram.path, *(tomogram.half_paths or ())):
            share, constant = _values_of(path)
            if share:
                broken.append(f"{path.name} ({100 * share:.2g} % of what was read)")
            if constant:
                flat.append(path.name)
    measured = {"not_numbers": len(broken), "constant": len(flat)}
    if flat:
        sentence = f"{listed(flat)}: every value is the same, so there is nothing in it; reconstruct it again"
        return Finding("values", "error", sentence, measured)
    if broken:
        sentence = f"{listed(broken)}: values that are not numbers (NaN or infinite); reconstruct or mask them"
        return Finding("values", "error", sentence, measured)
    looked = f"in {SECTIONS} sections of each of {plural(len(tomograms), 'tomogram')} that were read"
    return Finding("values", "ok", f"all values are numbers and vary, {looked}", measured)


def _values_of(path: Path) -> tuple[float, bool]:
    """Share of values that are no numbers, and whether all others are equal."""
    data = open_volume(path).data
    lowest, highest, wrong, seen = np.inf, -np.inf, 0, 0
    for section in np.unique(np.linspace(0, data.shape[0] - 1, SECTIONS).astype(int)):
        plane = np.asarray(data[section])
        finite = plane[np.isfinite(plane)]
        wrong, seen = wrong + plane.size - finite.size, seen + plane.size
        if finite.size:
            lowest, highest = min(lowest, float(finite.min())), max(highest, float(finite.max()))
    return wrong / max(seen, 1), not highest > lowest


def check_contrast(
    tomograms: Mapping[str, Tomogram], position_of: Mapping[str, NDArray[np.float64]], box_angstrom: float
) -> Finding:
    """Whether picked places are bright in memory, and so whether ``inverted`` is stated the right way round."""
    by_sign: dict[int, list[str]] = {1: [], -1: [], 0: []}
    why = ""
    for name, position in position_of.items():
        tomogram = tomograms[name]
        sign, whole = 0, round(box_angstrom / tomogram.grid.voxel_spacing_angstrom)
        # In a thin tomogram no large box lies wholly inside. Much smaller ones would compare a particle with itself.
        for size in (whole, round(0.75 * whole), round(0.5 * whole)):
            try:
                sign = estimate_contrast(tomogram, position, size, most_boxes=60).sign
            except ValueError as error:
                why = f" ({error})"
            else:
                why = ""
                break
        by_sign[sign].append(name)
    bright, dark, unsure = by_sign[1], by_sign[-1], by_sign[0]
    measured = {"bright": len(bright), "dark": len(dark), "unsure": len(unsure)}
    stated = any(tomogram.is_inverted for tomogram in tomograms.values())
    if dark and not bright:
        do = "leave out --inverted" if stated else "add --inverted"
        then = " after --inverted" if stated else ""
        sentence = f"picked places are darker than their surroundings{then} in {_of(dark, position_of)}; {do}"
        return Finding("contrast", "warning", sentence, measured)
    if dark:
        sentence = (
            f"picked places are dark in {listed(dark)} and bright in {listed(bright)}; bring the tomograms to one "
            "contrast, or check the picks"
        )
        return Finding("contrast", "warning", sentence, measured)
    if bright:
        then = " after --inverted" if stated else ""
        sentence = f"picked places are brighter than their surroundings{then} in {_of(bright, position_of)}, as needed"
        return Finding("contrast", "ok", sentence, measured)
    sentence = (
        f"it cannot be told whether particles are dark or bright{why}; look, and state --inverted if they are dark"
    )
    return Finding("contrast", "note", sentence, measured)


def _of(some: Sequence[str], every: Mapping[str, object]) -> str:
    return f"{len(some)} of {plural(len(every), 'tomogram')} looked at"


def check_tilts(tomograms: Mapping[str, Tomogram]) -> list[Finding]:
    """Stated tilt range against the missing wedge in the power spectrum, and the axes against the convention."""
    seen = {name: estimate_wedge(tomogram.open().data) for name, tomogram in tomograms.items()}
    unknown = [name for name, tomogram in tomograms.items() if tomogram.acquisition.tilt_angles_deg.size == 0]
    findings = [_axes(seen)]
    measured_ranges = {name: wedge.tilt_range_deg for name, wedge in seen.items() if wedge.tilt_range_deg is not None}
    measured = {
        "stated_deg": {name: list(tomogram.acquisition.tilt_range_deg) for name, tomogram in tomograms.items()},
        "seen_deg": {name: list(found) for name, found in measured_ranges.items()},
        "assumed": len(unknown),
    }
    differing = []
    for name, found in measured_ranges.items():
        stated = tomograms[name].acquisition.tilt_range_deg
        if max(abs(found[0] - stated[0]), abs(found[1] - stated[1])) > RANGE_TOLERANCE_DEG:
            differing.append(name)
    of_what = "assumed, since no file says," if unknown else "stated"
    if differing:
        name = differing[0]
        stated, (low, high) = tomograms[name].acquisition.tilt_range_deg, measured_ranges[name]
        mirrored = max(abs(high + stated[0]), abs(low + stated[1])) <= RANGE_TOLERANCE_DEG
        advice = (
            "the signs seem turned round, as between IMOD and Warp"
            if mirrored
            else f"if it was {low:.0f} to {high:.0f}, state --tilt-range {low:.0f} {high:.0f}"
        )
        sentence = (
            f"{stated[0]:.0f} to {stated[1]:.0f} degrees are {of_what} and the power spectrum shows about {low:.0f} to "
            f"{high:.0f} in {listed(differing)}; {advice}"
        )
        return [*findings, Finding("tilt range", "warning", sentence, measured)]
    stated_text = _stated(tomograms)
    if measured_ranges:
        sentence = f"{stated_text} are {of_what} and the power spectrum agrees"
        return [*findings, Finding("tilt range", "ok", sentence, measured)]
    sentence = f"{stated_text} are {of_what}; the power spectrum shows no clear wedge to compare with"
    if unknown:
        sentence += "; state --tilt-range if it was another"
    return [*findings, Finding("tilt range", "note", sentence, measured)]


def _stated(tomograms: Mapping[str, Tomogram]) -> str:
    ranges = sorted({tomogram.acquisition.tilt_range_deg for tomogram in tomograms.values()})
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    return f"{low:.0f} to {high:.0f} degrees"


def _axes(seen: Mapping[str, WedgeEstimate]) -> Finding:
    measured = {
        name: {"beam": wedge.beam_axis, "tilt_axis_deg": wedge.tilt_axis_deg, "missing_power": wedge.missing_power}
        for name, wedge in seen.items()
    }
    lying = [name for name, wedge in seen.items() if wedge.beam_axis in ("y", "x")]
    turned = [
        name
        for name, wedge in seen.items()
        if wedge.tilt_axis_deg is not None and abs(wedge.tilt_axis_deg) > AXIS_TOLERANCE_DEG
    ]
    if lying:
        sentence = (
            f"{listed(lying)}: the missing wedge lies around {seen[lying[0]].beam_axis}, not z, so the volume seems to "
            "be stored with its axes exchanged (as IMOD's tilt leaves it); turn it, for example with clip rotx, before "
            "picking"
        )
        return Finding(
            "tilt axis", "error" if seen[lying[0]].missing_power < CERTAIN else "warning", sentence, measured
        )
    if turned:
        angle = seen[turned[0]].tilt_axis_deg or 0.0
        where = "along x" if abs(angle) > 90 - AXIS_TOLERANCE_DEG else f"{angle:.0f} degrees from y"
        sentence = (
            f"{listed(turned)}: the tilt axis seems to lie {where}, so the missing wedge would be taken for "
            "another; reconstruct with the tilt axis along y"
        )
        return Finding("tilt axis", "warning", sentence, measured)
    if any(wedge.beam_axis == "z" for wedge in seen.values()):
        return Finding(
            "tilt axis", "ok", "the power spectrum shows the beam along z and the tilt axis along y", measured
        )
    thin = all(wedge.cubes == 0 for wedge in seen.values())
    why = (
        "tomograms are too thin to tell"
        if thin
        else "no missing wedge is seen; a filter or a network may have filled it"
    )
    return Finding("tilt axis", "note", f"{why}; tilt axis y and beam z are assumed", measured)

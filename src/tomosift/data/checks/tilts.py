"""Do the tilt range and the tilt axis fit the missing wedge in the tomograms?"""

from collections.abc import Mapping

from tomosift.data.checks.findings import Finding, Level, join_names
from tomosift.data.checks.missing_wedge import WedgeEstimate, estimate_wedge
from tomosift.data.extraction.tomograms import Tomogram

RANGE_TOLERANCE_DEG = 8.0
AXIS_TOLERANCE_DEG = 10.0
EMPTY_POWER = 0.25
"""Relative power below which a direction is certainly missing."""


def check_tilts(tomograms: Mapping[str, Tomogram]) -> list[Finding]:
    """Compare the stated tilt range with the missing wedge in the power spectrum, and the axes with the convention."""
    wedges = {name: estimate_wedge(tomogram.open().data) for name, tomogram in tomograms.items()}
    return [_check_axes(wedges), _check_range(tomograms, wedges)]


def _check_range(tomograms: Mapping[str, Tomogram], wedges: Mapping[str, WedgeEstimate]) -> Finding:
    unknown = [name for name, tomogram in tomograms.items() if tomogram.acquisition.tilt_angles_deg.size == 0]
    estimates = {name: wedge.tilt_range_deg for name, wedge in wedges.items() if wedge.tilt_range_deg is not None}
    measured = {
        "stated_deg": {name: list(tomogram.acquisition.tilt_range_deg) for name, tomogram in tomograms.items()},
        "seen_deg": {name: list(estimate) for name, estimate in estimates.items()},
        "assumed": len(unknown),
    }
    differing = []
    for name, estimate in estimates.items():
        stated = tomograms[name].acquisition.tilt_range_deg
        if max(abs(estimate[0] - stated[0]), abs(estimate[1] - stated[1])) > RANGE_TOLERANCE_DEG:
            differing.append(name)
    origin = "assumed, since no file states them," if unknown else "stated"
    if differing:
        name = differing[0]
        stated, (low, high) = tomograms[name].acquisition.tilt_range_deg, estimates[name]
        mirrored = max(abs(high + stated[0]), abs(low + stated[1])) <= RANGE_TOLERANCE_DEG
        advice = (
            "the signs seem reversed, as between IMOD and Warp"
            if mirrored
            else f"if it was {low:.0f} to {high:.0f}, state --tilt-range {low:.0f} {high:.0f}"
        )
        sentence = (
            f"{stated[0]:.0f} to {stated[1]:.0f} degrees are {origin} and the power spectrum shows about {low:.0f} to "
            f"{high:.0f} in {join_names(differing)}; {advice}"
        )
        return Finding("tilt range", "warning", sentence, measured)
    if estimates:
        sentence = f"{_format_range(tomograms)} are {origin} and the power spectrum agrees"
        return Finding("tilt range", "ok", sentence, measured)
    sentence = (
        f"{_format_range(tomograms)} are {origin.rstrip(',')}; the power spectrum shows no clear wedge to compare with"
    )
    if unknown:
        sentence += "; state --tilt-range if it was another"
    return Finding("tilt range", "note", sentence, measured)


def _format_range(tomograms: Mapping[str, Tomogram]) -> str:
    ranges = sorted({tomogram.acquisition.tilt_range_deg for tomogram in tomograms.values()})
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    return f"{low:.0f} to {high:.0f} degrees"


def _check_axes(wedges: Mapping[str, WedgeEstimate]) -> Finding:
    measured = {
        name: {"beam": wedge.beam_axis, "tilt_axis_deg": wedge.tilt_axis_deg, "missing_power": wedge.missing_power}
        for name, wedge in wedges.items()
    }
    swapped = [name for name, wedge in wedges.items() if wedge.beam_axis in ("y", "x")]
    off_axis = [
        name
        for name, wedge in wedges.items()
        if wedge.tilt_axis_deg is not None and abs(wedge.tilt_axis_deg) > AXIS_TOLERANCE_DEG
    ]
    if swapped:
        first = wedges[swapped[0]]
        sentence = (
            f"{join_names(swapped)}: the missing wedge lies around {first.beam_axis}, not z, so the volume seems to "
            "be stored with its axes exchanged (as IMOD's tilt leaves it); rotate it, for example with clip rotx, "
            "before picking"
        )
        level: Level = "error" if first.missing_power < EMPTY_POWER else "warning"
        return Finding("tilt axis", level, sentence, measured)
    if off_axis:
        angle = wedges[off_axis[0]].tilt_axis_deg or 0.0
        where = "along x" if abs(angle) > 90 - AXIS_TOLERANCE_DEG else f"{angle:.0f} degrees from y"
        sentence = (
            f"{join_names(off_axis)}: the tilt axis seems to lie {where}, so a wrong missing wedge would be assumed; "
            "reconstruct with the tilt axis along y"
        )
        return Finding("tilt axis", "warning", sentence, measured)
    if any(wedge.beam_axis == "z" for wedge in wedges.values()):
        sentence = "the power spectrum shows the beam along z and the tilt axis along y"
        return Finding("tilt axis", "ok", sentence, measured)
    reason = (
        "tomograms are too thin for an estimate"
        if all(wedge.cubes == 0 for wedge in wedges.values())
        else "the power spectrum shows no missing wedge; a filter or a network may have filled it"
    )
    return Finding("tilt axis", "note", f"{reason}; tilt axis y and beam z are assumed", measured)

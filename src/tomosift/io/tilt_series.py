"""Tilt angles, dose and defocus from the files that programs write beside a tilt series."""

import ast
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tomosift.acquisition import Acquisition
from tomosift.errors import FormatError
from tomosift.io.particles import relion_columns as relion
from tomosift.io.particles.star_text import read_bytes, read_star, read_text

_NOTHING = np.empty(0)
_TILT_LABELS = ("rlnTomoYTilt", "rlnTomoNominalStageTiltAngle", "wrpAngleTilt", "tilt_angle")


def read_acquisition(path: Path) -> Acquisition:
    """Tilt angles, and dose and defocus where the file has them.

    ========================  ==========================================================================================
    ``.star``                 RELION tilt series, Warp ``.tomostar``; aligned tilts (``rlnTomoYTilt``) before nominal
    ``.mdoc``                 SerialEM; dose is ``PriorRecordDose``, or summed ``ExposureDose`` in order of ``DateTime``
    ``.tlt .rawtlt``          IMOD, one angle in a line
    ``.aln``                  AreTomo; excluded images are not listed
    ``.xml``                  Warp; images that are not used are left out
    ========================  ==========================================================================================

    Angles keep the sign of the file. Warp's differ from IMOD's where a tilt series was imported inverted.

    Raises
    ------
    FormatError
        For a file of another kind or without tilt angles.
    """
    path = Path(path)
    suffix = [s for s in path.suffixes if s != ".gz"][-1:] or [""]
    readers = {".star": _star, ".tomostar": _star, ".mdoc": _mdoc, ".aln": _aln, ".xml": _xml}
    if suffix[0] in (".tlt", ".rawtlt"):
        return Acquisition(_floats(path, "tilt angles", read_text(path).split()), _NOTHING, _NOTHING)
    if suffix[0] not in readers:
        known = ", ".join([*readers, ".tlt", ".rawtlt"])
        raise FormatError(path, "suffix", repr(suffix[0]), f"one of {known}")
    return readers[suffix[0]](path)


def acquisition_of_table(path: Path, table: pd.DataFrame, optics: Mapping[Any, Any]) -> Acquisition:
    """From the rows of a RELION or Warp tilt series; ``optics`` has voltage, aberration and amplitude contrast.

    RELION 4 lists no angles: the tilt is that of the third row of its projection matrix, ``rlnTomoProjZ``.
    """
    label = next((label for label in _TILT_LABELS if label in table), None)
    if label is not None:
        angles = relion.numbers(path, table, (label,))[:, 0]
    elif "rlnTomoProjZ" in table:
        rows = np.array([ast.literal_eval(str(value)) for value in table["rlnTomoProjZ"]], dtype=np.float64)
        angles = np.rad2deg(np.arctan2(-rows[:, 0], rows[:, 2]))
    else:
        raise FormatError(path, "tilt angles", "missing", f"a column among {', '.join(_TILT_LABELS)}")
    if angles.size == 0 or not np.isfinite(angles).all():
        raise FormatError(path, label or "rlnTomoProjZ", "empty or no number", "a tilt angle for each image")
    dose = _NOTHING
    if "rlnMicrographPreExposure" in table:
        dose = relion.numbers(path, table, ("rlnMicrographPreExposure",))[:, 0]
    elif "wrpDose" in table:
        dose = _before(relion.numbers(path, table, ("wrpDose",))[:, 0])
    defocus = _NOTHING
    axes = tuple(label for label in ("rlnDefocusU", "rlnDefocusV") if label in table)
    if axes:
        defocus = relion.numbers(path, table, axes).mean(axis=1) / 1e4
    usual = Acquisition(_NOTHING, _NOTHING, _NOTHING)
    return Acquisition(
        angles,
        dose,
        defocus,
        voltage_kv=_number(optics.get("rlnVoltage"), usual.voltage_kv),
        spherical_aberration_mm=_number(optics.get("rlnSphericalAberration"), usual.spherical_aberration_mm),
        amplitude_contrast=_number(optics.get("rlnAmplitudeContrast"), usual.amplitude_contrast),
    )


def _number(value: object, default: float) -> float:
    """A value as number; the field's usual one where it is absent or no number."""
    try:
        number = float(str(value))
    except ValueError:
        return default
    return number if np.isfinite(number) else default


def _floats(path: Path, field: str, words: list[str]) -> NDArray[np.float64]:
    try:
        values = np.array([float(word) for word in words], dtype=np.float64)
    except ValueError as error:
        raise FormatError(path, field, str(error), "numbers") from error
    if values.size == 0 or not np.isfinite(values).all():
        raise FormatError(path, field, "empty or not finite", "a number for each image")
    return values


def _star(path: Path) -> Acquisition:
    blocks = read_star(path)
    tables = [t for t in blocks.values() if any(label in t for label in _TILT_LABELS) or "rlnTomoProjZ" in t]
    if len(tables) != 1:
        raise FormatError(path, "tilt series", f"{len(tables)} of them", "the table of one tilt series",
                          "give the STAR file of one tilt series")  # fmt: skip
    return acquisition_of_table(path, tables[0], {str(k): v.iloc[0] for k, v in tables[0].items()})


def _mdoc(path: Path) -> Acquisition:
    sections: list[dict[str, str]] = []
    header: dict[str, str] = {}
    current = header
    for line in read_text(path).splitlines():
        if re.match(r"\[(ZValue|FrameSet)", line):
            current = {}
            sections.append(current)
        elif "=" in line and not line.startswith("["):
            key, value = line.split("=", 1)
            current[key.strip()] = value.strip()
    if not all("TiltAngle" in section for section in sections):
        raise FormatError(path, "TiltAngle", "missing", "one in every ZValue section")
    angles = _floats(path, "TiltAngle", [section["TiltAngle"] for section in sections])
    dose = _NOTHING
    if all("PriorRecordDose" in section for section in sections):
        dose = _floats(path, "PriorRecordDose", [section["PriorRecordDose"] for section in sections])
    elif all("ExposureDose" in section and "DateTime" in section for section in sections):
        each = _floats(path, "ExposureDose", [section["ExposureDose"] for section in sections])
        times = pd.to_datetime([s["DateTime"] for s in sections], format="mixed", dayfirst=True)
        order = np.argsort(times.to_numpy(), kind="stable")
        dose = np.empty(len(each))
        dose[order] = np.cumsum(each[order]) - each[order]
    return Acquisition(angles, dose, _NOTHING, voltage_kv=_number(header.get("Voltage"), 300.0))


def _aln(path: Path) -> Acquisition:
    """Global alignment: rows of ten numbers, tilt last; local shifts that follow have seven."""
    rows = [line.split() for line in read_text(path).splitlines() if line.strip() and not line.startswith("#")]
    return Acquisition(_floats(path, "TILT", [row[9] for row in rows if len(row) == 10]), _NOTHING, _NOTHING)


def _xml(path: Path) -> Acquisition:
    """Warp: ``Angles``, ``Dose`` and the defocus grid with one node for each image."""
    content = read_bytes(path)
    # Entity definitions have no place here and could grow without end; the encoding may be UTF-16.
    if b"<!DOCTYPE" in content.replace(b"\0", b""):
        raise FormatError(path, "XML", "with a DOCTYPE", "a tilt series of Warp")
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise FormatError(path, "XML", str(error), "a tilt series of Warp") from error
    if root.tag != "TiltSeries" or root.find("Angles") is None:
        raise FormatError(path, "root element", root.tag, "TiltSeries with Angles")
    angles = _floats(path, "Angles", (root.findtext("Angles") or "").split())
    used = np.array([word == "True" for word in (root.findtext("UseTilt") or "").split()], dtype=bool)
    used = used if used.size == angles.size and used.any() else np.ones(angles.size, dtype=bool)
    dose = (root.findtext("Dose") or "").split()
    nodes = sorted(root.findall("GridCTF/Node"), key=lambda node: float(node.get("Z", "0")))
    defocus = [node.get("Value", "") for node in nodes]
    values = {node.get("Name"): node.get("Value") for node in root.findall("CTF/Param")}
    return Acquisition(
        angles[used],
        _before(_floats(path, "Dose", dose))[used] if len(dose) == angles.size else _NOTHING,
        _floats(path, "GridCTF", defocus)[used] if len(defocus) == angles.size else _NOTHING,
        voltage_kv=_number(values.get("Voltage"), 300.0),
        spherical_aberration_mm=_number(values.get("Cs"), 2.7),
        amplitude_contrast=_number(values.get("Amplitude"), 0.07),
    )


def _before(dose_after: NDArray[np.float64]) -> NDArray[np.float64]:
    """Warp accumulates the dose *up to and with* each image: one exposure, the smallest step, is taken off."""
    steps = np.diff(np.unique(dose_after))
    return dose_after - (steps.min() if steps.size else dose_after)

"""Tilt angles, dose and defocus from the files that programs write beside a tilt series."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tomosift.acquisition import Acquisition, find_tilt_fault
from tomosift.errors import FormatError
from tomosift.io.file_content import check_regular, named_errors, parse_xml, read_text, suffix_of
from tomosift.io.particles import relion_columns
from tomosift.io.star_text import read_star

_UNKNOWN = np.empty(0)
_GLOBAL_COLUMNS = 10
"""Columns of AreTomo's global alignment."""
_LONGEST_ROW = 400
"""Characters of a row of a projection matrix."""
_TILT_LABELS = ("rlnTomoYTilt", "rlnTomoNominalStageTiltAngle", "wrpAngleTilt", "tilt_angle")


def read_acquisition(path: Path) -> Acquisition:
    """Read tilt angles, and dose and defocus where the file has them.

    ========================  ==========================================================================================
    ``.star``                 RELION tilt series, Warp ``.tomostar``; aligned tilts (``rlnTomoYTilt``) before nominal
    ``.mdoc``                 SerialEM; dose is ``PriorRecordDose``, or summed ``ExposureDose`` in order of ``DateTime``
    ``.tlt .rawtlt``          IMOD, one angle per line
    ``.aln``                  AreTomo; excluded images are not listed
    ``.xml``                  Warp; images that are not used are left out
    ========================  ==========================================================================================

    Angles keep the sign of the file. Warp's differ from IMOD's where a tilt series was imported inverted. Dose and
    defocus that cannot be read are unknown: they do not keep the angles from being used.

    Parameters
    ----------
    path
        The file, plain or gzipped; its suffix says which kind it is.

    Returns
    -------
    Acquisition
        Angles in degree ``(t,)``; dose before each image in e/A^2 and underfocus in um, empty where unknown.

    Raises
    ------
    FormatError
        The file is of another kind or has no tilt angles.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "TS_01.tlt")
    ...     _ = path.write_text("-60.0\\n0.0\\n60.0\\n")
    ...     read_acquisition(path).tilt_angles_deg.tolist()
    [-60.0, 0.0, 60.0]
    """
    path = Path(path)
    check_regular(path)
    readers = {
        ".star": _read_star,
        ".tomostar": _read_star,
        ".mdoc": _read_mdoc,
        ".aln": _read_aln,
        ".xml": _read_xml,
        ".tlt": _read_angles,
        ".rawtlt": _read_angles,
    }
    suffix = suffix_of(path)
    if suffix not in readers:
        raise FormatError(path, "suffix", repr(suffix), f"one of {', '.join(readers)}")
    with named_errors(path, "tilt angles"):
        acquisition = readers[suffix](path)
    _check_tilts(path, "tilt angles", acquisition.tilt_angles_deg)
    return acquisition


def _check_tilts(path: Path, field: str, angles_deg: NDArray[np.float64]) -> None:
    if fault := find_tilt_fault(angles_deg):
        raise FormatError(path, field, fault, "a range of tilt angles from -90 to 90 degrees")


def _parse_projection(path: Path, values: "pd.Series[Any]") -> NDArray[np.float64]:
    """Return rows of projection matrices ``(t, 4)`` such as ``[0.5,0,0.8,120]``."""
    rows = np.empty((len(values), 4))
    for k, value in enumerate(values):
        try:
            numbers = json.loads(str(value)) if len(str(value)) < _LONGEST_ROW else None
            is_plain = isinstance(numbers, list) and all(type(number) in (int, float) for number in numbers)
            row = np.array(numbers if is_plain else [], dtype=np.float64)
        except (ValueError, TypeError, RecursionError, OverflowError):
            row = np.zeros(0)
        if row.shape != (4,) or not np.isfinite(row).all() or not row[[0, 2]].any():
            text = repr(str(value)[:40])
            raise FormatError(path, f"rlnTomoProjZ of row {k + 1}", text, "four numbers such as [0.5,0,0.8,120]")
        rows[k] = row
    return rows


def acquisition_of_table(path: Path, table: pd.DataFrame, optics: Mapping[Any, Any]) -> Acquisition:
    """Return the acquisition of a tilt series in RELION's or Warp's columns.

    RELION 4 lists no angles: the tilt is that of the third row of its projection matrix, ``rlnTomoProjZ``.

    Parameters
    ----------
    path
        The file, for error messages.
    table
        One row for each image.
    optics
        Voltage, spherical aberration and amplitude contrast by RELION's labels; the field's usual values where absent.

    Raises
    ------
    FormatError
        A tilt angle is missing or no number.
    """
    label = next((label for label in _TILT_LABELS if label in table), None)
    if label is not None:
        angles = relion_columns.numbers(path, table, (label,))[:, 0]
    elif "rlnTomoProjZ" in table:
        rows = _parse_projection(path, table["rlnTomoProjZ"])
        angles = np.rad2deg(np.arctan2(-rows[:, 0], rows[:, 2]))
    else:
        raise FormatError(path, "tilt angles", "missing", f"a column among {', '.join(_TILT_LABELS)}")
    _check_tilts(path, label or "rlnTomoProjZ", angles)
    dose = _UNKNOWN
    if "rlnMicrographPreExposure" in table:
        dose = _if_stated(lambda: relion_columns.numbers(path, table, ("rlnMicrographPreExposure",))[:, 0])
    elif "wrpDose" in table:
        dose = _if_stated(lambda: _dose_before(relion_columns.numbers(path, table, ("wrpDose",))[:, 0]))
    defocus = _UNKNOWN
    axes = tuple(label for label in ("rlnDefocusU", "rlnDefocusV") if label in table)
    if axes:
        defocus = _if_stated(lambda: relion_columns.numbers(path, table, axes).mean(axis=1) / 1e4)
    usual = Acquisition(_UNKNOWN, _UNKNOWN, _UNKNOWN)
    return Acquisition(
        angles,
        dose,
        defocus,
        voltage_kv=_parse_number(optics.get("rlnVoltage"), usual.voltage_kv),
        spherical_aberration_mm=_parse_number(optics.get("rlnSphericalAberration"), usual.spherical_aberration_mm),
        amplitude_contrast=_parse_number(optics.get("rlnAmplitudeContrast"), usual.amplitude_contrast),
    )


def _parse_number(value: object, default: float) -> float:
    """Return a value as number, the default where it is absent or no number."""
    try:
        number = float(str(value))
    except ValueError:
        return default
    return number if np.isfinite(number) else default


def _if_stated(read: Callable[[], NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return what is read, empty where a number is missing: only the tilt angles are needed."""
    try:
        values = read()
    except FormatError:
        return _UNKNOWN
    return values if np.isfinite(values).all() else _UNKNOWN


def _parse_floats(path: Path, field: str, words: list[str]) -> NDArray[np.float64]:
    """Return words as finite numbers, at least one."""
    try:
        values = np.array([float(word) for word in words], dtype=np.float64)
    except ValueError as error:
        raise FormatError(path, field, str(error), "numbers") from error
    if values.size == 0 or not np.isfinite(values).all():
        raise FormatError(path, field, "empty or not finite", "a number for each image")
    return values


def _read_angles(path: Path) -> Acquisition:
    """Read IMOD's list of angles, one for each line, or all in one line."""
    rows = [line.split() for line in read_text(path).splitlines() if line.strip()]
    if len(rows) < 2 or all(len(row) == 1 for row in rows):
        words = [word for row in rows for word in row]
        return Acquisition(_parse_floats(path, "tilt angles", words), _UNKNOWN, _UNKNOWN)
    if len({len(row) for row in rows}) > 1:
        raise FormatError(path, "lines", "of different length", "one angle in each line")
    columns = [_parse_floats(path, f"column {k + 1}", [row[k] for row in rows]) for k in range(len(rows[0]))]
    # Programs write dose or order beside the angle; of these columns only the angles go from negative to positive.
    angles = [column for column in columns if not find_tilt_fault(column) and column.min() < 0 < column.max()]
    if len(angles) != 1:
        got = f"{len(columns)} columns of which {len(angles)} could be angles"
        raise FormatError(path, "lines", got, "one angle in each line", "remove the other columns")
    return Acquisition(angles[0], _UNKNOWN, _UNKNOWN)


def _read_star(path: Path) -> Acquisition:
    """Read the one tilt series of a STAR file."""
    blocks = read_star(path)
    tables = [t for t in blocks.values() if any(label in t for label in _TILT_LABELS) or "rlnTomoProjZ" in t]
    if len(tables) != 1 or tables[0].empty:
        got = "without images" if len(tables) == 1 else f"{len(tables)} of them"
        raise FormatError(path, "tilt series", got, "the table of one tilt series",
                          "give the STAR file of one tilt series")  # fmt: skip
    if not len(tables[0]):
        raise FormatError(path, "tilt series", "without rows", "one row for each image")
    return acquisition_of_table(path, tables[0], {str(k): v.iloc[0] for k, v in tables[0].items()})


def _read_mdoc(path: Path) -> Acquisition:
    """Read SerialEM's metadata: a header, then a section for each image."""
    header, sections = _parse_mdoc(path)
    if not sections or not all("TiltAngle" in section for section in sections):
        raise FormatError(path, "TiltAngle", "missing", "one in every ZValue section")

    def values(key: str) -> NDArray[np.float64]:
        """Return one number of each section."""
        return _parse_floats(path, key, [section[key] for section in sections])

    angles, dose = values("TiltAngle"), _UNKNOWN
    if all("PriorRecordDose" in section for section in sections):
        dose = _if_stated(lambda: values("PriorRecordDose"))
    elif all("ExposureDose" in section and "DateTime" in section for section in sections):
        exposure = _if_stated(lambda: values("ExposureDose"))
        order = _order_in_time([section["DateTime"] for section in sections])
        if order is not None and exposure.size:
            dose = np.empty(len(exposure))
            dose[order] = np.cumsum(exposure[order]) - exposure[order]
    return Acquisition(angles, dose, _UNKNOWN, voltage_kv=_parse_number(header.get("Voltage"), 300.0))


def _order_in_time(times: list[str]) -> NDArray[np.int_] | None:
    """Return the order of the images; None where a date is missing or not understood, as in other languages."""
    try:
        parsed = pd.to_datetime(times, format="mixed", dayfirst=True)
    except (ValueError, TypeError, OverflowError):
        return None
    return None if parsed.hasnans else np.argsort(parsed.to_numpy(), kind="stable")


def _parse_mdoc(path: Path) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Return the values of the header and of each image's section."""
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
    return header, sections


def _read_aln(path: Path) -> Acquisition:
    """Read AreTomo's global alignment: rows of ten numbers, tilt last; local shifts follow their own comment."""
    alignment = re.split(r"^#\s*local", read_text(path), maxsplit=1, flags=re.IGNORECASE | re.MULTILINE)[0]
    rows = [line.split() for line in alignment.splitlines() if line.strip() and not line.startswith("#")]
    for k, row in enumerate(rows):
        if len(row) != _GLOBAL_COLUMNS:
            got = f"{len(row)} numbers"
            raise FormatError(path, f"row {k + 1}", got, f"{_GLOBAL_COLUMNS}, the tilt last, for each image")
    tilts = [row[-1] for row in rows]
    return Acquisition(_parse_floats(path, "TILT", tilts), _UNKNOWN, _UNKNOWN)


def _read_xml(path: Path) -> Acquisition:
    """Read Warp's ``Angles``, ``Dose`` and the defocus grid with one node for each image."""
    root = parse_xml(path, "TiltSeries")
    if root.find("Angles") is None:
        raise FormatError(path, "Angles", "missing", "a TiltSeries with Angles")
    angles = _parse_floats(path, "Angles", (root.findtext("Angles") or "").split())
    used = np.array([word.lower() in ("true", "1") for word in (root.findtext("UseTilt") or "").split()], dtype=bool)
    count = angles.size
    used = used if used.size == count and used.any() else np.ones(count, dtype=bool)
    dose = (root.findtext("Dose") or "").split()
    nodes = sorted(root.findall("GridCTF/Node"), key=lambda node: _parse_number(node.get("Z"), 0.0))
    defocus = [node.get("Value", "") for node in nodes]
    values = {node.get("Name"): node.get("Value") for node in root.findall("CTF/Param")}
    return Acquisition(
        angles[used],
        _if_stated(lambda: _dose_before(_parse_floats(path, "Dose", dose))[used]) if len(dose) == count else _UNKNOWN,
        _if_stated(lambda: _parse_floats(path, "GridCTF", defocus)[used]) if len(defocus) == count else _UNKNOWN,
        voltage_kv=_parse_number(values.get("Voltage"), 300.0),
        spherical_aberration_mm=_parse_number(values.get("Cs"), 2.7),
        amplitude_contrast=_parse_number(values.get("Amplitude"), 0.07),
    )


def _dose_before(dose_after: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the dose before each image: Warp includes the image itself, so the smallest step is subtracted."""
    steps = np.diff(np.unique(dose_after))
    return dose_after - (steps.min() if steps.size else dose_after)

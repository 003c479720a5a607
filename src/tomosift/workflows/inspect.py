"""Describe files of the field: volumes, structures, particle tables, tilt series, sets and runs."""

import json
from collections import Counter
from pathlib import Path

import numpy as np

from tomosift.acquisition import Acquisition
from tomosift.data.set_files import SET_FILE
from tomosift.data.subtomogram_set import open_subtomograms
from tomosift.errors import FormatError
from tomosift.io.describe import describe
from tomosift.io.file_content import read_text, suffix_of
from tomosift.io.tilt_series import read_acquisition
from tomosift.io.tomogram_tables import TomogramEntry, read_tomogram_table
from tomosift.train.run import read_json

Lines = list[tuple[str, str]]
_TILT_SUFFIXES = {".mdoc", ".tlt", ".rawtlt", ".aln", ".tomostar"}
_MOST_TOMOGRAMS = 8


def describe_file(path: Path | str, *, picks_spacing_angstrom: float | None = None) -> Lines:
    """Describe what a file or folder holds, as pairs of a label and a text.

    Parameters
    ----------
    path
        Volume, structure, particle table, table of tomograms, tilt series, set or run.
    picks_spacing_angstrom
        Pixel size of the picks, where a table in pixels does not state it.

    Raises
    ------
    FormatError
        The format is unknown, or the file is damaged.
    """
    path = Path(path)
    if (path / SET_FILE).is_file():
        return _describe_set(path)
    if (path / "config.json").is_file():
        return _describe_run(path)
    suffix = suffix_of(path)
    if suffix in _TILT_SUFFIXES and path.is_file():
        return [("Kind", "tilt series"), *_describe_acquisition(read_acquisition(path))]
    try:
        return describe(path, picks_spacing_angstrom)
    except FormatError as error:
        lines = _describe_tilts(path, error) if suffix in (".star", ".xml") and path.is_file() else None
        if lines is None:
            raise
        return lines


def _describe_tilts(path: Path, error: FormatError) -> Lines | None:
    """Describe a table of tomograms or a tilt series that is no particle table by this error; None for neither."""
    if suffix_of(path) == ".star" and "tomograms" not in error.got and "tilt series" not in error.got:
        return None
    return _describe_tomogram_table(path) or _describe_tilt_series(path)


def _describe_tomogram_table(path: Path) -> Lines | None:
    try:
        entries = read_tomogram_table(path)
    except FormatError as error:
        if suffix_of(path) == ".xml" or (error.field == "rlnTomoName" and error.got.startswith("missing")):
            return None
        raise
    with_volume = [entry for entry in entries.values() if entry.path is not None]
    halved = sum(entry.half_paths is not None for entry in entries.values())
    lines: Lines = [
        ("Kind", "RELION's table of tomograms"),
        ("Tomograms", f"{len(entries)}, {len(with_volume)} of them with a volume on disk, {halved} with halves"),
    ]
    for entry in list(entries.values())[:_MOST_TOMOGRAMS]:
        lines.append((entry.name, _describe_entry(entry)))
    if len(entries) > _MOST_TOMOGRAMS:
        lines.append(("Note", f"{len(entries) - _MOST_TOMOGRAMS} more tomograms are not shown"))
    return lines


def _describe_entry(entry: TomogramEntry) -> str:
    parts = []
    if entry.grid is not None:
        size = " x ".join(map(str, entry.grid.shape_zyx))
        parts.append(f"{size} voxels (z, y, x) of {entry.grid.voxel_spacing_angstrom:g} A")
    if entry.acquisition is not None:
        low, high = entry.acquisition.tilt_range_deg
        parts.append(f"{len(entry.acquisition.tilt_angles_deg)} tilts from {low:.1f} to {high:.1f} degrees")
    if entry.hand is not None:
        parts.append(f"hand {entry.hand:+g}")
    parts.append(str(entry.path) if entry.path is not None else "no volume on disk")
    return ", ".join(parts)


def _describe_tilt_series(path: Path) -> Lines | None:
    try:
        acquisition = read_acquisition(path)
    except FormatError:
        return None
    return [("Kind", "tilt series"), *_describe_acquisition(acquisition)]


def _describe_acquisition(acquisition: Acquisition) -> Lines:
    angles = np.sort(acquisition.tilt_angles_deg)
    step = f", in steps of {np.median(np.diff(angles)):.2g}" if len(angles) > 1 else ""
    lines = [
        ("Images", str(len(angles))),
        ("Tilt angles", f"{angles[0]:.2f} to {angles[-1]:.2f} degrees{step}"),
    ]
    if acquisition.dose_e_per_A2.size:
        lines.append(("Dose", f"{acquisition.dose_e_per_A2.max():.1f} electrons/A2 before the last image"))
    if acquisition.defocus_um.size:
        defocus = acquisition.defocus_um
        lines.append(("Defocus", f"{defocus.min():.2f} to {defocus.max():.2f} um"))
    return [*lines, ("Voltage", f"{acquisition.voltage_kv:g} kV")]


def _describe_set(path: Path) -> Lines:
    subtomograms = open_subtomograms(path)
    counts = Counter(subtomograms.class_names[label] for label in subtomograms.label if label >= 0)
    ranges = np.unique(subtomograms.tilt_range_deg, axis=0)
    lines = [
        ("Kind", "set of subtomograms"),
        ("Particles", f"{len(subtomograms)} from {len(set(subtomograms.particles.tomogram))} tomograms"),
        ("Box size", f"{subtomograms.box_size} voxels of {subtomograms.voxel_spacing_angstrom:g} A"),
        ("Half subtomograms", "with" if subtomograms.has_halves else "without"),
        ("Tilt ranges", ", ".join(f"{low:.0f} to {high:.0f}" for low, high in ranges[:4]) + " degrees"),
        ("Classes", ", ".join(f"{name} ({count})" for name, count in sorted(counts.items())) or "none"),
        ("Unlabeled", str(int((subtomograms.label < 0).sum()))),
    ]
    made_by = subtomograms.provenance.get("made_by")
    return [*lines, ("Made by", str(made_by))] if made_by else lines


def _describe_run(path: Path) -> Lines:
    config = read_json(path / "config.json")
    finished = (path / "result").is_dir()
    lines = [("Kind", "run"), ("State", "finished" if finished else "not finished; the same command resumes it")]
    for key, value in config.items():
        text = value if isinstance(value, str) else json.dumps(value)
        lines.append((key, text if len(text) <= 300 else text[:297] + "..."))
    log = path / "log.jsonl"
    if log.is_file():
        lines.append(("Log", f"{len(read_text(log).splitlines())} lines"))
    if finished:
        lines.append(("Result", ", ".join(sorted(file.name for file in (path / "result").iterdir())) or "empty"))
    return lines

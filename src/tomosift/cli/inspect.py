"""Say what a file holds: volumes, structures, particle tables, tilt series, sets and runs."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from tomosift.acquisition import Acquisition
from tomosift.cli.terminal import print_table
from tomosift.data.set_files import SET_FILE
from tomosift.errors import FormatError
from tomosift.io.describe import describe
from tomosift.io.file_content import suffix_of
from tomosift.io.tilt_series import read_acquisition
from tomosift.io.tomogram_tables import TomogramEntry, read_tomogram_table

Lines = list[tuple[str, str]]
_TILT_SUFFIXES = {".mdoc", ".tlt", ".rawtlt", ".aln", ".tomostar"}
_MOST_TOMOGRAMS = 8


def command(files: Annotated[tuple[Path, ...], tyro.conf.Positional], /, picks_spacing: float | None = None) -> None:
    """Say what each file holds.

    Args:
        files: Volumes, structures, particle tables, tables of tomograms, tilt series, sets or runs.
        picks_spacing: Edge of a pixel in Angstrom, where a table in pixels does not say.
    """
    if not files:
        raise ValueError("no file was given; name at least one")
    for path in files:
        print_table(str(path), ["what", "value"], [[label, text] for label, text in lines_of(path, picks_spacing)])


def lines_of(path: Path, voxel_spacing_angstrom: float | None = None) -> Lines:
    """What a file or folder holds, as label and text.

    Raises
    ------
    FormatError
        It is nothing that is known, or is damaged.
    """
    if (path / SET_FILE).is_file():
        return _lines_of_set(path)
    if (path / "config.json").is_file():
        return _lines_of_run(path)
    suffix = suffix_of(path)
    if suffix in _TILT_SUFFIXES and path.is_file():
        return [("Kind", "tilt series"), *_lines_of_acquisition(read_acquisition(path))]
    try:
        return describe(path, voxel_spacing_angstrom)
    except FormatError as error:
        found = _lines_of_series(path, error) if suffix in (".star", ".xml") and path.is_file() else None
        if found is None:
            raise
        return found


def _lines_of_series(path: Path, error: FormatError) -> Lines | None:
    """A table of tomograms or a tilt series, after reading it as particles ended in this error; None for neither."""
    if suffix_of(path) == ".star" and "tomograms" not in error.got and "tilt series" not in error.got:
        return None
    return _lines_of_tables(path) or _lines_of_tilt_series(path)


def _lines_of_tables(path: Path) -> Lines | None:
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
        lines.append((entry.name, _line_of_entry(entry)))
    if len(entries) > _MOST_TOMOGRAMS:
        lines.append(("Note", f"{len(entries) - _MOST_TOMOGRAMS} more tomograms are not shown"))
    return lines


def _line_of_entry(entry: TomogramEntry) -> str:
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


def _lines_of_tilt_series(path: Path) -> Lines | None:
    try:
        acquisition = read_acquisition(path)
    except FormatError:
        return None
    return [("Kind", "tilt series"), *_lines_of_acquisition(acquisition)]


def _lines_of_acquisition(acquisition: Acquisition) -> Lines:
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


def _lines_of_set(path: Path) -> Lines:
    from tomosift.data.subtomogram_set import open_subtomograms

    found = open_subtomograms(path)
    named = Counter(found.class_names[label] for label in found.label if label >= 0)
    ranges = np.unique(found.tilt_range_deg, axis=0)
    lines = [
        ("Kind", "set of subtomograms"),
        ("Particles", f"{len(found)} from {len(set(found.particles.tomogram))} tomograms"),
        ("Boxes", f"{found.box_size} voxels of {found.voxel_spacing_angstrom:g} A"),
        ("Halves", "with" if found.has_halves else "without"),
        ("Tilt ranges", ", ".join(f"{low:.0f} to {high:.0f}" for low, high in ranges[:4]) + " degrees"),
        ("Classes", ", ".join(f"{name} ({count})" for name, count in sorted(named.items())) or "none"),
        ("Unlabeled", str(int((found.label < 0).sum()))),
    ]
    made_by = found.provenance.get("made_by")
    return [*lines, ("Made by", str(made_by))] if made_by else lines


def _lines_of_run(path: Path) -> Lines:
    import json

    from tomosift.train.run import read_json

    config = read_json(path / "config.json")
    finished = (path / "result").is_dir()
    lines = [("Kind", "run"), ("State", "finished" if finished else "not finished; the same command goes on with it")]
    for key, value in config.items():
        text = value if isinstance(value, str) else json.dumps(value)
        lines.append((key, text if len(text) <= 300 else text[:297] + "..."))
    log = path / "log.jsonl"
    if log.is_file():
        lines.append(("Log", f"{len(log.read_text().splitlines())} lines"))
    if finished:
        lines.append(("Result", ", ".join(sorted(file.name for file in (path / "result").iterdir())) or "empty"))
    return lines

"""Finding tomograms: in a list, a folder, a table of RELION or a copick project."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tomosift.acquisition import Acquisition, check_tilt_range
from tomosift.data.extraction.copick_tomograms import open_copick_tomograms
from tomosift.data.extraction.half_tomograms import find_half_tomograms, find_lone_halves
from tomosift.data.extraction.namesakes import find_entries, join_tables, name_files
from tomosift.data.extraction.tilt_metadata import find_acquisitions
from tomosift.data.extraction.tomograms import Tomogram, open_tomogram
from tomosift.errors import FormatError
from tomosift.io.tomogram_names import match_names
from tomosift.io.tomogram_tables import TomogramEntry, read_tomogram_table
from tomosift.io.volumes import is_volume_path, open_volume
from tomosift.particles import Grid

Report = Callable[[str], None]
_MAX_ROUNDING_VOXELS = 2.0


def open_tomograms(
    source: Path | str | Sequence[Path | str],
    voxel_spacing_angstrom: float | None = None,
    is_inverted: bool = False,
    tomogram_type: str | None = None,
    acquisitions: Mapping[str, Acquisition] | None = None,
    tilt_range_deg: tuple[float, float] | None = None,
    report: Report | None = None,
) -> dict[str, Tomogram]:
    """Open tomograms by name; only headers are read.

    Tilt angles come from ``tilt_range_deg``, else ``acquisitions``, else a table, else a file beside the tomogram (see
    `tilt_metadata`). Where none states them, the tilt range is assumed to be +-60 degrees.

    Parameters
    ----------
    source
        A tomogram, a folder of them, RELION's table of tomograms (``tomograms.star``), the JSON of a copick project
        whose roots are local folders, or several of these. Names are file stems, ``rlnTomoName`` or copick's run
        names. Half tomograms are those of the table, or those that `half_tomograms` finds beside the whole ones.
    voxel_spacing_angstrom
        Overrides the files; required where they state none. In a copick project it chooses the voxel spacing instead.
    is_inverted
        Density is dark in these files (see `Tomogram`).
    tomogram_type
        Which reconstruction to take from a copick project that holds several.
    acquisitions
        How each was recorded, by name.
    tilt_range_deg
        Lowest and highest tilt angle of all tomograms.
    report
        Called with a sentence about each conclusion, such as where tilt angles come from.

    Returns
    -------
    dict
        Tomograms by name; their volumes are read when subtomograms are extracted.

    Raises
    ------
    FormatError
        A file is no volume or does not state its voxel spacing, or a table or project is broken.
    ValueError
        There is no tomogram, or two have one name.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from tomosift.data.extraction.tomogram_sources import open_tomograms
    >>> from tomosift.io.volumes import write_volume
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_volume(folder / "TS_01.mrc", np.zeros((16, 32, 32), np.float32), voxel_spacing_angstrom=10.0)
    >>> tomograms = open_tomograms(folder, tilt_range_deg=(-50.0, 60.0))
    >>> tomograms["TS_01"].grid.shape_zyx, tomograms["TS_01"].acquisition.tilt_range_deg
    ((16, 32, 32), (-50.0, 60.0))
    """
    report = report or (lambda sentence: None)
    sources = [Path(source)] if isinstance(source, str | Path) else [Path(one) for one in source]
    if not sources:
        raise ValueError("no tomogram was given; name at least one file, a folder or a tomograms.star")
    if tilt_range_deg is not None:
        check_tilt_range(tilt_range_deg)
    tomograms, entries, volumes = _sort_sources(sources, voxel_spacing_angstrom, tomogram_type)
    _add(tomograms, _open_volumes(volumes, voxel_spacing_angstrom, report))
    _add(tomograms, _open_entries(entries, tomograms, voxel_spacing_angstrom, report))
    if not tomograms:
        raise FormatError(
            sources[0], "rlnTomoReconstructedTomogram", "without an existing file", "the volume of each tomogram",
            "give the tomograms or their folder as well",
        )  # fmt: skip
    for sentence in dict.fromkeys(note for entry in entries.values() for note in entry.notes):
        report(f"note: {sentence}")
    tomograms = _add_stated_extents(tomograms, entries)
    tomograms = _add_acquisitions(tomograms, acquisitions or {}, entries, report)
    if tilt_range_deg is not None:
        low_high = np.array(sorted(tilt_range_deg), dtype=float)
        stated = Acquisition(low_high, np.zeros(0), np.zeros(0))
        tomograms = {name: replace(tomogram, acquisition=stated) for name, tomogram in tomograms.items()}
    _report_assumed(tomograms, report)
    return {name: replace(tomogram, is_inverted=is_inverted) for name, tomogram in tomograms.items()}


def collect_grids(tomograms: Mapping[str, Tomogram]) -> dict[str, Grid]:
    """Return the grid of every tomogram, with the path of its volume among its names.

    Readers of centered coordinates need them; `tomosift.io.tomogram_names` finds the one that a table means.
    """
    return {key: replace(tomogram.grid, aliases=(str(tomogram.path),)) for key, tomogram in tomograms.items()}


def _sort_sources(
    sources: list[Path], voxel_spacing_angstrom: float | None, tomogram_type: str | None
) -> tuple[dict[str, Tomogram], dict[str, TomogramEntry], list[Path]]:
    """Tomograms of copick projects, entries of tables, and the volumes that were given by path or folder."""
    tomograms: dict[str, Tomogram] = {}
    tables: dict[Path, dict[str, TomogramEntry]] = {}
    volumes: list[Path] = []
    for path in sources:
        if not path.exists():
            advice = "download it first" if re.match(r"\w{2,}:/", str(path)) else "check the path"
            raise FormatError(path, "tomograms", "missing", "a folder, a table or a volume", advice)
        if path.suffix == ".json":
            _add(tomograms, open_copick_tomograms(path, voxel_spacing_angstrom, tomogram_type))
        elif path.name.endswith((".star", ".star.gz")):
            tables[path] = read_tomogram_table(path)
        elif path.is_dir() and not is_volume_path(path):
            inside = sorted(file for file in path.iterdir() if is_volume_path(file))
            if not inside:
                raise ValueError(f"{path} holds no tomogram; expected .mrc, .rec, .em, .tif or .zarr files in it")
            volumes += [file for file in inside if file not in volumes]
        elif path not in volumes:
            volumes.append(path)
    return tomograms, join_tables(tables), volumes


def _add(tomograms: dict[str, Tomogram], more: Mapping[str, Tomogram]) -> None:
    for name, tomogram in more.items():
        if name in tomograms:
            raise ValueError(
                f"{tomogram.path} and {tomograms[name].path} have the same name {name!r}; rename one of them"
            )
        tomograms[name] = tomogram


def _open_volumes(paths: list[Path], voxel_spacing_angstrom: float | None, report: Report) -> dict[str, Tomogram]:
    """Tomograms by file stem; half tomograms belong to their whole one, or their mean stands for it."""
    halves = find_half_tomograms(paths)
    lone = find_lone_halves(paths, halves)
    half_paths = {half for pair in (*halves.values(), *lone.values()) for half in pair}
    tomograms: dict[str, Tomogram] = {}
    names = name_files([*(path for path in paths if path not in half_paths), *lone])
    for path, name in names.items():
        pair = lone.get(path)
        if pair is None:
            _add(tomograms, {name: open_tomogram(name, path, voxel_spacing_angstrom, halves.get(path))})
        else:
            _add(tomograms, {name: open_tomogram(name, pair[0], voxel_spacing_angstrom, pair, is_mean_of_halves=True)})
    _report_means([names[path] for path in lone], report)
    return tomograms


def _report_means(names: list[str], report: Report) -> None:
    if names:
        report(f"note: {len(names)} tomograms are the mean of their two halves, for example {names[0]}")


def _add_stated_extents(tomograms: Mapping[str, Tomogram], entries: Mapping[str, TomogramEntry]) -> dict[str, Tomogram]:
    """The same tomograms with the unbinned size that a table states, from which centered coordinates count."""
    stated_of = find_entries(tomograms, entries)
    with_extents = {}
    for name, tomogram in tomograms.items():
        grid = stated_of[name].grid if name in stated_of else None
        if grid is not None and grid.stated_extent_zyx_angstrom is not None:
            difference = np.abs(grid.extent_zyx_angstrom - tomogram.grid.extent_zyx_angstrom)
            # A volume that was cropped or padded has a center of its own.
            if (difference <= _MAX_ROUNDING_VOXELS * tomogram.grid.voxel_spacing_angstrom).all():
                stated = replace(tomogram.grid, stated_extent_zyx_angstrom=grid.stated_extent_zyx_angstrom)
                tomogram = replace(tomogram, grid=stated)
        with_extents[name] = tomogram
    return with_extents


def _open_entries(
    entries: Mapping[str, TomogramEntry],
    tomograms: Mapping[str, Tomogram],
    voxel_spacing_angstrom: float | None,
    report: Report,
) -> dict[str, Tomogram]:
    """Tomograms of a table whose volumes exist and were not given by themselves."""
    given = match_names(entries, {name: [str(tomogram.path)] for name, tomogram in tomograms.items()})
    known = {tomogram.path.resolve() for tomogram in tomograms.values()}
    more: dict[str, Tomogram] = {}
    absent = []
    for name, entry in entries.items():
        if name not in given.missing or (entry.path is not None and entry.path.resolve() in known):
            continue
        path = entry.path or (entry.half_paths[0] if entry.half_paths else None)
        if path is None:
            absent.append(name)
            continue
        is_mean = entry.path is None
        spacing = _spacing(entry, path, voxel_spacing_angstrom)
        more[name] = open_tomogram(name, path, spacing, entry.half_paths, is_mean_of_halves=is_mean)
    _report_means([name for name, tomogram in more.items() if tomogram.is_mean_of_halves], report)
    if absent and (more or tomograms):
        report(
            f"{len(absent)} of {len(entries)} tomograms of the table have no volume on disk, for example {absent[0]}; "
            "they are left out"
        )
    return more


def _spacing(entry: TomogramEntry, path: Path, voxel_spacing_angstrom: float | None) -> float | None:
    """The stated spacing, else the table's if it is about this volume, else None for the volume's own."""
    if voxel_spacing_angstrom is not None or entry.grid is None:
        return voxel_spacing_angstrom
    volume = open_volume(path)
    is_same_grid = volume.shape_zyx == entry.grid.shape_zyx
    return entry.grid.voxel_spacing_angstrom if is_same_grid or volume.voxel_spacing_angstrom is None else None


def _add_acquisitions(
    tomograms: Mapping[str, Tomogram],
    acquisitions: Mapping[str, Acquisition],
    entries: Mapping[str, TomogramEntry],
    report: Report,
) -> dict[str, Tomogram]:
    """The same tomograms with the acquisition that is given, else that of a table, else that of a file beside them."""
    key_of = match_names(tomograms, {name: [] for name in acquisitions}).key_of
    listed = {name: entry.acquisition for name, entry in find_entries(tomograms, entries).items()}
    stated = {name: acquisitions[key_of[name]] if name in key_of else listed.get(name) for name in tomograms}
    beside = find_acquisitions({name: tomograms[name].path for name, one in stated.items() if one is None}, report)
    return {
        name: replace(tomogram, acquisition=stated[name] or beside.get(name, tomogram.acquisition))
        for name, tomogram in tomograms.items()
    }


def _report_assumed(tomograms: Mapping[str, Tomogram], report: Report) -> None:
    assumed = [name for name, tomogram in tomograms.items() if tomogram.acquisition.tilt_angles_deg.size == 0]
    if assumed:
        report(
            f"note: no tilt angles were found for {len(assumed)} of {len(tomograms)} tomograms, so -60 to 60 degrees "
            "are assumed; state others with --tilt-range"
        )

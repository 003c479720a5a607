"""Finding tomograms: in a list, a folder, a table of RELION or a copick project."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tomosift.acquisition import Acquisition
from tomosift.data.extraction.tilt_metadata import acquisitions_beside
from tomosift.data.extraction.tomograms import UNKNOWN_ACQUISITION, Tomogram, canonical_name
from tomosift.errors import FormatError
from tomosift.io.tomogram_tables import TomogramEntry, read_tomogram_table
from tomosift.io.volumes import is_volume_path, open_volume
from tomosift.particles import Grid

_FIRST_HALF = ("_half1", "_evn", "_even", "_half_1")
_SECOND_HALF = ("_half2", "_odd", "_odd", "_half_2")
_FOLDERS = ("even", "odd")


def open_tomograms(
    source: Path | str | Sequence[Path | str],
    voxel_spacing_angstrom: float | None = None,
    is_inverted: bool = False,
    tomogram_type: str | None = None,
    acquisitions: Mapping[str, Acquisition] | None = None,
    tell: Callable[[str], None] | None = None,
) -> dict[str, Tomogram]:
    """Tomograms by name; only headers are read.

    How a tomogram was recorded comes from ``acquisitions``, else from a table, else from a file beside it (see
    `tilt_files`); where none says it, the tilt range is taken to be +-60 degrees.

    Parameters
    ----------
    source
        A tomogram, a folder of them, RELION's table of tomograms (``tomograms.star``), the JSON of a copick project
        whose roots are local folders, or several of these. Names are file stems, ``rlnTomoName`` or copick's run
        names. Half tomograms are those that the table names, or are found beside the whole ones:
        ``X_half1``/``X_half2``, ``X_EVN``/``X_ODD`` (also before ``_Vol``), or files of one name in subfolders
        ``even`` and ``odd``.
    voxel_spacing_angstrom
        Goes before what the files say; needed where they say nothing. In a copick project it chooses the voxel
        spacing instead.
    inverted
        Density is dark in these files (see `Tomogram`).
    tomogram_type
        Which reconstruction to take from a copick project that holds several.
    acquisitions
        How each was recorded, by name.
    tell
        Called with a sentence about each thing that was concluded, such as where tilt angles come from.

    Raises
    ------
    FormatError
        A file is no volume or does not state its voxel spacing, or a table or project is broken.
    ValueError
        There is no tomogram, or two have one name.
    """
    sources = [Path(source)] if isinstance(source, str | Path) else [Path(one) for one in source]
    if not sources:
        raise ValueError("no tomogram was given; name at least one")
    say = tell or (lambda sentence: None)
    tables: dict[str, TomogramEntry] = {}
    found: dict[str, Tomogram] = {}
    volumes: list[Path] = []
    for path in sources:
        if not path.exists():
            raise FormatError(path, "tomograms", "missing", "a folder, a table or a volume", "check the path")
        if path.suffix == ".json":
            _join(found, _copick(path, voxel_spacing_angstrom, tomogram_type))
        elif path.name.endswith((".star", ".star.gz")):
            tables |= read_tomogram_table(path)
        elif path.is_dir() and not is_volume_path(path):
            inside = sorted(file for file in path.iterdir() if is_volume_path(file))
            if not inside:
                raise ValueError(f"{path} holds no tomogram; expected .mrc, .rec, .em, .tif or .zarr files in it")
            volumes += [file for file in inside if file not in volumes]
        elif path not in volumes:
            volumes.append(path)
    _join(found, _named(volumes, voxel_spacing_angstrom))
    _join(found, _of_tables(tables, found, voxel_spacing_angstrom, say))
    if not found:
        raise FormatError(
            sources[0], "rlnTomoReconstructedTomogram", "without an existing file", "the volume of each tomogram",
            "give the tomograms or their folder as well",
        )  # fmt: skip
    listed = {name: entry.acquisition for name, entry in tables.items() if entry.acquisition is not None}
    return _with_acquisitions(found, {**listed, **(acquisitions or {})}, is_inverted, say)


def collect_grids(tomograms: Mapping[str, Tomogram]) -> dict[str, Grid]:
    """The grid of every tomogram under each name that a particle table may use for it, where that is unique.

    Meant for readers of centered coordinates: keys, file stems and canonical names (see `match_tomograms`).
    """
    aliases: dict[str, list[str]] = {}
    for key, tomogram in tomograms.items():
        for alias in {tomogram.path.stem, tomogram.path.name, canonical_name(key), canonical_name(tomogram.path.name)}:
            aliases.setdefault(alias, []).append(key)
    grids = {alias: tomograms[keys[0]].grid for alias, keys in aliases.items() if len(keys) == 1}
    return grids | {key: tomogram.grid for key, tomogram in tomograms.items()}


def _join(found: dict[str, Tomogram], more: Mapping[str, Tomogram]) -> None:
    for name, tomogram in more.items():
        if name in found:
            raise ValueError(f"{tomogram.path} and {found[name].path} have the same name {name!r}; rename one of them")
        found[name] = tomogram


def _with_acquisitions(
    found: Mapping[str, Tomogram], known: Mapping[str, Acquisition], is_inverted: bool, tell: Callable[[str], None]
) -> dict[str, Tomogram]:
    by_core = {canonical_name(name): acquisition for name, acquisition in known.items()}
    stated = {name: known.get(name, by_core.get(canonical_name(name))) for name in found}
    beside = acquisitions_beside([found[name].path for name, one in stated.items() if one is None], tell)
    return {
        name: replace(
            tomogram,
            is_inverted=is_inverted,
            acquisition=stated[name] or beside.get(tomogram.path, tomogram.acquisition),
        )
        for name, tomogram in found.items()
    }


def _of_tables(
    entries: Mapping[str, TomogramEntry],
    found: Mapping[str, Tomogram],
    voxel_spacing_angstrom: float | None,
    tell: Callable[[str], None],
) -> dict[str, Tomogram]:
    """Tomograms of a table whose volumes exist and were not given by themselves."""
    there: set[str | Path] = {canonical_name(name) for name in found}
    there |= {tomogram.path.resolve() for tomogram in found.values()}
    more: dict[str, Tomogram] = {}
    absent = []
    for name, entry in entries.items():
        if canonical_name(name) in there or (entry.path is not None and entry.path.resolve() in there):
            continue
        if entry.path is None:
            absent.append(name)
            continue
        more[name] = _tomogram(name, entry.path, _spacing(entry, voxel_spacing_angstrom), entry.half_paths)
    if absent and (more or found):
        tell(
            f"{len(absent)} of {len(entries)} tomograms of the table have no volume on disk, for example {absent[0]}; "
            "they are left out"
        )
    return more


def _spacing(entry: TomogramEntry, voxel_spacing_angstrom: float | None) -> float | None:
    """What is stated, else what the table says if it is about this volume, else what the volume says (None)."""
    if voxel_spacing_angstrom is not None or entry.grid is None or entry.path is None:
        return voxel_spacing_angstrom
    volume = open_volume(entry.path)
    same = volume.shape_zyx == entry.grid.shape_zyx
    return entry.grid.voxel_spacing_angstrom if same or volume.voxel_spacing_angstrom is None else None


def _named(paths: list[Path], voxel_spacing_angstrom: float | None) -> dict[str, Tomogram]:
    halves = _halves(paths)
    are_halves = {half for pair in halves.values() for half in pair}
    found: dict[str, Tomogram] = {}
    for path in paths:
        if path in are_halves:
            continue
        name = _stem(path)
        if name in found:
            raise ValueError(f"{path} and {found[name].path} have the same name {name!r}; rename one of them")
        found[name] = _tomogram(name, path, voxel_spacing_angstrom, halves.get(path))
    return found


def _stem(path: Path) -> str:
    name = path.with_suffix("") if path.suffix.lower() in (".gz", ".bz2") else path
    return name.stem


def _tomogram(
    name: str, path: Path, voxel_spacing_angstrom: float | None, half_paths: tuple[Path, Path] | None
) -> Tomogram:
    grid = open_volume(path).grid(voxel_spacing_angstrom)
    for half in half_paths or ():
        _check_half(path, grid, half)
    return Tomogram(name, path, grid, UNKNOWN_ACQUISITION, half_paths)


def _check_half(path: Path, grid: Grid, half: Path) -> None:
    shape = open_volume(half).shape_zyx
    if shape != grid.shape_zyx:
        got, expected = f"of shape {shape} (z, y, x)", f"{grid.shape_zyx} as {path.name}"
        raise FormatError(half, "the half tomogram", got, expected, "move it away or reconstruct it on the same grid")


def _halves(paths: list[Path]) -> dict[Path, tuple[Path, Path]]:
    """Half tomograms of each whole one that has both."""
    there = {(path.parent, path.name.lower()): path for path in paths}
    pairs: dict[Path, tuple[Path, Path]] = {}
    for path in paths:
        folders = tuple(path.parent / folder / path.name for folder in _FOLDERS)
        if all(half.exists() for half in folders):
            pairs[path] = (folders[0], folders[1])
            continue
        lower = path.name.lower()
        core = re.match(r"(.*?)(_vol)?(\.[^.]+(\.gz|\.bz2)?)$", lower)
        if core is None:
            continue
        head, volume, suffix = core[1], core[2] or "", core[3]
        for first, second in zip(_FIRST_HALF, _SECOND_HALF, strict=True):
            one = there.get((path.parent, f"{head}{first}{volume}{suffix}"))
            other = there.get((path.parent, f"{head}{second}{volume}{suffix}"))
            if one is not None and other is not None:
                pairs[path] = (one, other)
    return pairs


def _copick(path: Path, voxel_spacing_angstrom: float | None, tomogram_type: str | None) -> dict[str, Tomogram]:
    """One tomogram per run of a copick project on local disk."""
    try:
        config = json.loads(path.read_text())
        roots = [_local(path, str(config[key])) for key in ("static_root", "overlay_root") if config.get(key)]
    except (ValueError, AttributeError) as error:
        raise FormatError(
            path, "the project", "unreadable", "the JSON of a copick project", "check the path"
        ) from error
    local = [root for root in roots if root is not None]
    if not local:
        raise FormatError(path, "static_root", "not a local folder", "a local folder", "download the tomograms first")
    candidates: dict[str, dict[tuple[float, str], Path]] = {}
    for root in local:
        for file in sorted(root.glob("ExperimentRuns/*/VoxelSpacing*/*.zarr")):
            if stated := re.fullmatch(r"VoxelSpacing(\d+(\.\d+)?)", file.parent.name):
                candidates.setdefault(file.parent.parent.name, {})[float(stated[1]), file.stem] = file
    found: dict[str, Tomogram] = {}
    for run, files in candidates.items():
        wanted = {
            key: file
            for key, file in files.items()
            if tomogram_type in (None, key[1])
            and (voxel_spacing_angstrom is None or abs(key[0] - voxel_spacing_angstrom) < 0.01)
        }
        if len(wanted) > 1:
            listed = ", ".join(f"{kind} at {spacing:g} A" for spacing, kind in sorted(wanted))
            raise ValueError(
                f"run {run!r} of {path} has several tomograms ({listed}); choose a type and a voxel spacing"
            )
        for (spacing, _), file in wanted.items():
            found[run] = _tomogram(run, file, spacing, None)
    if not found:
        listed = ", ".join(sorted({f"{kind} at {size:g} A" for files in candidates.values() for size, kind in files}))
        raise ValueError(f"no tomogram of {path} fits; the project has {listed or 'no tomograms'}")
    return found


def _local(config: Path, root: str) -> Path | None:
    if "://" in root and not root.startswith(("local://", "file://")):
        return None
    place = Path(re.sub(r"^(local|file)://", "", root))
    return place if place.is_absolute() else config.parent / place

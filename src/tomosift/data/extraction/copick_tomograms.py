"""Tomograms of a copick project on local disk."""

import re
from collections.abc import Iterable
from pathlib import Path

from tomosift.data.extraction.tomograms import Tomogram, open_tomogram
from tomosift.errors import FormatError
from tomosift.io.particles.copick_project import RUNS_FOLDER, read_json

_MAX_DIFFERENCE_ANGSTROM = 0.01  # between the requested voxel spacing and that in the name of a folder


def open_copick_tomograms(
    path: Path, voxel_spacing_angstrom: float | None = None, tomogram_type: str | None = None
) -> dict[str, Tomogram]:
    """Open one tomogram per run of a copick project.

    Parameters
    ----------
    path
        JSON configuration of the project.
    voxel_spacing_angstrom, tomogram_type
        Which reconstruction to take where a run has several.

    Raises
    ------
    FormatError
        The configuration is unreadable, or has no local folder.
    ValueError
        A run has several tomograms that fit, or none fits.
    """
    roots, advice = _local_roots(path)
    candidates = _list_tomograms(roots)
    tomograms: dict[str, Tomogram] = {}
    for run, files in candidates.items():
        fitting = {
            key: file
            for key, file in files.items()
            if tomogram_type in (None, key[1])
            and (voxel_spacing_angstrom is None or abs(key[0] - voxel_spacing_angstrom) < _MAX_DIFFERENCE_ANGSTROM)
        }
        if len(fitting) > 1:
            listed = ", ".join(f"{kind} at {spacing:g} A" for spacing, kind in sorted(fitting))
            raise ValueError(
                f"run {run!r} of {path} has several tomograms ({listed}); choose one with --tomogram-type and "
                "--tomogram-spacing"
            )
        for (spacing, _), file in fitting.items():
            tomograms[run] = open_tomogram(run, file, spacing)
    if not tomograms:
        listed = ", ".join(sorted({f"{kind} at {size:g} A" for files in candidates.values() for size, kind in files}))
        if not listed:
            got = f"{' and '.join(map(str, roots))}, without tomograms"
            raise FormatError(path, "the local folder", got, f"a folder with {RUNS_FOLDER}", advice)
        raise ValueError(
            f"no tomogram of {path} fits; the project has {listed}; choose one with --tomogram-type and "
            "--tomogram-spacing"
        )
    return tomograms


def _local_roots(path: Path) -> tuple[list[Path], str]:
    """The local folders of a project, at least one, and what to do about a root that is remote or does not exist."""
    config = read_json(path)
    stated = {field: config[field] for field in ("static_root", "overlay_root") if config.get(field)}
    if not stated:
        got = "missing"
        raise FormatError(path, "static_root", got, "the folder of a copick project", "give a copick configuration")
    folders = {field: _local_folder(path, field, root) for field, root in stated.items()}
    roots = [folder for folder in folders.values() if folder is not None and folder.is_dir()]
    advice = "download the tomograms and name their folder as static_root"
    for field, folder in folders.items():
        if folder is not None and folder.is_dir():
            continue
        if folder is not None:
            advice = f"edit {field}: {folder} does not exist on this machine"
        if not roots:
            raise FormatError(path, field, str(stated[field]), "an existing local folder", advice)
        break
    return roots, advice


def _list_tomograms(roots: Iterable[Path]) -> dict[str, dict[tuple[float, str], Path]]:
    """Per run: (voxel spacing, tomogram type) -> folder of the volume."""
    files: dict[str, dict[tuple[float, str], Path]] = {}
    for root in roots:
        for file in sorted(root.glob(f"{RUNS_FOLDER}/*/VoxelSpacing*/*.zarr")):
            if stated := re.fullmatch(r"VoxelSpacing(\d+(\.\d+)?)", file.parent.name):
                files.setdefault(file.parent.parent.name, {})[float(stated[1]), file.stem] = file
    return files


def _local_folder(config: Path, field: str, root: object) -> Path | None:
    """The folder behind a root; None where it is remote."""
    if not isinstance(root, str):
        raise FormatError(config, field, repr(root), "a folder such as local:///data/project")
    if "://" in root and not root.startswith(("local://", "file://")):
        return None
    folder = Path(re.sub(r"^(local|file)://", "", root)).expanduser()
    return folder if folder.is_absolute() else config.parent / folder

"""Tomograms of a copick project on local disk."""

import json
import re
from pathlib import Path

from tomosift.data.extraction.tomograms import Tomogram, open_tomogram
from tomosift.errors import FormatError

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
    candidates = _list_tomograms(path)
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
        raise ValueError(f"no tomogram of {path} fits; the project has {listed or 'no tomograms'}")
    return tomograms


def _list_tomograms(path: Path) -> dict[str, dict[tuple[float, str], Path]]:
    """Per run: (voxel spacing, tomogram type) -> folder of the volume."""
    try:
        config = json.loads(path.read_text())
        roots = [_local_folder(path, str(config[key])) for key in ("static_root", "overlay_root") if config.get(key)]
    except (ValueError, AttributeError) as error:
        raise FormatError(
            path, "the project", "unreadable", "the JSON of a copick project", "check the path"
        ) from error
    local = [root for root in roots if root is not None]
    if not local:
        raise FormatError(
            path, "static_root", "not a local folder", "a local folder", "download the tomograms and edit static_root"
        )
    if absent := [root for root in local if not root.is_dir()]:
        got = f"{absent[0]}, which does not exist"
        raise FormatError(
            path, "a root", got, "an existing folder", "edit static_root and overlay_root for this machine"
        )
    files: dict[str, dict[tuple[float, str], Path]] = {}
    for root in local:
        for file in sorted(root.glob("ExperimentRuns/*/VoxelSpacing*/*.zarr")):
            if stated := re.fullmatch(r"VoxelSpacing(\d+(\.\d+)?)", file.parent.name):
                files.setdefault(file.parent.parent.name, {})[float(stated[1]), file.stem] = file
    return files


def _local_folder(config: Path, root: str) -> Path | None:
    """The folder behind a root; None where it is remote."""
    if "://" in root and not root.startswith(("local://", "file://")):
        return None
    folder = Path(re.sub(r"^(local|file)://", "", root))
    return folder if folder.is_absolute() else config.parent / folder

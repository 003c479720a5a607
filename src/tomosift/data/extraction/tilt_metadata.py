"""Tilt angles from files that lie beside a tomogram."""

from collections.abc import Callable, Iterable
from pathlib import Path

from tomosift.acquisition import Acquisition
from tomosift.errors import FormatError
from tomosift.io.tilt_series import read_acquisition
from tomosift.io.tomogram_names import canonical_name

TILT_SUFFIXES = (".aln", ".tlt", ".xml", ".mdoc", ".rawtlt")
"""In order of trust: angles that an alignment wrote come before those requested from the microscope."""


def find_acquisitions(paths: Iterable[Path], report: Callable[[str], None] | None = None) -> dict[Path, Acquisition]:
    """Return the acquisition of each tomogram that has a tilt file of its name in its folder, or the folder above.

    The folder above is where Warp keeps the tilt series of ``reconstruction/``. Names are compared by `canonical_name`.
    Files of another content are skipped.

    Parameters
    ----------
    paths
        Volumes of the tomograms.
    report
        Called with a sentence about files that were used or skipped.
    """
    report = report or (lambda sentence: None)
    files_of: dict[Path, dict[str, list[Path]]] = {}
    acquisitions: dict[Path, Acquisition] = {}
    used: list[Path] = []
    for path in paths:
        for folder in (path.parent, path.absolute().parent.parent):
            if folder not in files_of:
                files_of[folder] = _tilt_files(folder)
            if path not in acquisitions:
                for file in files_of[folder].get(canonical_name(path.name), []):
                    try:
                        acquisitions[path] = read_acquisition(file)
                    except FormatError as error:
                        report(f"{error}; it was passed over")
                    else:
                        used.append(file)
                        break
    if used:
        report(f"tilt angles of {len(used)} tomograms are from files beside them, for example {used[0]}")
    return acquisitions


def _tilt_files(folder: Path) -> dict[str, list[Path]]:
    """Tilt files of a folder by canonical name, in order of trust."""
    files: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in TILT_SUFFIXES and file.is_file():
            files.setdefault(canonical_name(file.stem.removesuffix(".st")), []).append(file)
    for candidates in files.values():
        candidates.sort(key=lambda file: TILT_SUFFIXES.index(file.suffix.lower()))
    return files

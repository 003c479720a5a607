"""Tilt angles from files that lie beside a tomogram."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from tomosift.acquisition import Acquisition
from tomosift.errors import FormatError
from tomosift.io.tilt_series import read_acquisition
from tomosift.io.tomogram_names import canonical_name

TILT_SUFFIXES = (".aln", ".tlt", ".xml", ".mdoc", ".rawtlt")
"""In order of trust: angles that an alignment wrote come before those requested from the microscope."""


def find_acquisitions(paths: Mapping[str, Path], report: Callable[[str], None] | None = None) -> dict[str, Acquisition]:
    """Return the acquisition of each tomogram that has a tilt file of its name in its folder, or the folder above.

    The folder above is where Warp keeps the tilt series of ``reconstruction/``. It is left out for tomograms of one
    name in several of its folders, for its files may belong to any of them. Names are compared by `canonical_name`.
    Files of another content are skipped.

    Parameters
    ----------
    paths
        Volumes of the tomograms by name.
    report
        Called with a sentence about files that were used or skipped.
    """
    report = report or (lambda sentence: None)
    files_of: dict[Path, dict[str, list[Path]]] = {}
    acquisitions: dict[str, Acquisition] = {}
    used: list[Path] = []
    cores = {key: tuple(dict.fromkeys(map(canonical_name, (path.name, key)))) for key, path in paths.items()}
    folders = {key: path.absolute().parent for key, path in paths.items()}
    named = {(folder, cores[key]) for key, folder in folders.items()}
    namesakes = Counter((folder.parent, names) for folder, names in named)
    for key, folder in folders.items():
        is_alone = namesakes[folder.parent, cores[key]] == 1
        for place in (folder, folder.parent) if is_alone else (folder,):
            if place not in files_of:
                files_of[place] = _tilt_files(place)
            for file in (file for core in cores[key] for file in files_of[place].get(core, [])):
                if key in acquisitions:
                    break
                try:
                    acquisitions[key] = read_acquisition(file)
                except FormatError as error:
                    report(f"{error}; it was passed over")
                else:
                    used.append(file)
    if used:
        report(f"tilt angles of {len(used)} tomograms are from files beside them, for example {used[0]}")
    return acquisitions


def _tilt_files(folder: Path) -> dict[str, list[Path]]:
    """Tilt files of a folder by canonical name, in order of trust."""
    files: dict[str, list[Path]] = {}
    try:
        inside = sorted(folder.iterdir())
    except OSError:  # a folder above need not be readable
        return files
    for file in inside:
        if file.suffix.lower() in TILT_SUFFIXES and file.is_file():
            files.setdefault(canonical_name(file.stem.removesuffix(".st")), []).append(file)
    for candidates in files.values():
        candidates.sort(key=lambda file: TILT_SUFFIXES.index(file.suffix.lower()))
    return files

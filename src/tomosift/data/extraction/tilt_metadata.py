"""Tilt angles from files that lie beside a tomogram."""

from collections.abc import Callable, Iterable
from pathlib import Path

from tomosift.acquisition import Acquisition
from tomosift.data.extraction.tomograms import canonical_name
from tomosift.errors import FormatError
from tomosift.io.tomogram_tables import read_acquisition

TILT_SUFFIXES = (".aln", ".tlt", ".xml", ".mdoc", ".rawtlt")
"""In the order in which they are believed: what an alignment left before what the microscope was told."""


def acquisitions_beside(paths: Iterable[Path], tell: Callable[[str], None] | None = None) -> dict[Path, Acquisition]:
    """Acquisition of each tomogram that has a tilt file of its name in its folder, or in the folder above.

    The folder above is where Warp keeps the tilt series of ``reconstruction/``. Names are compared without what
    programs put around them (see `canonical_name`). Files that turn out to be something else are passed over.
    """
    say = tell or (lambda sentence: None)
    listings: dict[Path, dict[str, list[Path]]] = {}
    found: dict[Path, Acquisition] = {}
    used: list[Path] = []
    for path in paths:
        for folder in (path.parent, path.absolute().parent.parent):
            if folder not in listings:
                listings[folder] = _tilt_files(folder)
            if path not in found:
                for file in listings[folder].get(canonical_name(path.name), []):
                    try:
                        found[path] = read_acquisition(file)
                    except FormatError as error:
                        say(f"{error}; it was passed over")
                    else:
                        used.append(file)
                        break
    if used:
        say(f"tilt angles of {len(used)} tomograms are from files beside them, for example {used[0]}")
    return found


def _tilt_files(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in TILT_SUFFIXES and file.is_file():
            files.setdefault(canonical_name(file.stem.removesuffix(".st")), []).append(file)
    for candidates in files.values():
        candidates.sort(key=lambda file: TILT_SUFFIXES.index(file.suffix.lower()))
    return files

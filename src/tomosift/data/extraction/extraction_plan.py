"""The checked request behind an extraction, and the provenance by which its set is recognized."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tomosift
from tomosift.data.extraction.tomograms import Tomogram, match_tomograms
from tomosift.data.set_files import REQUEST_FILE, SET_FILE, list_differences, read_set_file, remove_set
from tomosift.files import content_digest
from tomosift.particles import Particles

BOX_SIZES = (4, 256)
MAX_SPACING_ANGSTROM = 1000.0
RESAMPLING = "slice where spacing and center fit the voxels, else band-limited resampling in Fourier space"


@dataclass(frozen=True, eq=False)
class ExtractionPlan:
    """What an extraction will do, checked."""

    tomograms: dict[str, Tomogram]
    """Those that hold particles."""
    tomogram_key: NDArray[Any]
    """(n,) key of the tomogram of each particle."""
    has_halves: bool
    """Whether half tomograms are cropped as well."""
    provenance: dict[str, Any]
    """JSON values by which a finished set is recognized as the result of this request."""


def plan_extraction(
    particles: Particles,
    tomograms: Mapping[str, Tomogram],
    borders: str,
    halves: bool | None,
    class_names: tuple[str, ...] | None,
) -> ExtractionPlan:
    """Check the arguments of `extract` and return what it will do.

    Raises
    ------
    ValueError
        See `extract`.
    """
    if not len(particles):
        raise ValueError("there are no particles to extract; check the particle table")
    if borders not in ("pad", "drop"):
        raise ValueError(f"borders is {borders!r}, expected 'pad' or 'drop'")
    key_of = match_tomograms([str(name) for name in particles.tomogram], tomograms)
    used = {key: tomograms[key] for key in dict.fromkeys(key_of.values())}
    without = [key for key, tomogram in used.items() if tomogram.half_paths is None]
    if halves and without:
        raise ValueError(f"{len(without)} tomograms have no half tomograms, for example {without[0]!r}; set halves off")
    has_halves = not without if halves is None else halves
    provenance = {
        "made_by": "extract",
        "version": tomosift.__version__,
        "borders": borders,
        "halves": has_halves,
        "class_names_asked": None if class_names is None else list(class_names),
        "resampling": RESAMPLING,
        "particles": particle_digest(particles),
        "tomograms": {key: _describe(tomogram) for key, tomogram in used.items()},
    }
    tomogram_key = np.asarray([key_of[str(name)] for name in particles.tomogram], dtype=object)
    return ExtractionPlan(used, tomogram_key, has_halves, provenance)


def check_settings(box_size: int, voxel_spacing_angstrom: float) -> None:
    """Refuse a box size or voxel spacing that no later stage could use, before any work.

    Raises
    ------
    ValueError
        The box is smaller than 4 or larger than 256 voxels, or the voxel spacing is no positive number.
    """
    low, high = BOX_SIZES
    if not low <= box_size <= high:
        raise ValueError(f"box size is {box_size} voxels, expected {low} to {high}; 1.5 to 2.5 particle diameters work")
    if not 0 < voxel_spacing_angstrom < MAX_SPACING_ANGSTROM:
        raise ValueError(
            f"voxel spacing is {voxel_spacing_angstrom:g} A, expected more than 0 and less than "
            f"{MAX_SPACING_ANGSTROM:g} A"
        )


def prepare_folder(path: Path, request: Mapping[str, Any], remake: bool) -> None:
    """Refuse a folder with a set of another request, or remove that set.

    Parameters
    ----------
    path
        Folder of the set.
    request
        Values that the record of the set must hold.
    remake
        Remove a set of another request.

    Raises
    ------
    ValueError
        The folder holds a finished set of another request; the message lists what differs.
    """
    if remake and (path / REQUEST_FILE).exists():
        remove_set(path)
    if not (path / SET_FILE).exists():
        return
    description = read_set_file(path)
    differences = list_differences({**description.get("provenance", {}), **description}, request)
    if differences and not remake:
        raise ValueError(
            f"{path} already holds a finished set of other input: {'; '.join(differences)}; --remake makes it again, "
            "or choose another folder"
        )
    if differences:
        remove_set(path)


def particle_digest(particles: Particles) -> str:
    """Return a fingerprint of the particles, by which a resumed extraction recognizes its own folder."""
    digest = hashlib.sha256()
    for name in ("particle_id", "tomogram", "class_name"):
        digest.update("\0".join(map(str, getattr(particles, name))).encode())
    digest.update(np.ascontiguousarray(particles.position_zyx_angstrom).tobytes())
    digest.update(np.ascontiguousarray(particles.rotation).tobytes())
    return digest.hexdigest()


def _describe(tomogram: Tomogram) -> dict[str, Any]:
    low, high = tomogram.acquisition.tilt_range_deg
    return {
        "path": str(tomogram.path),
        "shape_zyx": list(tomogram.grid.shape_zyx),
        "voxel_spacing_angstrom": tomogram.grid.voxel_spacing_angstrom,
        "inverted": tomogram.is_inverted,
        "tilt_range_deg": [low, high],
        "tilt_range_assumed": tomogram.acquisition.tilt_angles_deg.size == 0,
        "content": content_digest([tomogram.path, *(tomogram.half_paths or ())]),
    }

"""The checked request behind an extraction, and the provenance by which its set is recognized."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tomosift
from tomosift.data.extraction.tomograms import Tomogram, match_tomograms
from tomosift.particles import Particles

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
    }

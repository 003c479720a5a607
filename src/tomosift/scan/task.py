"""One tomogram, scanned on any machine: a task of `tomosift.jobs`, whose result is a file that says what it is of."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomosift.data.tomograms import Tomogram
from tomosift.errors import FormatError
from tomosift.files import written_then_renamed
from tomosift.io.volumes import open_volume
from tomosift.io.zarr import write_volume
from tomosift.nn.classifier import load_classifier, model_digest
from tomosift.nn.inference import usable_device
from tomosift.particles import Particles
from tomosift.scan.scanner import particles_of, scan


@dataclass(frozen=True, eq=False)
class ScanTask:
    """What to look for in which tomogram."""

    tomogram: Tomogram
    model: Path
    """Run or folder of a detector."""
    out: Path
    """Folder of the results of all tomograms."""
    radius_angstrom: dict[str, float]
    """Of the particles of each class; see `tomosift.scan.peaks`."""
    least_probability: float
    stride: int | None = None
    """Voxels of the model between places."""
    mask: Path | None = None
    """Volume on the grid of the tomogram, zero where nothing is to be found."""
    maps: bool = False
    """Also write the maps themselves."""

    @property
    def result(self) -> Path:
        """File of the particles found."""
        return self.out / "found" / f"{_file_name(self.tomogram.name)}.npz"

    @property
    def map_path(self) -> Path:
        """OME-Zarr of the probability of the most probable class at every place."""
        return self.out / "maps" / f"{_file_name(self.tomogram.name)}.zarr"

    @property
    def request(self) -> dict[str, Any]:
        """All that the result depends on."""
        return {
            "tomogram": _state(self.tomogram.path),
            "voxel_spacing_angstrom": self.tomogram.grid.voxel_spacing_angstrom,
            "inverted": self.tomogram.inverted,
            "model": model_digest(self.model),
            "radius_angstrom": self.radius_angstrom,
            "least_probability": self.least_probability,
            "stride": self.stride,
            "mask": None if self.mask is None else _state(self.mask),
        }


def run_task(task: ScanTask, done: Callable[[int, int], None] | None = None) -> Path:
    """Scan a tomogram unless that has been done, and write what was found; returns the file.

    Raises
    ------
    ValueError
        When the tomogram was replaced meanwhile, or see `tomosift.scan.scanner.scan`.
    """
    request = task.request
    if _request_of(task.result) == request and (not task.maps or task.map_path.exists()):
        return task.result
    mask = None if task.mask is None else open_volume(task.mask).data
    classifier = load_classifier(task.model).to(usable_device())
    found = scan(classifier, task.tomogram, task.stride, mask, done)
    particles = particles_of(found, task.tomogram.name, task.radius_angstrom, task.least_probability)
    if _state(task.tomogram.path) != request["tomogram"]:
        raise ValueError(f"{task.tomogram.path} was replaced while it was scanned; give the same command again")
    if task.maps:
        write_volume(task.map_path, found.probability, found.lattice.spacing_angstrom)
    with written_then_renamed(task.result) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            position_zyx_angstrom=particles.position_zyx_angstrom,
            class_name=particles.class_name.astype(str),
            score=particles.score,
            request=np.array(json.dumps(request)),
        )
    return task.result


def read_result(task: ScanTask) -> Particles:
    """The particles that were found in a tomogram.

    Raises
    ------
    FormatError
        The result is missing or broken.
    """
    try:
        with np.load(task.result, allow_pickle=False) as kept:
            return Particles.create(
                tomogram=[task.tomogram.name] * len(kept["score"]),
                position_zyx_angstrom=kept["position_zyx_angstrom"],
                class_name=kept["class_name"].astype(object),
                score=kept["score"],
            )
    except (OSError, ValueError, KeyError) as error:
        raise FormatError(
            task.result, "content", f"unreadable ({error})", "what a scan found", "delete it and scan again"
        ) from None


def _request_of(path: Path) -> Any:
    try:
        with np.load(path, allow_pickle=False) as kept:
            return json.loads(str(kept["request"]))
    except (OSError, ValueError, KeyError):
        return None


def _state(path: Path) -> list[Any]:
    """Name, size and time of last change of a file, or of the newest file of a folder."""
    files = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
    stats = [part.stat() for part in files]
    return [str(path.resolve()), sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)]


def _file_name(tomogram: str) -> str:
    """A name without folders: tomograms of a project may be called by their path."""
    return tomogram.replace("/", "__").replace("\\", "__")

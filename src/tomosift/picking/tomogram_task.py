"""One tomogram, scanned on any machine: a task of `tomosift.jobs`, whose result is a file that says what it is of."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomosift.data.extraction.tomograms import Tomogram
from tomosift.errors import FormatError
from tomosift.files import file_state
from tomosift.inference.classifier import load_classifier, model_digest
from tomosift.inference.prediction import usable_device
from tomosift.io.volumes import open_volume
from tomosift.io.volumes.zarr import read_provenance, write_volume
from tomosift.particles import Particles
from tomosift.picking.detection import detect, extract_picks
from tomosift.picking.kept import read_arrays, write_arrays


@dataclass(frozen=True, eq=False)
class PickingTask:
    """What to look for in which tomogram."""

    tomogram: Tomogram
    model: Path
    """Run or folder of a detector."""
    out: Path
    """Folder of the results of all tomograms."""
    radius_angstrom: dict[str, float]
    """Of the particles of each class; see `tomosift.picking.non_maximum_suppression`."""
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
            "tomogram": file_state(self.tomogram.path),
            "voxel_spacing_angstrom": self.tomogram.grid.voxel_spacing_angstrom,
            "inverted": self.tomogram.inverted,
            "model": model_digest(self.model),
            "radius_angstrom": self.radius_angstrom,
            "least_probability": self.least_probability,
            "stride": self.stride,
            "mask": None if self.mask is None else file_state(self.mask),
        }


def run_task(task: PickingTask, done: Callable[[int, int], None] | None = None) -> Path:
    """Scan a tomogram unless that has been done, and write what was found; returns the file.

    Raises
    ------
    ValueError
        When the tomogram, mask or model was replaced meanwhile, or see `tomosift.picking.detection.detect`.
    """
    request = task.request
    if _request_of(task.result) == request and (not task.maps or _map_request(task.map_path) == request):
        return task.result
    shape, expected = task.tomogram.open().shape_zyx, task.tomogram.grid.shape_zyx
    if shape != expected:
        raise ValueError(
            f"{task.tomogram.path} has {shape} voxels, expected {expected} as when it was opened; it was replaced: "
            "give the same command again"
        )
    mask = None if task.mask is None else open_volume(task.mask).data
    classifier = load_classifier(task.model).to(usable_device())
    found = detect(classifier, task.tomogram, task.stride, mask, done)
    particles = extract_picks(found, task.tomogram.name, task.radius_angstrom, task.least_probability)
    if task.request != request:
        raise ValueError(
            f"{task.tomogram.path}, its mask or the model was replaced during the scan; give the same command again"
        )
    if task.maps:
        write_volume(task.map_path, found.probability, found.lattice.spacing_angstrom, provenance=request)
    write_arrays(
        task.result,
        position_zyx_angstrom=particles.position_zyx_angstrom,
        class_name=particles.class_name.astype(str),
        score=particles.score,
        request=np.array(json.dumps(request)),
    )
    return task.result


def read_result(task: PickingTask) -> Particles:
    """The particles that were found in a tomogram.

    Raises
    ------
    FormatError
        The result is missing, broken, or that of another task: two scans write into one folder.
    """
    kept = read_arrays(task.result)
    try:
        request = json.loads(str(kept["request"]))
        particles = Particles.create(
            tomogram=[task.tomogram.name] * len(kept["score"]),
            position_zyx_angstrom=kept["position_zyx_angstrom"],
            class_name=kept["class_name"].astype(object),
            score=kept["score"],
        )
    except (ValueError, KeyError) as error:
        raise FormatError(
            task.result, "content", f"odd ({error})", "what a scan found", "delete it and scan again"
        ) from None
    if request != task.request:
        raise FormatError(
            task.result,
            "request",
            "that of another scan",
            "this one's; the tomogram was replaced, or another scan writes into the folder",
            "give the same command again when that has ended, or another --out",
        )
    return particles


def _request_of(path: Path) -> Any:
    try:
        return json.loads(str(read_arrays(path)["request"]))
    except (ValueError, KeyError):
        return None


def _map_request(path: Path) -> Any:
    try:
        return read_provenance(path)
    except FormatError:
        return None


def _file_name(tomogram: str) -> str:
    """A name without folders: tomograms of a project may be called by their path."""
    return tomogram.replace("/", "__").replace("\\", "__")

"""Particle picking in one tomogram on any machine: a task whose result file states what it was made from.

`tomosift.compute.engine.for_each` runs such tasks in processes or on a cluster.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomosift.data.extraction.tomograms import Tomogram
from tomosift.errors import FormatError
from tomosift.files import file_state, read_arrays, write_arrays
from tomosift.inference.model_files import load_classifier, model_digest
from tomosift.inference.prediction import usable_device
from tomosift.io.volumes import open_volume
from tomosift.io.volumes.zarr import read_provenance, write_volume
from tomosift.particles import Particles
from tomosift.picking.detection import detect, extract_picks
from tomosift.progress import Progress, ignore_progress

_REPEAT = "delete it and repeat the command"


@dataclass(frozen=True, eq=False)
class PickingTask:
    """Which particles to find in which tomogram."""

    tomogram: Tomogram
    model: Path
    """Run or model folder of a detector."""
    out: Path
    """Folder for the results of all tomograms."""
    radius_angstrom: dict[str, float]
    """Particle radius of each class; see `tomosift.picking.non_maximum_suppression`."""
    min_confidence: float
    """Particles with a lower probability are left out."""
    stride: int | None = None
    """Voxels of the detector between grid points; by default the finest grid without further cost."""
    mask: Path | None = None
    """Volume on the voxel grid of the tomogram; no particle is detected where it is zero."""
    writes_map: bool = False
    """Whether to write the detection map as well."""

    @property
    def result_path(self) -> Path:
        """File of the detected particles."""
        return self.out / "found" / f"{_file_name(self.tomogram.name)}.npz"

    @property
    def map_path(self) -> Path:
        """OME-Zarr of the probability of the most probable class at every grid point."""
        return self.out / "maps" / f"{_file_name(self.tomogram.name)}.zarr"

    @property
    def request(self) -> dict[str, Any]:
        """Everything that the result depends on, as JSON; result files hold it."""
        return {
            "tomogram": file_state(self.tomogram.path),
            "voxel_spacing_angstrom": self.tomogram.grid.voxel_spacing_angstrom,
            "inverted": self.tomogram.is_inverted,
            "model": model_digest(self.model),
            "radius_angstrom": self.radius_angstrom,
            "least_probability": self.min_confidence,
            "stride": self.stride,
            "mask": None if self.mask is None else file_state(self.mask),
        }


def run_task(task: PickingTask, progress: Progress = ignore_progress) -> Path:
    """Pick the particles of a tomogram and write them, unless the result is there already; return its file.

    Parameters
    ----------
    task
        Tomogram, detector and settings.
    progress
        Called with the number of finished blocks.

    Raises
    ------
    ValueError
        When the tomogram, the mask or the model was replaced meanwhile; see also `tomosift.picking.detection.detect`.
    """
    request = task.request
    has_map = not task.writes_map or _read_map_request(task.map_path) == request
    if has_map and _read_request(task.result_path) == request:
        return task.result_path
    shape, expected = task.tomogram.open().shape_zyx, task.tomogram.grid.shape_zyx
    if shape != expected:
        raise ValueError(
            f"{task.tomogram.path} has {shape} voxels, expected {expected} as when it was opened; it was replaced: "
            "give the same command again"
        )
    mask = None if task.mask is None else open_volume(task.mask).data
    classifier = load_classifier(task.model).to(usable_device())
    detections = detect(classifier, task.tomogram, task.stride, mask, progress)
    particles = extract_picks(detections, task.tomogram.name, task.radius_angstrom, task.min_confidence)
    if task.request != request:
        raise ValueError(
            f"{task.tomogram.path}, its mask or the model was replaced during picking; give the same command again"
        )
    if task.writes_map:
        write_volume(task.map_path, detections.probability, detections.grid.spacing_angstrom, provenance=request)
    write_arrays(
        task.result_path,
        position_zyx_angstrom=particles.position_zyx_angstrom,
        class_name=particles.class_name.astype(str),
        score=particles.score,
        request=np.array(json.dumps(request)),
    )
    return task.result_path


def read_result(task: PickingTask) -> Particles:
    """Read the particles that were detected in a tomogram.

    Raises
    ------
    FormatError
        When the result is missing, broken, or that of another task, as where two commands write into one folder.
    """
    arrays = read_arrays(task.result_path, _REPEAT, ("request", "position_zyx_angstrom", "class_name", "score"))
    try:
        request = json.loads(str(arrays["request"]))
        particles = Particles.create(
            tomogram=[task.tomogram.name] * len(arrays["score"]),
            position_zyx_angstrom=arrays["position_zyx_angstrom"],
            class_name=arrays["class_name"].astype(object),
            score=arrays["score"],
        )
    except ValueError as error:
        expected = "a particle table and its request"
        raise FormatError(task.result_path, "content", f"inconsistent ({error})", expected, _REPEAT) from None
    if request != task.request:
        raise FormatError(
            task.result_path,
            "request",
            "that of another command",
            "that of this one; the tomogram was replaced, or another command writes into the folder",
            "give the same command again when that has ended, or another --out",
        )
    return particles


def _read_request(path: Path) -> Any:
    """Return the request that a result was made from, or None where there is no readable result."""
    try:
        return json.loads(str(read_arrays(path, _REPEAT, ("request",))["request"]))
    except ValueError:
        return None


def _read_map_request(path: Path) -> Any:
    """Return the request that a detection map was made from, or None where there is no readable map."""
    try:
        return read_provenance(path)
    except FormatError:
        return None


def _file_name(tomogram: str) -> str:
    """Return a file name without folders: tomograms of a project may be named by their path."""
    return tomogram.replace("/", "__").replace("\\", "__")

"""Opening what a user names on the command line."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tomosift.acquisition import Acquisition
from tomosift.cli.terminal import print_message
from tomosift.data.extraction.tomogram_sources import open_tomograms
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.data.labels import transfer_labels
from tomosift.data.set_reader import Subtomograms
from tomosift.io.particles import read_particles
from tomosift.particles import Grid, Particles


def tomograms_of(
    paths: Sequence[Path],
    voxel_spacing: float | None,
    inverted: bool,
    tilt_range: tuple[float, float] | None,
) -> dict[str, Tomogram]:
    """Tomograms by name from files, one folder, one table or one copick project."""
    if not paths:
        raise ValueError("no tomogram was given; name files, a folder or a tomograms.star with --tomograms")
    source: Path | list[Path] = paths[0] if len(paths) == 1 else list(paths)
    found = open_tomograms(source, voxel_spacing, inverted, tell=print_message)
    if tilt_range is not None:
        low_high = np.array(sorted(tilt_range), dtype=float)
        stated = Acquisition(low_high, np.zeros(0), np.zeros(0))
        found = {name: replace(tomogram, acquisition=stated) for name, tomogram in found.items()}
    assumed = [name for name, tomogram in found.items() if tomogram.acquisition.tilt_angles_deg.size == 0]
    if assumed:
        print_message(
            f"note: no tilt angles were found for {len(assumed)} of {len(found)} tomograms, so -60 to 60 degrees are "
            "assumed; state others with --tilt-range"
        )
    return found


def check_spacing(boxes: Subtomograms, model: Path, spacing: float) -> None:
    """Refuse a set of another voxel spacing than a model with classes was trained at.

    Raises
    ------
    ValueError
        When they differ by more than one percent.
    """
    if abs(boxes.voxel_spacing_angstrom - spacing) > 0.01 * spacing:
        raise ValueError(
            f"voxel spacing of {boxes.path} is {boxes.voxel_spacing_angstrom:.2f} A but {model} was trained at "
            f"{spacing:.2f} A; extract with --voxel-spacing {spacing:g}"
        )


def set_grids(subtomograms: Subtomograms) -> dict[str, Grid]:
    """Voxel grids of the tomograms that a set was cut from, as far as it remembers them."""
    described = subtomograms.provenance.get("tomograms", {})
    return {
        name: Grid(tuple(entry["shape_zyx"]), float(entry["voxel_spacing_angstrom"]))
        for name, entry in described.items()
        if "shape_zyx" in entry
    }


def read_labels(path: Path, column: str | None, voxel_spacing: float | None, grids: Mapping[str, Grid]) -> Particles:
    """Particles with a class from a label file; ``column`` names another column to take the class from."""
    labels = read_particles(path, voxel_spacing_angstrom=voxel_spacing, grids=grids)
    if column is None:
        return labels
    if column not in labels.columns:
        raise ValueError(f"{path} has no column {column}; it has {', '.join(map(str, labels.columns.columns))}")
    return replace(labels, class_name=np.array([str(value) for value in labels.columns[column]], dtype=object))


def labeled_set(
    subtomograms: Subtomograms, path: Path, column: str | None, voxel_spacing: float | None, tolerance: float
) -> Subtomograms:
    """The set with the labels of a file, and nothing but those."""
    labels = read_labels(path, column, voxel_spacing, set_grids(subtomograms))
    return subtomograms.with_labels(transfer_labels(subtomograms.particles, labels, tolerance))

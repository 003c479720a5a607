"""Whole data sets of simulated tomograms on disk, in the form users bring their own: MRC volumes and RELION 5 tables.

::

    folder/
      simulation.json           the configuration
      tomograms.star            sizes, spacing, paths of the reconstructions and their halves
      tilt_series/<name>.star   tilt angles, dose, defocus
      tomograms/<name>.mrc      and <name>_half1.mrc, <name>_half2.mrc
      particles.star            the picks: with picking errors, without classes
      particles_truth.star      the same rows with exact positions and classes
      truth/<name>.csv          the ground truth that both particle files are made from
      labels/<name>_classes.mrc, <name>_instances.mrc
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from tomosift.files import write_json
from tomosift.io.particles.relion import write_particles
from tomosift.io.star_text import write_star
from tomosift.io.volumes import write_volume
from tomosift.particles import Particles
from tomosift.progress import Progress, ignore_progress
from tomosift.simulation.dataset_config import TomogramDatasetConfig, class_name_of, read_config
from tomosift.simulation.dataset_tables import (
    RELION_VERSION,
    read_truth,
    tilt_series_table,
    tomogram_table,
    truth_table,
    write_truth,
)
from tomosift.simulation.specimen import Specimen, build_specimen
from tomosift.simulation.structures.densities import template
from tomosift.simulation.tilt_series import SimulatedTomogram, record_tilt_series

__all__ = [
    "DatasetPaths",
    "TomogramDatasetConfig",
    "build_tomogram_specimen",
    "half_path",
    "load_templates",
    "read_config",
    "simulate_dataset",
    "write_label_table",
]


@dataclass(frozen=True)
class DatasetPaths:
    """Paths of the files of a data set."""

    folder: Path
    tomograms: Path
    """tomograms.star"""
    particles: Path
    """particles.star, the picks"""
    particles_truth: Path
    """particles_truth.star"""
    volumes: Mapping[str, Path]
    """Tomogram name -> its reconstruction."""

    @classmethod
    def of(cls, folder: Path, names: tuple[str, ...]) -> "DatasetPaths":
        """Return the paths of a data set with these tomograms."""
        return cls(
            folder=folder,
            tomograms=folder / "tomograms.star",
            particles=folder / "particles.star",
            particles_truth=folder / "particles_truth.star",
            volumes={name: folder / "tomograms" / f"{name}.mrc" for name in names},
        )


def simulate_dataset(
    config: TomogramDatasetConfig, folder: Path | str, progress: Progress | None = None
) -> DatasetPaths:
    """Simulate a data set of tomograms into ``folder``; tomograms that exist already are kept.

    Every tomogram is a function of the configuration, its seed and its own number. A data set that was interrupted or
    enlarged later therefore equals one that was simulated at once.

    Parameters
    ----------
    config
        Specimens, microscope and files.
    folder
        Folder of the data set.
    progress
        Counts tomograms; the note is the name of the last one.

    Raises
    ------
    ValueError
        The folder holds a data set of another configuration (only ``tomograms`` may differ), a class is neither in the
        atlas nor a file, or a structure does not fit into ``template_extent_angstrom`` or the slab.
    """
    folder = Path(folder)
    paths = DatasetPaths.of(folder, config.tomogram_names)
    report = progress or ignore_progress
    for task in tomogram_tasks(config, folder):
        simulate_tomogram(task)
        report(task.number + 1, config.tomograms, config.tomogram_names[task.number])
    _write_tables(config, paths)
    return paths


@dataclass(frozen=True)
class TomogramTask:
    """One tomogram of a data set, which any machine with access to the folder can simulate."""

    config: TomogramDatasetConfig
    folder: Path
    number: int
    """0 is the first."""


def tomogram_tasks(config: TomogramDatasetConfig, folder: Path) -> list[TomogramTask]:
    """Write the configuration into the folder and return one task per tomogram; see `simulate_dataset`."""
    _claim(folder, config)
    return [TomogramTask(config, folder, number) for number in range(config.tomograms)]


def simulate_tomogram(task: TomogramTask) -> Path:
    """Simulate a tomogram unless it exists; return the path of its reconstruction."""
    paths = DatasetPaths.of(task.folder, task.config.tomogram_names)
    volume = paths.volumes[task.config.tomogram_names[task.number]]
    if not volume.exists():
        _simulate_one(task.config, load_templates(task.config), task.number, paths)
    return volume


@lru_cache(maxsize=1)
def load_templates(config: TomogramDatasetConfig) -> dict[str, Float[Tensor, "d d d"]]:
    """Load the density of every class, the picked classes first."""
    box_size = 2 * int(np.ceil(0.5 * config.template_extent_angstrom / config.voxel_spacing_angstrom))
    return {
        class_name_of(source): template(source, config.voxel_spacing_angstrom, box_size)
        for source in (*config.classes, *config.distractors)
    }


def build_tomogram_specimen(
    config: TomogramDatasetConfig, templates: Mapping[str, Float[Tensor, "_ _ _"]], number: int
) -> tuple[Specimen, np.random.Generator]:
    """Build the specimen of one tomogram (0 is the first); return it and the generator for its imaging.

    Raises
    ------
    ValueError
        No particle of a class finds room.
    """
    rng = np.random.default_rng([config.seed, number])
    picked = dict.fromkeys(config.class_names, config.particles_per_class)
    others = dict.fromkeys(map(class_name_of, config.distractors), config.distractors_per_class)
    specimen = build_specimen(
        templates,
        {**picked, **others},
        config.shape_zyx,
        config.voxel_spacing_angstrom,
        rng=rng,
        name=config.tomogram_names[number],
        gap_angstrom=config.gap_angstrom,
        membranes_and_gold=config.membranes_and_gold,
    )
    absent = [name for name, left in specimen.unplaced.items() if left == {**picked, **others}[name]]
    if absent:
        raise ValueError(
            f"no room for a single {' or '.join(absent)} in a slab of {config.shape_zyx} voxels (z, y, x); "
            "increase shape_zyx or reduce the number of particles"
        )
    return specimen, rng


def _claim(folder: Path, config: TomogramDatasetConfig) -> None:
    """Write the configuration into the folder, or check that the folder holds the same one."""
    path = folder / "simulation.json"
    settings = json.loads(json.dumps(asdict(config)))
    if path.exists():
        stored = json.loads(path.read_text())
        differing = [f.name for f in fields(config) if f.name != "tomograms" and stored.get(f.name) != settings[f.name]]
        if differing:
            values = "; ".join(f"{name} is {stored.get(name)}, expected {settings[name]}" for name in differing)
            raise ValueError(f"{folder} holds a data set of other settings ({values}); choose another folder")
    write_json(path, settings)


def _simulate_one(
    config: TomogramDatasetConfig, templates: Mapping[str, Float[Tensor, "_ _ _"]], number: int, paths: DatasetPaths
) -> None:
    name = config.tomogram_names[number]
    specimen, rng = build_tomogram_specimen(config, templates, number)
    tomogram = record_tilt_series(specimen, config.series(float(rng.uniform(*config.defocus_range_um))), rng=rng)
    truth = truth_table(specimen, config.class_names, config.pick_jitter_angstrom, rng)
    write_truth(paths.folder / "truth" / f"{name}.csv", truth)
    series = {name: tilt_series_table(tomogram.acquisition)}
    write_star(paths.folder / "tilt_series" / f"{name}.star", series, RELION_VERSION)
    if config.labels:
        _write_labels(specimen, paths.folder / "labels", name)
    _write_reconstructions(config, tomogram, paths.volumes[name])


def _write_labels(specimen: Specimen, folder: Path, name: str) -> None:
    # MRC has no 32-bit integers; a slab holds far fewer than 32767 particles.
    for kind, labels in (("classes", specimen.class_labels), ("instances", specimen.instance_labels)):
        write_volume(folder / f"{name}_{kind}.mrc", labels.astype(np.int16), specimen.voxel_spacing_angstrom)


def _write_reconstructions(config: TomogramDatasetConfig, tomogram: SimulatedTomogram, path: Path) -> None:
    """Write the halves, then the full tomogram, which marks a tomogram as complete; all scaled to unit variance."""
    full = tomogram.full
    scale = np.float32((-1 if config.dark_on_disk else 1) / full.std(dtype=np.float64))
    if config.halves:
        for number, half in enumerate(tomogram.halves, start=1):
            write_volume(half_path(path, number), half * scale, config.voxel_spacing_angstrom)
    write_volume(path, full * scale, config.voxel_spacing_angstrom)


def half_path(path: Path, number: int) -> Path:
    """Return the path of half 1 or 2 of a tomogram."""
    return path.with_name(f"{path.stem}_half{number}{path.suffix}")


def _write_tables(config: TomogramDatasetConfig, paths: DatasetPaths) -> None:
    picks, truth = _picks_and_truth(config, paths.folder)
    grids = dict.fromkeys(config.tomogram_names, config.grid)
    write_particles(paths.particles, picks, grids=grids, dialect="relion5")
    write_particles(paths.particles_truth, truth, grids=grids, dialect="relion5")
    table = tomogram_table(config.tomogram_names, config.grid, config.series(0.0), config.halves)
    write_star(paths.tomograms, {"global": table}, RELION_VERSION)


def _picks_and_truth(config: TomogramDatasetConfig, folder: Path) -> tuple[Particles, Particles]:
    picks, truth = read_truth([folder / "truth" / f"{name}.csv" for name in config.tomogram_names])
    if not config.pick_angles:
        picks = picks.with_geometry(rotation=np.full_like(picks.rotation, np.nan))
    return picks, truth.with_columns(_class_columns(config, truth.class_name))


def _class_columns(config: TomogramDatasetConfig, class_name: NDArray[Any]) -> dict[str, NDArray[Any]]:
    number = {name: k + 1 for k, name in enumerate(config.class_names)}
    return {"rlnClassNumber": np.asarray([number[name] for name in class_name], dtype=int), "tomosiftClass": class_name}


def write_label_table(
    folder: Path | str, path: Path, per_class: int, *, seed: int = 0, tomograms: Sequence[str] | None = None
) -> Path:
    """Write a table with the true class of ``per_class`` picks of each class, as an annotator would label them.

    The rows are rows of ``particles.star`` (same ids, same picking errors), drawn at random. With the same seed, a
    larger ``per_class`` adds rows and keeps the others.

    Parameters
    ----------
    folder
        Folder of the data set.
    path
        STAR file to be written.
    per_class
        Number of labeled picks per class.
    seed
        Seed of the random choice.
    tomograms
        Tomograms that the picks are drawn from; all by default.

    Raises
    ------
    ValueError
        A class has too few particles, or a tomogram is not in the data set.
    """
    config = read_config(folder)
    chosen = config.tomogram_names if tomograms is None else tuple(tomograms)
    unknown = sorted(set(chosen) - set(config.tomogram_names))
    if unknown:
        raise ValueError(f"{', '.join(unknown)} not in {folder}; it has {', '.join(config.tomogram_names)}")
    picks, truth = _picks_and_truth(config, Path(folder))
    rng = np.random.default_rng(seed)
    rows: list[int] = []
    for name in config.class_names:
        candidates = rng.permutation(np.flatnonzero((truth.class_name == name) & np.isin(truth.tomogram, chosen)))
        if len(candidates) < per_class:
            got = f"class {name} has {len(candidates)} particles in {len(chosen)} tomograms"
            raise ValueError(f"{got}, expected at least {per_class}")
        rows.extend(candidates[:per_class])
    order = np.sort(np.asarray(rows, dtype=int))
    labeled = picks.select(order).with_columns(_class_columns(config, truth.class_name[order]))
    write_particles(path, labeled, grids=dict.fromkeys(config.tomogram_names, config.grid), dialect="relion5")
    return path

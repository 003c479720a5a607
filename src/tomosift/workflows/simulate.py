"""Simulate tomograms of known structures, with picks and a few labels, as real files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomosift.progress import Monitor
from tomosift.simulation.dataset import DatasetPaths, simulate_dataset, write_label_table
from tomosift.simulation.dataset_config import TomogramDatasetConfig


@dataclass(frozen=True)
class SimulatedWorld:
    """Files of a simulated data set."""

    tomograms: Path
    """RELION table of the tomograms."""
    picks: Path
    """Particle table of the picks, without classes."""
    truth: Path
    """Particle table with true classes, positions and orientations."""
    labels: Path
    """Particle table with the classes of a few picks."""


def simulate(
    structures: Sequence[str],
    out: Path | str,
    *,
    labels_per_class: int = 5,
    seed: int = 0,
    monitor: Monitor | None = None,
    **settings: Any,
) -> SimulatedWorld:
    """Simulate tomograms of known structures and write them as MRC and STAR files.

    Parameters
    ----------
    structures
        Names of the atlas (``tomosift atlas list``), structure or map files.
    out
        Folder of the data set; an interrupted call resumes.
    labels_per_class
        Picks of each class in the label table.
    seed
        Seed of all random numbers.
    monitor
        Shows progress.
    settings
        Fields of `tomosift.simulation.dataset_config.TomogramDatasetConfig`: ``tomograms``, ``particles_per_class``,
        ``shape_zyx``, ``voxel_spacing_angstrom``, ``snr`` and others.

    Returns
    -------
    SimulatedWorld
        Paths of the files.

    Raises
    ------
    ValueError
        A structure is unknown or does not fit, or a class has fewer picks than labels.

    Examples
    --------
    ::

        world = tomosift.simulate(["ribosome-70s", "proteasome-20s"], "world", tomograms=4)
        particles = tomosift.read_particles(world.picks)
    """
    out, monitor = Path(out), monitor or Monitor()
    config = TomogramDatasetConfig(classes=tuple(structures), seed=seed, **settings)
    with monitor.stage("simulate", "tomograms") as progress:
        paths: DatasetPaths = simulate_dataset(config, out, progress)
    labels = write_label_table(out, out / "labels.star", labels_per_class, seed=seed)
    return SimulatedWorld(paths.tomograms, paths.particles, paths.particles_truth, labels)

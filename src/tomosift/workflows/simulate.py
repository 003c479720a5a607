"""Simulate tomograms of known structures, with picks and a few labels, as real files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomosift.compute.engine import Engine, for_each
from tomosift.progress import Monitor
from tomosift.simulation.dataset import simulate_dataset, simulate_tomogram, tomogram_tasks, write_label_table
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
    """Particle table with the classes of a few picks; it is written if labels are requested."""


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
    config = TomogramDatasetConfig(classes=tuple(structures), seed=seed, **settings)
    return simulate_tomograms(config, out, labels_per_class=labels_per_class, label_seed=seed, monitor=monitor)


def simulate_tomograms(
    config: TomogramDatasetConfig,
    out: Path | str,
    *,
    labels_per_class: int = 0,
    label_seed: int = 0,
    engine: Engine | None = None,
    monitor: Monitor | None = None,
) -> SimulatedWorld:
    """Simulate a data set of tomograms, on several machines if requested.

    Parameters
    ----------
    config
        Specimens, microscope and files.
    out
        Folder of the data set; an interrupted call resumes, and more tomograms add to it.
    labels_per_class
        Picks of each class in the label table; 0 writes none.
    label_seed
        Seed of the selection of these picks.
    engine
        Where tomograms are simulated; None simulates one after another in this process.
    monitor
        Shows progress.

    Raises
    ------
    ValueError
        A structure is unknown or does not fit, a class has fewer picks than labels, or the folder holds another data
        set.
    """
    if labels_per_class < 0:
        raise ValueError(f"labels_per_class is {labels_per_class}, expected 0 or more")
    out, engine, monitor = Path(out), engine or Engine(), monitor or Monitor()
    engine.check()
    with monitor.stage("simulate", "tomograms") as progress:
        if engine.is_shared:
            for_each(simulate_tomogram, tomogram_tasks(config, out), engine, progress)
        paths = simulate_dataset(config, out, progress)  # keeps tomograms that exist, and writes the tables
    labels = out / "labels.star"
    if labels_per_class:
        write_label_table(out, labels, labels_per_class, seed=label_seed)
    return SimulatedWorld(paths.tomograms, paths.particles, paths.particles_truth, labels)

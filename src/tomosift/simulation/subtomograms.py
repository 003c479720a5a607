"""Sets of simulated subtomograms, without tomograms: thousands in a minute.

This is the faster of two levels of realism; `tomosift.simulation.dataset` simulates whole tomograms from tilt series.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.subtomogram_set import Subtomograms, open_finished_set
from tomosift.particles import Particles
from tomosift.physics.imaging import ImagingRanges, lab_protocol
from tomosift.progress import Progress, ignore_progress
from tomosift.simulation.batch import SimulatedBatch, simulate_batch
from tomosift.simulation.crowding import Templates, prepare_templates
from tomosift.simulation.dataset_config import class_name_of
from tomosift.simulation.structures.densities import template
from tomosift.simulation.structures.synthetic_complexes import synthetic_complexes, synthetic_names

Style = Callable[[Tensor, torch.Generator], Tensor]
"""Changes volumes (b, d, d, d); see `tomosift.simulation.style_transfer.StyleTransfer`."""


@dataclass(frozen=True)
class SubtomogramSetConfig:
    """Structures, imaging conditions and size of a set of simulated subtomograms.

    Examples
    --------
    >>> from tomosift.simulation.subtomograms import SubtomogramSetConfig
    >>> SubtomogramSetConfig(("ribosome-70s", "maps/dimer.mrc"), per_class=50).class_names
    ('ribosome-70s', 'dimer')
    """

    classes: tuple[str, ...]
    """Atlas names, or structure or map files (the stem of a file becomes the class name)."""
    per_class: int = 100
    box_size: int = 32
    ranges: ImagingRanges = field(default_factory=lab_protocol)
    """Conditions of imaging; the lab protocol of the field by default."""
    voxel_spacing_angstrom: float = 10.0
    """Voxel spacing of templates and subtomograms; replaces the one in ``ranges``."""
    max_neighbors: int = 4
    """Each subtomogram has 0 to this many neighbors, of the same classes."""
    template_extent_angstrom: float = 480.0
    """Edge of the box that every structure must fit into."""
    halves: bool = False
    """Also keep two half subtomograms with independent noise."""
    batch_size: int = 64
    """Subtomograms simulated together; they share an invented tomogram name, which splits keep together."""
    shard_size: int = 4096
    seed: int = 0

    def __post_init__(self) -> None:
        names = self.class_names
        if not names or len(set(names)) < len(names):
            raise ValueError(f"classes are {', '.join(names) or 'empty'}, expected one or more, each named once")
        for name in ("per_class", "box_size", "batch_size", "shard_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected 0 or more")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their labels."""
        return tuple(class_name_of(source) for source in self.classes)


def simulate_subtomograms(
    config: SubtomogramSetConfig,
    folder: Path | str,
    *,
    templates: Mapping[str, Float[Tensor, "d d d"]] | Callable[[], Templates] | None = None,
    style: Style | None = None,
    style_name: str = "",
    masks: bool = False,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Subtomograms:
    """Simulate a set into ``folder`` and open it; a finished set of the same configuration is opened as it is.

    An interrupted simulation resumes after its last complete shard. Classes are mixed: every run of subtomograms holds
    all of them. Every batch is a function of the configuration, its seed and its own number. Beside labels and poses,
    the particle table has the shift, the SNR, the defocus and the number of neighbors of each subtomogram. Positions
    are invented: the subtomograms of one batch lie side by side along z.

    Parameters
    ----------
    templates
        Class name -> density at the voxel spacing, instead of the structures in ``classes``. Or a function that
        prepares templates in the order of the classes; it is not called for a finished set.
    style
        Changes the volumes of every batch before they are kept.
    style_name
        Identifies ``style``, so that a finished set of another style is not opened instead.
    masks
        Also keep the mask of each target: voxels above `MASK_THRESHOLD` of the maximum of its density, before CTF,
        noise and missing wedge.
    device
        Device of the simulation.
    progress
        Counts subtomograms.

    Raises
    ------
    ValueError
        The folder holds another set, a class is neither in the atlas nor a file, or a structure does not fit.
    """
    provenance = {"simulated": json.loads(json.dumps(asdict(config)))} | ({"look": style_name} if style else {})
    # A finished set with masks also serves requests without masks.
    finished = open_finished_set(folder, {**provenance, **({"has_masks": True} if masks else {})})
    if finished is not None:
        return finished
    prepared = (templates() if callable(templates) else load_prepared_templates(config, templates)).to(device)
    labels = draw_labels(len(prepared), config.per_class, config.seed)
    writer = _create_writer(config, folder, provenance, masks)
    report = progress or ignore_progress
    written = set(writer.written_order.tolist())
    with writer:
        for number, start in enumerate(range(0, len(labels), config.batch_size)):
            stop = min(start + config.batch_size, len(labels))
            rows = np.array([row for row in range(start, stop) if row not in written], dtype=np.int64)
            if len(rows):
                batch_labels = torch.from_numpy(labels[start:stop]).to(device)
                batch = _simulate_numbered(config, prepared, batch_labels, number, style)
                _append(writer, batch, config, number, rows - start, rows)
            report(stop, len(labels))
        return writer.close()


def simulate_synthetic_complexes(
    count: int,
    per_class: int,
    ranges: ImagingRanges,
    seed: int,
    folder: Path,
    *,
    box_size: int = 32,
    voxel_spacing_angstrom: float = 10.0,
    max_neighbors: int = 4,
    masks: bool = False,
    seed_of_particles: int | None = None,
    progress: Progress | None = None,
) -> Subtomograms:
    """Simulate subtomograms of synthetic complexes, as a set in ``folder``; see `simulate_subtomograms`.

    Parameters
    ----------
    count
        Number of complexes, each a class.
    per_class
        Subtomograms of each complex.
    ranges
        Imaging conditions.
    seed
        Sets of different seeds have no complex in common.
    seed_of_particles
        Seed of poses and noise, for other particles of the same complexes; ``seed`` by default.
    """
    config = SubtomogramSetConfig(
        synthetic_names(count, seed),
        per_class,
        box_size,
        ranges,
        voxel_spacing_angstrom,
        max_neighbors,
        seed=seed if seed_of_particles is None else seed_of_particles,
    )
    templates = partial(synthetic_complexes, count, seed, voxel_spacing_angstrom)
    return simulate_subtomograms(config, folder, templates=templates, masks=masks, progress=progress)


def load_prepared_templates(
    config: SubtomogramSetConfig, templates: Mapping[str, Float[Tensor, "d d d"]] | None = None
) -> Templates:
    """Load the structures of a set, or take densities instead of them, and prepare them for rendering."""
    spacing = config.voxel_spacing_angstrom
    if templates is None:
        edge = 2 * math.ceil(0.5 * config.template_extent_angstrom / spacing)
        templates = {
            name: template(source, spacing, edge)
            for name, source in zip(config.class_names, config.classes, strict=True)
        }
    elif tuple(templates) != config.class_names:
        raise ValueError(f"templates are of {', '.join(templates)}, expected {', '.join(config.class_names)}")
    return prepare_templates(torch.stack(tuple(templates.values())), spacing, max(1.0, config.ranges.scale[1]))


def draw_labels(classes: int, per_class: int, seed: int) -> NDArray[np.int64]:
    """Return the labels of a set: ``per_class`` shuffled blocks, each with every class once."""
    rng = np.random.default_rng([seed, 0])
    return np.concatenate([rng.permutation(classes) for _ in range(per_class)]).astype(np.int64)


def batch_seed(seed: int, number: int) -> int:
    """Return the seed of one batch; batches of any two sets have equal seeds by chance only."""
    return int(np.random.SeedSequence([seed, 1, number]).generate_state(1, np.uint64)[0] >> 1)


def _create_writer(
    config: SubtomogramSetConfig, folder: Path | str, provenance: dict[str, Any], masks: bool
) -> SubtomogramWriter:
    return SubtomogramWriter(
        folder,
        config.box_size,
        config.voxel_spacing_angstrom,
        shard_size=config.shard_size,
        has_halves=config.halves,
        class_names=config.class_names,
        provenance=provenance,
        has_masks=masks,
    )


def _simulate_numbered(
    config: SubtomogramSetConfig, templates: Templates, labels: Tensor, number: int, style: Style | None
) -> SimulatedBatch:
    """Simulate the batch of this number."""
    generator = torch.Generator().manual_seed(batch_seed(config.seed, number))
    ranges = replace(config.ranges, voxel_spacing_angstrom=2 * (config.voxel_spacing_angstrom,))
    batch = simulate_batch(
        templates,
        labels,
        ranges,
        generator,
        box_size=config.box_size,
        max_neighbors=config.max_neighbors,
        halves=config.halves,
    )
    return batch if style is None else replace(batch, volume=style(batch.volume, generator))


def _append(
    writer: SubtomogramWriter,
    batch: SimulatedBatch,
    config: SubtomogramSetConfig,
    number: int,
    rows: NDArray[np.int64],
    order: NDArray[np.int64],
) -> None:
    """Append some rows of a batch to the set, with their particle table."""

    def select(tensor: Tensor) -> NDArray[np.float32]:
        return tensor[torch.from_numpy(rows).to(tensor.device)].float().cpu().numpy()

    label = batch.label.cpu().numpy()[rows]
    shift = select(batch.shift_zyx_voxels)
    center = config.box_size // 2
    position = np.column_stack((rows * config.box_size + center, np.full((len(rows), 2), center)))
    particles = Particles.create(
        tomogram=[f"simulated_{number:05d}"] * len(rows),
        position_zyx_angstrom=position * config.voxel_spacing_angstrom,
        rotation=select(batch.rotation),
        class_name=np.array(config.class_names, dtype=object)[label],
        particle_id=[f"simulated_{number:05d}/{row + 1:06d}" for row in rows],
    ).with_columns(
        {
            **{f"simulatedShift{axis}Voxels": shift[:, k] for k, axis in enumerate("ZYX")},
            "simulatedSnr": select(batch.parameters.snr),
            "simulatedDefocusUm": select(batch.parameters.defocus_um),
            "simulatedNeighbors": select(batch.neighbors).astype(np.int64),
        }
    )
    halves = None if batch.halves is None else select(batch.halves)
    masks = select(batch.mask) > 0 if writer.has_masks else None
    writer.append(select(batch.volume), particles, select(batch.tilt_range_deg), halves, order, masks)

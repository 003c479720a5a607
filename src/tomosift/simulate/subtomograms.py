"""Subtomograms without tomograms: target, neighbors and microscope per box, thousands in a minute.

The fast one of the two fidelities; whole tomograms with their tilt series are made by `tomosift.simulate.dataset`.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from tomosift.data.set_reader import finished_set
from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.subtomograms import Subtomograms
from tomosift.particles import Particles
from tomosift.physics.imaging import ImagingParameters, ImagingRanges, image_parts, lab_protocol
from tomosift.physics.rotation import random_rotations
from tomosift.simulate.crowding import Templates, centered_in, place_neighbors, prepare_templates
from tomosift.simulate.dataset_config import class_name_of
from tomosift.simulate.structures.densities import template


@dataclass(frozen=True)
class SimulatedBatch:
    """Boxes and everything that is true of them."""

    volume: Float[Tensor, "b d d d"]
    """As the microscope shows it; density positive, not normalized."""
    label: Int64[Tensor, " b"]
    rotation: Float[Tensor, "b 3 3"]
    """Takes the target's template into the box (zyx column vectors)."""
    shift_zyx_voxels: Float[Tensor, "b 3"]
    """Of the target from voxel ``d // 2``."""
    mask: Bool[Tensor, "b d d d"]
    """Voxels of the target, neighbors not included."""
    tilt_range_deg: Float[Tensor, "b 2"]
    neighbors: Int64[Tensor, " b"]
    """How many found room beside the target; not all of them reach into the box."""
    parameters: ImagingParameters
    """All conditions of imaging."""
    halves: Float[Tensor, "b 2 d d d"] | None = None
    """Same signal, independent noise of twice the variance; ``volume`` is their mean."""


def simulate_batch(
    templates: Templates,
    labels: Int64[Tensor, " b"],
    ranges: ImagingRanges,
    generator: torch.Generator,
    *,
    box_size: int = 32,
    max_neighbors: int = 4,
    halves: bool = False,
    margin_voxels: int | None = None,
    neighbor_classes: int | None = None,
) -> SimulatedBatch:
    """Simulate one box for each label; a function of its arguments and the state of the generator alone.

    The target takes the pose, scale and shift that ``ranges`` draws. Zero to ``max_neighbors`` complexes of random
    classes (the first ``neighbor_classes`` of the templates, or all) and poses lie around it without overlap (bounding
    spheres). The merged density is imaged in a box wider by ``margin_voxels`` on every side and cut out, so that what
    lies outside blurs into the box as in a tomogram; by default an eighth of the edge, and nothing without neighbors.
    ``ranges.snr`` holds in the box that is returned.

    Raises
    ------
    ValueError
        If a label has no template, or ``ranges`` speaks of another voxel spacing or a larger scale than the templates.

    Source
    ------
    The order of things follows the public simulator of the aitom project (crowding, CTF, wedge, noise, cut about the
    target off center). Deviations: spheres are placed by rejection (see `place_neighbors`), the number of neighbors is
    drawn anew for each box, and boxes are never cut short at a border.
    """
    _check(templates, labels, ranges, max_neighbors)
    margin = margin_voxels if margin_voxels is not None else (math.ceil(box_size / 8) if max_neighbors else 0)
    size, batch = box_size + 2 * margin, len(labels)
    device = labels.device
    parameters = ranges.sample(batch, generator).to(device)
    rotation, shift, scale = parameters.rotation, parameters.shift_zyx_voxels, parameters.scale
    target = templates.rendered(labels, rotation, shift, size, scale=scale)
    mask = centered_in(target, box_size) > templates.mask_level[labels][:, None, None, None]

    count = torch.randint(max_neighbors + 1, (batch,), generator=generator, device=generator.device).to(device)
    drawn = (batch, max_neighbors)
    neighbor = torch.randint(
        neighbor_classes or len(templates), drawn, generator=generator, device=generator.device
    ).to(device)
    pose = random_rotations(batch * max_neighbors, generator, device=device).reshape(*drawn, 3, 3)
    radius = templates.radius_voxels
    offset, placed = place_neighbors(radius[labels] * scale, radius[neighbor], generator)
    placed = placed & (torch.arange(max_neighbors, device=device) < count[:, None])
    density = target
    for index in range(max_neighbors):
        place = shift + offset[:, index]
        reaches = (place.abs() < radius[neighbor[:, index], None] + size // 2 + 1).all(dim=1)
        shown = placed[:, index] & reaches
        density = density + templates.rendered(neighbor[:, index], pose[:, index], place, size, shown=shown)

    parts = image_parts(density, parameters, generator, views=2 if halves else 1, is_posed=True)
    signal, noise = centered_in(parts.signal, box_size), centered_in(parts.noise, box_size)
    # The noise was drawn for the signal of the wide box; the SNR is promised for the box that is cut from it.
    ratio = (signal.var(dim=(1, 2, 3)) / parts.signal.var(dim=(1, 2, 3)).clamp_min(1e-30)).sqrt()
    views = signal[:, None] + noise * ratio[:, None, None, None, None]
    return SimulatedBatch(
        volume=views.mean(dim=1),
        label=labels,
        rotation=rotation,
        shift_zyx_voxels=shift,
        mask=mask,
        tilt_range_deg=parameters.tilt_range_deg,
        neighbors=placed.sum(dim=1),
        parameters=parameters,
        halves=views if halves else None,
    )


@dataclass(frozen=True)
class SubtomogramSetConfig:
    """What a set of simulated subtomograms is like."""

    classes: tuple[str, ...]
    """Names of the atlas, or structure or map files (their stem becomes the class name)."""
    per_class: int = 100
    box_size: int = 32
    ranges: ImagingRanges = field(default_factory=lab_protocol)
    """Conditions of imaging; the lab protocol of the field by default."""
    voxel_spacing_angstrom: float = 10.0
    """Of templates and boxes; goes before the one in ``ranges``."""
    max_neighbors: int = 4
    """Each box has from none to this many, of the same classes."""
    template_extent_angstrom: float = 480.0
    """Edge of the box in which every structure must fit."""
    halves: bool = False
    """Also keep two half boxes with independent noise."""
    batch_size: int = 64
    """Boxes simulated together; they share a made-up tomogram name, by which splits keep them together."""
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


Look = Callable[[Tensor, torch.Generator], Tensor]

Progress = Callable[[int, int], None]
"""Called with how many boxes are done and how many there will be."""


def simulate_subtomograms(
    config: SubtomogramSetConfig,
    folder: Path | str,
    *,
    templates: Mapping[str, Float[Tensor, "d d d"]] | Callable[[], Templates] | None = None,
    look: Look | None = None,
    look_name: str = "",
    masks: bool = False,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Subtomograms:
    """Simulate a set into ``folder`` and open it; an interrupted run is gone on with where its shards end.

    A finished set of the same configuration is opened as it is.

    Classes are mixed: every run of boxes holds all of them. Every batch is a function of the configuration, its seed
    and its own number. Beside labels and poses, the table of particles keeps the shift, the SNR, the defocus and the
    number of neighbors of each box. Positions are made up: the boxes of one batch lie side by side along z.

    Parameters
    ----------
    templates
        Class name -> density at the voxel spacing, instead of those that the names of ``classes`` stand for; or what
        makes them ready to be drawn, in the order of the classes, which is not called for a set that is finished.
    look
        What changes the boxes of a batch before they are kept (see `tomosift.simulate.maps.BoxStyle`).
    look_name
        Which one it is, so that a set of another look is not taken for this one.
    masks
        Also keep which voxels belong to each target: those of more than `MASK_THRESHOLD` of its density's maximum,
        before the microscope and without its wedge.

    Raises
    ------
    ValueError
        The folder holds another set, a class is neither in the atlas nor a file, or a structure does not fit.
    """
    spacing = config.voxel_spacing_angstrom
    provenance = {"simulated": json.loads(json.dumps(asdict(config)))} | ({"look": look_name} if look else {})
    # A set with masks serves those who do not ask for them as well.
    finished = finished_set(folder, {**provenance, **({"has_masks": True} if masks else {})})
    if finished is not None:
        return finished
    prepared = (templates() if callable(templates) else prepared_templates(config, templates)).to(device)
    ranges = replace(config.ranges, voxel_spacing_angstrom=(spacing, spacing))
    labels = class_order(len(prepared), config.per_class, config.seed)
    writer = SubtomogramWriter(
        folder,
        config.box_size,
        spacing,
        shard_size=config.shard_size,
        halves=config.halves,
        class_names=config.class_names,
        provenance=provenance,
        masks=masks,
    )
    written = set(writer.written_order.tolist())
    with writer:
        for number, start in enumerate(range(0, len(labels), config.batch_size)):
            stop = min(start + config.batch_size, len(labels))
            rows = np.array([row for row in range(start, stop) if row not in written], dtype=np.int64)
            if len(rows):
                generator = torch.Generator().manual_seed(batch_seed(config.seed, number))
                batch = simulate_batch(
                    prepared,
                    torch.from_numpy(labels[start:stop]).to(device),
                    ranges,
                    generator,
                    box_size=config.box_size,
                    max_neighbors=config.max_neighbors,
                    halves=config.halves,
                )
                if look is not None:
                    batch = replace(batch, volume=look(batch.volume, generator))
                _append(writer, batch, config, number, rows - start, rows)
            if progress is not None:
                progress(stop, len(labels))
        return writer.close()


def prepared_templates(
    config: SubtomogramSetConfig, templates: Mapping[str, Float[Tensor, "d d d"]] | None = None
) -> Templates:
    """The structures of a set ready to be drawn, or densities instead of them, as `simulate_subtomograms` says."""
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


def class_order(classes: int, per_class: int, seed: int) -> NDArray[np.int64]:
    """Labels of a set, ``per_class`` of each in blocks that hold every class once, shuffled."""
    rng = np.random.default_rng([seed, 0])
    return np.concatenate([rng.permutation(classes) for _ in range(per_class)]).astype(np.int64)


def batch_seed(seed: int, number: int) -> int:
    """Seed of one batch of a set; no two batches of any two sets share their numbers but by chance."""
    return int(np.random.SeedSequence([seed, 1, number]).generate_state(1, np.uint64)[0] >> 1)


def _append(
    writer: SubtomogramWriter,
    batch: SimulatedBatch,
    config: SubtomogramSetConfig,
    number: int,
    rows: NDArray[np.int64],
    order: NDArray[np.int64],
) -> None:
    def kept(tensor: Tensor) -> NDArray[np.float32]:
        return tensor[torch.from_numpy(rows).to(tensor.device)].float().cpu().numpy()

    label = batch.label.cpu().numpy()[rows]
    shift = kept(batch.shift_zyx_voxels)
    center = config.box_size // 2
    position = np.column_stack((rows * config.box_size + center, np.full((len(rows), 2), center)))
    particles = Particles.create(
        tomogram=[f"simulated_{number:05d}"] * len(rows),
        position_zyx_angstrom=position * config.voxel_spacing_angstrom,
        rotation=kept(batch.rotation),
        class_name=np.array(config.class_names, dtype=object)[label],
        particle_id=[f"simulated_{number:05d}/{row + 1:06d}" for row in rows],
    ).with_columns(
        {
            **{f"simulatedShift{axis}Voxels": shift[:, k] for k, axis in enumerate("ZYX")},
            "simulatedSnr": kept(batch.parameters.snr),
            "simulatedDefocusUm": kept(batch.parameters.defocus_um),
            "simulatedNeighbors": kept(batch.neighbors).astype(np.int64),
        }
    )
    halves = None if batch.halves is None else kept(batch.halves)
    masks = kept(batch.mask) > 0 if writer.has_masks else None
    writer.append(kept(batch.volume), particles, kept(batch.tilt_range_deg), halves, order, masks)


def _check(templates: Templates, labels: Tensor, ranges: ImagingRanges, max_neighbors: int) -> None:
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(templates):
        got = f"labels from {int(labels.min())} to {int(labels.max())}"
        raise ValueError(f"{got} but {len(templates)} templates; labels count from 0")
    spacing = templates.voxel_spacing_angstrom
    if ranges.voxel_spacing_angstrom != (spacing, spacing):
        got = f"voxel_spacing_angstrom of ranges is {ranges.voxel_spacing_angstrom}"
        raise ValueError(f"{got}, the templates have {spacing:g} A; set both ends of the range to it")
    if ranges.scale[1] > templates.largest_scale:
        got = f"scale is {ranges.scale}, the templates were prepared for at most {templates.largest_scale:g}"
        raise ValueError(f"{got}; prepare them with largest_scale={ranges.scale[1]:g}")
    if max_neighbors < 0:
        raise ValueError(f"max_neighbors is {max_neighbors}, expected 0 or more")

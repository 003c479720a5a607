"""Crowded specimens: many particles of several classes in one slab of ice, with every pose and voxel known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from tomosift.conventions import center_index
from tomosift.particles import Particles
from tomosift.physics.rotation import random_rotations, rotate_upsampled, upsample
from tomosift.simulation.packing import Slab
from tomosift.simulation.structures.membranes_and_gold import (
    MembranesAndGold,
    draw_gold_bead,
    draw_membrane,
    draw_membrane_position,
)

MASK_LEVEL = 0.15
"""A voxel belongs to a particle where its density exceeds this share of the template's maximum."""

MEMBRANE, GOLD = "membrane", "gold"

_UPSAMPLING = 2  # of the templates that are rotated
_MAX_FAILURES = 2  # poses in a row without room, after which no more particles of a class are tried


@dataclass(frozen=True)
class Specimen:
    """Density and ground truth of a slab of ice, before imaging.

    ``particles`` are in the order of their instances: row i is instance i + 1.
    """

    density: NDArray[np.float32]
    """(z, y, x) potential above the ice, positive."""
    particles: Particles
    """Exact positions (Angstrom from the center of voxel 0) and rotations (reference to tomogram, zyx)."""
    instance_labels: NDArray[np.int32]
    """(z, y, x) 0 = background, i + 1 = row i of ``particles``; membranes and gold are no instances."""
    class_labels: NDArray[np.int16]
    """(z, y, x) index into ``label_names``."""
    class_names: tuple[str, ...]
    """Classes of the particles, in the order of the templates."""
    voxel_spacing_angstrom: float
    unplaced: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Particles per class that found no room."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """Name of each value of ``class_labels``."""
        return ("background", *self.class_names, MEMBRANE, GOLD)


def build_specimen(
    templates: Mapping[str, Float[Tensor, "_ _ _"]],
    counts: Mapping[str, int],
    shape_zyx: tuple[int, int, int],
    voxel_spacing_angstrom: float,
    *,
    rng: np.random.Generator,
    name: str = "specimen",
    gap_angstrom: float = 10.0,
    membranes_and_gold: MembranesAndGold | None = None,
) -> Specimen:
    """Pack particles into a slab: uniform random poses, sub-voxel positions, and a gap between any two masks.

    Parameters
    ----------
    templates
        Class name -> (d, d, d) density at ``voxel_spacing_angstrom``, positive, its reference center at voxel d//2.
        Edges may differ between classes.
    counts
        Class name -> number of particles. Particles that find no room are counted in ``Specimen.unplaced``.
    name
        Tomogram name of the particles.
    gap_angstrom
        Minimum distance between the masks of two particles, along the axes, rounded to voxels.
    membranes_and_gold
        Membranes and gold beads, which are placed before the particles; none by default.

    Raises
    ------
    ValueError
        A class has no template, a template is no cube or has no positive density, or a count is negative.

    Notes
    -----
    Large classes are placed first, and small ones fill the remaining room. Every mask lies completely inside the
    volume. Room is decided by masks, not by bounding spheres, so that elongated particles can lie side by side.
    """
    _check_counts(templates, counts)
    prepared = {key: _prepare(key, template) for key, template in templates.items()}
    class_names = tuple(templates)
    slab = Slab(shape_zyx)
    if membranes_and_gold is not None:
        typical = float(np.mean([template.typical for template in prepared.values()])) if prepared else 1.0
        _add_membranes(slab, membranes_and_gold, voxel_spacing_angstrom, typical, len(class_names) + 1, rng)
        _add_gold(slab, membranes_and_gold, voxel_spacing_angstrom, typical, len(class_names) + 2, rng)
    gap = max(0, round(gap_angstrom / voxel_spacing_angstrom))
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    placement = _Placement([], [], [])
    order = sorted(counts, key=lambda k: (-prepared[k].size, class_names.index(k)))
    for key in order:
        _place_class(slab, placement, key, prepared[key], counts[key], gap, class_names.index(key) + 1, generator, rng)
    return Specimen(
        density=slab.density,
        particles=placement.to_particles(name, voxel_spacing_angstrom),
        instance_labels=slab.instances,
        class_labels=slab.classes,
        class_names=class_names,
        voxel_spacing_angstrom=voxel_spacing_angstrom,
        unplaced=MappingProxyType(placement.count_missing({key: counts[key] for key in order})),
    )


def _check_counts(templates: Mapping[str, Tensor], counts: Mapping[str, int]) -> None:
    missing = sorted(set(counts) - set(templates))
    if missing:
        raise ValueError(f"no template for {', '.join(missing)}; templates are {', '.join(templates)}")
    if any(number < 0 for number in counts.values()):
        raise ValueError(f"counts are {dict(counts)}, expected 0 or more of each class")


@dataclass(frozen=True)
class _Template:
    """A template cropped to the voxels that can be non-zero, and upsampled for rotation."""

    upsampled: Tensor
    size: int
    threshold: float
    """Density above which a voxel belongs to the particle."""
    typical: float
    """Mean density of these voxels."""


def _prepare(name: str, template: Float[Tensor, "d d d"]) -> _Template:
    if template.ndim != 3 or len(set(template.shape)) != 1:
        raise ValueError(f"template {name!r} has shape {tuple(template.shape)}, expected a cube")
    maximum = float(template.max())
    if not maximum > 0:
        raise ValueError(f"template {name!r} has no positive density; density must be positive above the ice")
    size = template.shape[0]
    center = center_index(size)
    offset = torch.nonzero(template.abs() > 0.01 * maximum).float() - center
    reach = int(torch.linalg.vector_norm(offset, dim=1).max().ceil())
    # Two voxels more than the farthest density, so that no pose with a sub-voxel shift is cropped.
    target = 2 * (reach + 2)
    if target <= size:
        start = center - center_index(target)
        resized = template[start : start + target, start : start + target, start : start + target]
    else:
        before = center_index(target) - center
        after = target - size - before
        resized = torch.nn.functional.pad(template, (before, after) * 3)
    inside = template[template > MASK_LEVEL * maximum]
    upsampled = upsample(resized.float()[None], _UPSAMPLING)[0]
    return _Template(upsampled, target, MASK_LEVEL * maximum, float(inside.mean()))


@dataclass(frozen=True)
class _Placement:
    """Particles that have been placed so far."""

    positions: list[NDArray[np.float64]]
    """Voxels."""
    rotations: list[NDArray[np.float64]]
    labels: list[str]

    def count_missing(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Return how many particles each incomplete class lacks."""
        missing = {key: number - self.labels.count(key) for key, number in counts.items()}
        return {key: number for key, number in missing.items() if number}

    def to_particles(self, name: str, voxel_spacing_angstrom: float) -> Particles:
        """Return the particles as a table."""
        return Particles.create(
            [name] * len(self.labels),
            np.asarray(self.positions, dtype=np.float64).reshape(-1, 3) * voxel_spacing_angstrom,
            np.asarray(self.rotations, dtype=np.float64).reshape(-1, 3, 3),
            np.asarray(self.labels, dtype=object),
        )


def _place_class(
    slab: Slab,
    placement: _Placement,
    key: str,
    template: _Template,
    number: int,
    gap: int,
    class_label: int,
    generator: torch.Generator,
    rng: np.random.Generator,
) -> None:
    """Place up to ``number`` particles of one class at random."""
    rotation = random_rotations(number, generator)
    shift = torch.rand((number, 3), generator=generator) - 0.5
    failures = 0
    for k in range(number):
        if failures == _MAX_FAILURES:
            break
        density = rotate_upsampled(template.upsampled[None], _UPSAMPLING, rotation[k, None], shift[k, None])[0].numpy()
        mask = density > template.threshold
        corner = slab.find_room(mask, rng)
        if corner is None:
            failures += 1
            continue
        failures = 0
        placement.labels.append(key)
        slab.add(corner, density, mask, gap, len(placement.labels), class_label)
        placement.positions.append(corner + center_index(density.shape[0]) + shift[k].double().numpy())
        placement.rotations.append(rotation[k].double().numpy())


def _add_membranes(
    slab: Slab,
    settings: MembranesAndGold,
    voxel_spacing_angstrom: float,
    typical: float,
    label: int,
    rng: np.random.Generator,
) -> None:
    """Add sheets and vesicles; ``typical`` is the density of a typical particle's interior."""
    shape = slab.shape_zyx
    for k in range(settings.sheets + settings.vesicles):
        is_sheet = k < settings.sheets
        center, radius = draw_membrane_position(shape, voxel_spacing_angstrom, settings, is_sheet, rng)
        density, mask = draw_membrane(shape, voxel_spacing_angstrom, center, radius, settings, rng)
        density[slab.is_occupied] = 0
        mask &= ~slab.is_occupied
        slab.density += np.float32(settings.membrane_strength * typical) * density
        slab.classes[mask] = label
        slab.is_occupied |= mask


def _add_gold(
    slab: Slab,
    settings: MembranesAndGold,
    voxel_spacing_angstrom: float,
    typical: float,
    label: int,
    rng: np.random.Generator,
) -> None:
    """Add gold beads where they find room."""
    diameter = settings.gold_diameter_angstrom
    for _ in range(settings.gold_beads):
        edge = int(np.ceil(diameter / voxel_spacing_angstrom)) + 4
        center = np.full(3, center_index(edge)) + rng.uniform(-0.5, 0.5, size=3)
        density, mask = draw_gold_bead((edge,) * 3, voxel_spacing_angstrom, center, diameter)
        corner = slab.find_room(mask, rng)
        if corner is not None:
            slab.add(corner, np.float32(settings.gold_strength * typical) * density, mask, 1, 0, label)

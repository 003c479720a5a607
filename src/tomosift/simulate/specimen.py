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
from tomosift.physics.rotation import random_rotations, rotate_upsampled, upsampled
from tomosift.simulate.surroundings import Surroundings, draw_membrane_position, gold_bead, membrane

MASK_LEVEL = 0.15
"""A voxel belongs to a particle where its density exceeds this share of the template's maximum."""

MEMBRANE, GOLD = "membrane", "gold"

_FINER = 2  # templates are turned from a source sampled this much finer
_CANDIDATES = 4096
_ROUNDS = 4


@dataclass(frozen=True)
class Specimen:
    """What lies in the ice, before any microscope.

    ``particles`` are ordered as their instances are numbered: row i is instance i + 1.
    """

    density: NDArray[np.float32]
    """(z, y, x) potential above the ice, positive."""
    particles: Particles
    """Exact positions (Angstrom from the center of voxel 0) and rotations (reference to tomogram, zyx)."""
    instance_labels: NDArray[np.int32]
    """(z, y, x) 0 = nothing, i + 1 = row i of ``particles``; membranes and gold are no instances."""
    class_labels: NDArray[np.int16]
    """(z, y, x) index into ``label_names``."""
    class_names: tuple[str, ...]
    """The classes of the particles, in the order of the templates."""
    voxel_spacing_angstrom: float
    unplaced: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Particles per class that found no room."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """What each value of ``class_labels`` means."""
        return ("background", *self.class_names, MEMBRANE, GOLD)


@dataclass(frozen=True)
class _Shape:
    """A template cut down to the voxels that can be non-zero, and sampled finer for turning."""

    fine: Tensor
    size: int
    threshold: float
    typical: float


def _prepare(name: str, template: Float[Tensor, "d d d"]) -> _Shape:
    if template.ndim != 3 or len(set(template.shape)) != 1:
        raise ValueError(f"template {name!r} has shape {tuple(template.shape)}, expected a cube")
    highest = float(template.max())
    if not highest > 0:
        raise ValueError(f"template {name!r} has no positive density; density must be positive above the ice")
    size = template.shape[0]
    middle = center_index(size)
    offset = torch.nonzero(template.abs() > 0.01 * highest).float() - middle
    reach = int(torch.linalg.vector_norm(offset, dim=1).max().ceil())
    # Two voxels more than the farthest density, so that no pose with a sub-voxel shift is cut off.
    target = 2 * (reach + 2)
    if target <= size:
        start = middle - center_index(target)
        trimmed = template[start : start + target, start : start + target, start : start + target]
    else:
        before = center_index(target) - middle
        after = target - size - before
        trimmed = torch.nn.functional.pad(template, (before, after) * 3)
    inside = template[template > MASK_LEVEL * highest]
    fine = upsampled(trimmed.float()[None], _FINER)[0]
    return _Shape(fine, target, MASK_LEVEL * highest, float(inside.mean()))


def counts_for_occupancy(
    templates: Mapping[str, Float[Tensor, "d d d"]], shape_zyx: tuple[int, int, int], occupancy: float
) -> dict[str, int]:
    """Equal numbers per class whose masks together fill ``occupancy`` of the volume.

    Raises
    ------
    ValueError
        ``occupancy`` is not between 0 and 0.5; about 0.3 is what random placement reaches with real shapes.
    """
    if not 0 < occupancy <= 0.5:
        raise ValueError(f"occupancy is {occupancy}, expected more than 0 and at most 0.5")
    one_of_each = sum(float((t > MASK_LEVEL * t.max()).sum()) for t in templates.values())
    number = max(1, round(occupancy * float(np.prod(shape_zyx)) / one_of_each))
    return dict.fromkeys(templates, number)


def _find_room(
    blocked: NDArray[np.bool_], mask: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.int64] | None:
    """Corner at which the box of ``mask`` may lie so that the mask hits nothing and stays inside; None if none found.

    Random sequential addition with thousands of candidates at once: a few dozen voxels of the mask rule out most,
    all voxels decide about the rest.
    """
    inside = np.argwhere(mask)
    low, high = -inside.min(axis=0), np.asarray(blocked.shape) - 1 - inside.max(axis=0)
    if (high < low).any():
        return None
    stride = np.asarray([blocked.shape[1] * blocked.shape[2], blocked.shape[2], 1])
    flat, offsets = blocked.reshape(-1), inside @ stride
    few = rng.choice(offsets, size=min(48, len(offsets)), replace=False)
    for _ in range(_ROUNDS):
        corners = rng.integers(low, high + 1, size=(_CANDIDATES, 3))
        base = corners @ stride
        alive = np.flatnonzero(~flat[base[:, None] + few].any(axis=1))
        for candidate in alive:
            if not flat[base[candidate] + offsets].any():
                found: NDArray[np.int64] = corners[candidate]
                return found
    return None


def _grown(mask: NDArray[np.bool_], voxels: int) -> NDArray[np.bool_]:
    """The mask and every voxel within ``voxels`` of it along the axes, in a box larger by as much on each side."""
    grown = np.pad(mask, voxels)
    for axis in range(3):
        source = grown.copy()
        for step in range(1, voxels + 1):
            grown |= np.roll(source, step, axis) | np.roll(source, -step, axis)
    return grown


class _Slab:
    """The volumes under construction."""

    def __init__(self, shape_zyx: tuple[int, int, int]) -> None:
        self.density = np.zeros(shape_zyx, dtype=np.float32)
        self.blocked = np.zeros(shape_zyx, dtype=np.bool_)
        self.instances = np.zeros(shape_zyx, dtype=np.int32)
        self.classes = np.zeros(shape_zyx, dtype=np.int16)

    def _overlap(self, corner: NDArray[np.int64], size: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        shape = self.density.shape
        low = [max(0, int(c)) for c in corner]
        high = [min(n, int(c) + s) for c, s, n in zip(corner, size, shape, strict=True)]
        there = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        here = tuple(slice(a - int(c), b - int(c)) for a, b, c in zip(low, high, corner, strict=True))
        return there, here

    def add(
        self,
        corner: NDArray[np.int64],
        density: NDArray[np.float32],
        mask: NDArray[np.bool_],
        gap: int,
        instance: int,
        class_label: int,
    ) -> None:
        there, here = self._overlap(corner, density.shape)
        self.density[there] += density[here]
        self.instances[there][mask[here]] = instance
        self.classes[there][mask[here]] = class_label
        grown = _grown(mask, gap)
        there, here = self._overlap(corner - gap, grown.shape)
        self.blocked[there] |= grown[here]

    def add_surroundings(
        self,
        surroundings: Surroundings,
        voxel_spacing_angstrom: float,
        typical: float,
        membrane_label: int,
        rng: np.random.Generator,
    ) -> None:
        shape = self.density.shape
        for k in range(surroundings.sheets + surroundings.vesicles):
            center, radius = draw_membrane_position(
                shape, voxel_spacing_angstrom, surroundings, k < surroundings.sheets, rng
            )
            density, claimed = membrane(shape, voxel_spacing_angstrom, center, radius, surroundings, rng)
            density[self.blocked] = 0
            claimed &= ~self.blocked
            self.density += np.float32(surroundings.membrane_strength * typical) * density
            self.classes[claimed] = membrane_label
            self.blocked |= claimed
        for _ in range(surroundings.gold_beads):
            edge = int(np.ceil(surroundings.gold_diameter_angstrom / voxel_spacing_angstrom)) + 4
            center = np.full(3, center_index(edge)) + rng.uniform(-0.5, 0.5, size=3)
            density, claimed = gold_bead(
                (edge,) * 3, voxel_spacing_angstrom, center, surroundings.gold_diameter_angstrom
            )
            corner = _find_room(self.blocked, claimed, rng)
            if corner is not None:
                dense = np.float32(surroundings.gold_strength * typical) * density
                self.add(corner, dense, claimed, 1, 0, membrane_label + 1)


def build_specimen(
    templates: Mapping[str, Float[Tensor, "_ _ _"]],
    counts: Mapping[str, int],
    shape_zyx: tuple[int, int, int],
    voxel_spacing_angstrom: float,
    *,
    rng: np.random.Generator,
    name: str = "specimen",
    gap_angstrom: float = 10.0,
    surroundings: Surroundings | None = None,
) -> Specimen:
    """Pack particles into a slab: uniform random poses, sub-voxel positions, no two masks within the gap.

    Parameters
    ----------
    templates
        Class name -> (d, d, d) density at ``voxel_spacing_angstrom``, positive, its reference center at voxel d//2.
        Edges may differ between classes.
    counts
        Class name -> how many. Particles that find no room are counted in ``Specimen.unplaced``, never squeezed in.
    rng
        The only source of randomness.
    gap_angstrom
        Least distance between the masks of two particles, along the axes, rounded to voxels.

    Notes
    -----
    Large classes are placed first, small ones fill what is left. Every mask lies wholly inside the volume. Masks, not
    bounding spheres, decide about room, so that elongated particles can lie side by side.

    Raises
    ------
    ValueError
        A class without a template, a template that is no cube or has no positive density, a negative count.
    """
    missing = sorted(set(counts) - set(templates))
    if missing:
        raise ValueError(f"no template for {', '.join(missing)}; templates are {', '.join(templates)}")
    if any(number < 0 for number in counts.values()):
        raise ValueError(f"counts are {dict(counts)}, expected 0 or more of each class")
    shapes = {key: _prepare(key, template) for key, template in templates.items()}
    class_names = tuple(templates)
    slab = _Slab(shape_zyx)
    typical = float(np.mean([shape.typical for shape in shapes.values()])) if shapes else 1.0
    if surroundings is not None:
        slab.add_surroundings(surroundings, voxel_spacing_angstrom, typical, len(class_names) + 1, rng)
    gap = max(0, round(gap_angstrom / voxel_spacing_angstrom))
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    positions, rotations, labels = [], [], []
    unplaced: dict[str, int] = {}
    for key in sorted(counts, key=lambda k: (-shapes[k].size, class_names.index(k))):
        number, failures = counts[key], 0
        shape = shapes[key]
        turned = random_rotations(number, generator)
        shifts = torch.rand((number, 3), generator=generator) - 0.5
        for k in range(number):
            if failures == 2:  # two poses in a row found no room: neither will the others
                break
            posed = rotate_upsampled(shape.fine[None], _FINER, turned[k, None], shifts[k, None])[0].numpy()
            mask = posed > shape.threshold
            corner = _find_room(slab.blocked, mask, rng)
            if corner is None:
                failures += 1
                continue
            failures = 0
            labels.append(key)
            slab.add(corner, posed, mask, gap, len(labels), class_names.index(key) + 1)
            positions.append(corner + center_index(posed.shape[0]) + shifts[k].double().numpy())
            rotations.append(turned[k].double().numpy())
        if labels.count(key) < number:
            unplaced[key] = number - labels.count(key)
    particles = Particles.create(
        [name] * len(labels),
        np.asarray(positions, dtype=np.float64).reshape(-1, 3) * voxel_spacing_angstrom,
        np.asarray(rotations, dtype=np.float64).reshape(-1, 3, 3),
        np.asarray(labels, dtype=object),
    )
    return Specimen(
        density=slab.density,
        particles=particles,
        instance_labels=slab.instances,
        class_labels=slab.classes,
        class_names=class_names,
        voxel_spacing_angstrom=voxel_spacing_angstrom,
        unplaced=MappingProxyType(unplaced),
    )

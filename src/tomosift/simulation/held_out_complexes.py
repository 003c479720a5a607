"""Synthetic complexes that a training does not use, to estimate how embeddings vary between and within classes."""

from collections.abc import Iterator
from dataclasses import replace

from tomosift.data.batches import Batch
from tomosift.physics.imaging import lab_protocol
from tomosift.simulation.synthetic_stream import SyntheticComplexStream

_HELD_OUT_SEED_OFFSET = 1_000_004  # added to the seed of a training, for complexes that it does not use
_SNRS = (0.03, 0.06, 0.12, 0.3)
_PARTICLES_PER_COMPLEX = 40
_MAX_SHIFT_VOXELS = 2.0


def simulate_held_out_groups(
    complexes: int, seed: int, box_size: int, voxel_spacing_angstrom: float
) -> Iterator[Batch]:
    """Simulate four groups of particles of synthetic complexes that a training with this seed does not use.

    Each group has an SNR of its own, and every second one no CTF; all else is as in the field's published simulation.
    So particles of a group vary as those of one data set do, where tilt range and defocus hardly differ.

    Parameters
    ----------
    complexes
        In each group.
    seed
        Of the training.
    box_size, voxel_spacing_angstrom
        Of the subtomograms.

    Yields
    ------
    Batch
        The particles of a group, complex after complex.
    """
    for group, snr in enumerate(_SNRS):
        shift = (-_MAX_SHIFT_VOXELS, _MAX_SHIFT_VOXELS)
        ranges = replace(lab_protocol(), snr=(snr, snr), shift_voxels=shift, has_ctf=group % 2 == 0)
        group_seed = seed + _HELD_OUT_SEED_OFFSET + group
        stream = SyntheticComplexStream(
            complexes, _PARTICLES_PER_COMPLEX, group_seed, box_size, voxel_spacing_angstrom, ranges
        )
        yield stream.batch(0)

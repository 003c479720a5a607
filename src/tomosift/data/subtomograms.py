"""A set of subtomograms on disk.

A set is a folder of plain files that other tools read too::

    boxes-00000.npy      (up to 4096, d, d, d) float16, each box of zero mean and unit variance
    halves-00000.npy     (up to 4096, 2, d, d, d) the same particles from the two half tomograms; optional
    masks-00000.npy      (up to 4096, d, d, d) uint8, 1 where a voxel belongs to the particle; optional
    particles.parquet    one row per particle; `stored` is the place of its box in the concatenated shards
    set.json             what the boxes are; written last, so a folder without it is unfinished

Boxes lie in the order in which they were cut, rows in the order of the particles that were asked for.
"""

from tomosift.data.set_reader import Subtomograms, open_subtomograms
from tomosift.data.set_writer import SubtomogramWriter

__all__ = ["SubtomogramWriter", "Subtomograms", "open_subtomograms"]

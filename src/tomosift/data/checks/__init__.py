"""Checks before the work starts: positions, box size, contrast, voxel spacing and missing wedge."""

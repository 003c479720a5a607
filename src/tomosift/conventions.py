"""The constants behind CONVENTIONS.md; everything else imports them from here."""

DEFAULT_TILT_RANGE_DEG = (-60.0, 60.0)
"""Assumed, and said so, where no file states the tilt angles."""

FULL_TILT_RANGE_DEG = (-90.0, 90.0)
"""A volume without a missing wedge."""

WORKING_VOXEL_SPACING_ANGSTROM = 10.0
"""The field's usual working point for subtomogram classification."""

UNLABELED = -1
"""Label of a particle whose class is not known."""

UNKNOWN_CLASS = "unknown"
"""Answer for a particle that no class fits well enough."""


def center_index(size: int) -> int:
    """Index of the voxel about which volumes of edge ``size`` rotate: ``size // 2``, for even and odd sizes alike."""
    return size // 2

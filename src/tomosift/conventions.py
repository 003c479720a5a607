"""The constants behind CONVENTIONS.md, and the one check whether two voxel spacings are the same."""

DEFAULT_TILT_RANGE_DEG = (-60.0, 60.0)
"""Assumed, and reported as assumed, where no file states the tilt angles."""

WORKING_VOXEL_SPACING_ANGSTROM = 10.0
"""The field's usual working point for subtomogram classification."""

RELATIVE_SPACING_TOLERANCE = 0.01
"""Relative difference of voxel spacings up to which two things are used together."""

UNLABELED = -1
"""Label of a particle whose class is not known."""

UNKNOWN_CLASS = "unknown"
"""Predicted class of a particle that no class fits well enough."""


def center_index(size: int) -> int:
    """Return the index of the voxel about which volumes of edge ``size`` rotate, for even and odd sizes alike.

    Examples
    --------
    >>> from tomosift.conventions import center_index
    >>> center_index(32), center_index(33)
    (16, 16)
    """
    return size // 2


def is_same_spacing(got_angstrom: float, expected_angstrom: float) -> bool:
    """Whether two voxel spacings differ by at most one percent of the expected one."""
    return abs(got_angstrom - expected_angstrom) <= RELATIVE_SPACING_TOLERANCE * expected_angstrom


def check_same_spacing(
    got_angstrom: float, expected_angstrom: float, what_got: str, what_expected: str, advice: str | None = None
) -> None:
    """Refuse two things of different voxel spacing that are to be used together.

    Parameters
    ----------
    got_angstrom, expected_angstrom
        The two voxel spacings.
    what_got
        The thing whose spacing differs, for the sentence "voxel spacing of WHAT_GOT is 13.33 A".
    what_expected
        The other thing with its verb, for the clause "but WHAT_EXPECTED 10.00 A", such as "model was trained at".
    advice
        What the user can do; by default to extract at the expected spacing.

    Raises
    ------
    ValueError
        They differ by more than one percent.

    Examples
    --------
    >>> from tomosift.conventions import check_same_spacing
    >>> check_same_spacing(10.05, 10.0, "set", "model was trained at")
    >>> check_same_spacing(13.33, 10.0, "set", "model was trained at")
    Traceback (most recent call last):
        ...
    ValueError: voxel spacing of set is 13.33 A but model was trained at 10.00 A; extract with --voxel-spacing 10
    """
    if not is_same_spacing(got_angstrom, expected_angstrom):
        advice = f"extract with --voxel-spacing {expected_angstrom:g}" if advice is None else advice
        raise ValueError(
            f"voxel spacing of {what_got} is {got_angstrom:.2f} A but {what_expected} {expected_angstrom:.2f} A; "
            f"{advice}"
        )

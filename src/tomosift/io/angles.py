"""Euler angles of the field's programs, to and from the one rotation matrix used inside.

Inside, ``rotation`` takes the reference into the tomogram and acts on zyx column vectors (see CONVENTIONS.md). Files
speak of xyz vectors; both orders are converted here and nowhere else.
"""

import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation


def swap_xyz_zyx(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same rotations, for vectors written in the opposite axis order; its own inverse. ``(n, 3, 3)``."""
    return np.ascontiguousarray(rotation[:, ::-1, ::-1])


def _from_euler(
    sequence: Literal["ZYZ", "zxz", "xyz"], angles_deg: NDArray[np.float64], inverse: bool
) -> NDArray[np.float64]:
    matrix = np.full((len(angles_deg), 3, 3), np.nan)
    known = np.isfinite(angles_deg).all(axis=1)
    if known.any():
        turned = Rotation.from_euler(sequence, angles_deg[known], degrees=True)
        matrix[known] = (turned.inv() if inverse else turned).as_matrix()
    return swap_xyz_zyx(matrix)


def _to_euler(
    sequence: Literal["ZYZ", "zxz", "xyz"], rotation: NDArray[np.float64], inverse: bool
) -> NDArray[np.float64]:
    angles = np.full((len(rotation), 3), np.nan)
    known = np.isfinite(rotation).all(axis=(1, 2))
    if known.any():
        turned = Rotation.from_matrix(swap_xyz_zyx(rotation[known]))
        # At tilt 0 or 180 only the sum of the outer angles is defined and scipy's warning says so: any split is right.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Gimbal lock")
            angles[known] = (turned.inv() if inverse else turned).as_euler(sequence, degrees=True)
    return angles


def from_relion(rot_tilt_psi_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotations of RELION's (rot, tilt, psi): ``Rz(-psi) Ry(-tilt) Rz(-rot)``, so that rot turns the reference first.

    Two triples of one particle compose as RELION does, ``from_relion(subtomogram) @ from_relion(angle)``.

    Source: RELION ``Euler_angles2matrix``, which is scipy's ``from_euler('ZYZ').inv()``; ``ParticleSet::getMatrix4x4``
    uses that matrix to map "from particle space to tomogram space".
    """
    return _from_euler("ZYZ", rot_tilt_psi_deg, inverse=True)


def to_relion(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) rot, tilt, psi in degrees; NaN stays NaN."""
    return _to_euler("ZYZ", rotation, inverse=True)


def from_dynamo(tdrot_tilt_narot_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotations of Dynamo's (tdrot, tilt, narot): ``Rz(-tdrot) Rx(-tilt) Rz(-narot)``; narot turns the reference first.

    Source: Dynamo's table convention; the extrinsic zxz rotation by the three angles takes the tomogram into the
    reference and is inverted here.
    """
    return _from_euler("zxz", tdrot_tilt_narot_deg, inverse=True)


def to_dynamo(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) tdrot, tilt, narot in degrees; NaN stays NaN."""
    return _to_euler("zxz", rotation, inverse=True)


def from_tom(phi_psi_theta_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotations of a TOM / AV3 motive list's (phi, psi, theta), rows 17 to 19: ``Rz(psi) Rx(theta) Rz(phi)``.

    Dynamo's triple for the same particle is (-psi, -theta, -phi).
    """
    return _from_euler("zxz", phi_psi_theta_deg[:, [0, 2, 1]], inverse=False)


def to_tom(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) phi, psi, theta in degrees, in the order of the motive list; NaN stays NaN."""
    return _to_euler("zxz", rotation, inverse=False)[:, [0, 2, 1]]


def from_slicer(xyz_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotations of IMOD's slicer angles (x, y, z): ``Rz(-z) Ry(-y) Rx(-x)``.

    The slicer turns the tomogram by z, then y, then x until the particle stands upright in the window; the reference
    is that upright view, so the way from the reference into the tomogram is the inverse.
    """
    return _from_euler("xyz", -xyz_deg, inverse=False)


def to_slicer(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) slicer angles x, y, z in degrees; NaN stays NaN."""
    return -_to_euler("xyz", rotation, inverse=False)

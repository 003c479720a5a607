"""Euler angles of RELION, Dynamo, TOM and IMOD, to and from rotation matrices ``(n, 3, 3)``.

``rotation`` takes the reference into the tomogram and acts on zyx column vectors (see CONVENTIONS.md). Files use xyz
vectors; the two orders are converted here and nowhere else. An unknown orientation is NaN in both forms.
"""

import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation


def swap_xyz_zyx(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the same rotations ``(n, 3, 3)`` for vectors in the opposite axis order; its own inverse."""
    return np.ascontiguousarray(rotation[:, ::-1, ::-1])


def drop_uniform_angles(angles_deg: NDArray[np.float64]) -> tuple[NDArray[np.float64], str]:
    """Return the angles ``(n, 3)``, all NaN where they say nothing, and a note in that case.

    Programs that know no orientation write zeros, or one triple for every particle.

    Examples
    --------
    >>> drop_uniform_angles(np.zeros((2, 3)))[1]
    'all angles are equal (0, 0, 0), so the orientations are taken for unknown'
    """
    known = angles_deg[np.isfinite(angles_deg).all(axis=1)]
    if not len(known) or (known != known[0]).any() or (len(known) == 1 and known.any()):
        return angles_deg, ""
    listed = ", ".join(f"{angle:g}" for angle in known[0])
    note = f"all angles are equal ({listed}), so the orientations are taken for unknown"
    return np.full_like(angles_deg, np.nan), note if len(known) > 1 else ""


def _from_euler(
    sequence: Literal["ZYZ", "zxz", "xyz"], angles_deg: NDArray[np.float64], inverse: bool
) -> NDArray[np.float64]:
    """Return rotations on zyx vectors from scipy's Euler angles on xyz vectors."""
    matrix = np.full((len(angles_deg), 3, 3), np.nan)
    known = np.isfinite(angles_deg).all(axis=1)
    if known.any():
        rotation = Rotation.from_euler(sequence, angles_deg[known], degrees=True)
        matrix[known] = (rotation.inv() if inverse else rotation).as_matrix()
    return swap_xyz_zyx(matrix)


def _to_euler(
    sequence: Literal["ZYZ", "zxz", "xyz"], rotation: NDArray[np.float64], inverse: bool
) -> NDArray[np.float64]:
    """Return scipy's Euler angles on xyz vectors, in degree, from rotations on zyx vectors."""
    angles = np.full((len(rotation), 3), np.nan)
    known = np.isfinite(rotation).all(axis=(1, 2))
    if known.any():
        rotation_xyz = Rotation.from_matrix(swap_xyz_zyx(rotation[known]))
        # At tilt 0 or 180 only the sum of the outer angles is defined, so scipy's warning does not matter.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Gimbal lock")
            angles[known] = (rotation_xyz.inv() if inverse else rotation_xyz).as_euler(sequence, degrees=True)
    return angles


def from_relion(rot_tilt_psi_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rotations of RELION's (rot, tilt, psi): ``Rz(-psi) Ry(-tilt) Rz(-rot)``; rot rotates the reference first.

    Two triples of one particle compose as in RELION, ``from_relion(subtomogram) @ from_relion(angle)``.

    Parameters
    ----------
    rot_tilt_psi_deg
        ``(n, 3)`` in degree.

    Returns
    -------
    array (n, 3, 3)
        Reference to tomogram, on zyx vectors.

    Examples
    --------
    >>> from_relion(np.array([[90.0, 0.0, 0.0]]))[0].round().astype(int).tolist()  # about z, on zyx vectors
    [[1, 0, 0], [0, 0, -1], [0, 1, 0]]

    Source: RELION ``Euler_angles2matrix``, which is scipy's ``from_euler('ZYZ').inv()``; ``ParticleSet::getMatrix4x4``
    uses that matrix to map "from particle space to tomogram space".
    """
    return _from_euler("ZYZ", rot_tilt_psi_deg, inverse=True)


def to_relion(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return RELION's rot, tilt, psi in degree ``(n, 3)``; the inverse of `from_relion`."""
    return _to_euler("ZYZ", rotation, inverse=True)


def from_dynamo(tdrot_tilt_narot_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rotations of Dynamo's (tdrot, tilt, narot) ``(n, 3)`` in degree: ``Rz(-tdrot) Rx(-tilt) Rz(-narot)``.

    narot rotates the reference first. The extrinsic zxz rotation by the three angles takes the tomogram into the
    reference and is inverted here.

    Source: Dynamo's table convention.
    """
    return _from_euler("zxz", tdrot_tilt_narot_deg, inverse=True)


def to_dynamo(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Dynamo's tdrot, tilt, narot in degree ``(n, 3)``; the inverse of `from_dynamo`."""
    return _to_euler("zxz", rotation, inverse=True)


def from_tom(phi_psi_theta_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rotations of TOM's and AV3's (phi, psi, theta) ``(n, 3)`` in degree: ``Rz(psi) Rx(theta) Rz(phi)``.

    The order is that of rows 17 to 19 of a motive list. Dynamo's triple for the same particle is (-psi, -theta, -phi).
    """
    return _from_euler("zxz", phi_psi_theta_deg[:, [0, 2, 1]], inverse=False)


def to_tom(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return TOM's phi, psi, theta in degree ``(n, 3)``, in the order of a motive list; the inverse of `from_tom`."""
    return _to_euler("zxz", rotation, inverse=False)[:, [0, 2, 1]]


def from_slicer(xyz_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rotations of IMOD's slicer angles (x, y, z) ``(n, 3)`` in degree: ``Rz(-z) Ry(-y) Rx(-x)``.

    The slicer rotates the tomogram by z, then y, then x until the particle is upright in the window. The reference is
    that upright view, so the rotation from the reference into the tomogram is the inverse.
    """
    return _from_euler("xyz", -xyz_deg, inverse=False)


def to_slicer(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return slicer angles x, y, z in degree ``(n, 3)``; the inverse of `from_slicer`."""
    return -_to_euler("xyz", rotation, inverse=False)

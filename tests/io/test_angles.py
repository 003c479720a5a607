"""Euler angles of three programs mean the same rotation, by closed forms and by an independent package."""

import numpy as np
import pytest
from eulerangles import convert_eulers
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomosift.io import angles

TRIPLES = np.array([[0.0, 0.0, 0.0], [23.0, 57.0, -101.0], [-170.0, 121.0, 8.0], [91.0, 3.0, -45.0]])


def turn(axis: str, degrees: float) -> NDArray[np.float64]:
    """Right-handed turn about one axis, acting on xyz column vectors, written out by hand."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return {"z": np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]),
            "y": np.array([[c, 0, s], [0, 1.0, 0], [-s, 0, c]]),
            "x": np.array([[1.0, 0, 0], [0, c, -s], [0, s, c]])}[axis]  # fmt: skip


def relion_matrix(rot: float, tilt: float, psi: float) -> NDArray[np.float64]:
    """The nine formulas of RELION's Euler matrix, which maps the particle's frame into the tomogram's."""
    (ca, cb, cg), (sa, sb, sg) = np.cos(np.deg2rad([rot, tilt, psi])), np.sin(np.deg2rad([rot, tilt, psi]))
    return np.array(
        [
            [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
            [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
            [sb * ca, sb * sa, cb],
        ]
    )


def on_xyz(rotation_zyx: NDArray[np.float64]) -> NDArray[np.float64]:
    return angles.swap_xyz_zyx(rotation_zyx)


def test_relion_angles_give_relions_own_matrix() -> None:
    expected = np.stack([relion_matrix(*triple) for triple in TRIPLES])
    np.testing.assert_allclose(on_xyz(angles.from_relion(TRIPLES)), expected, atol=1e-12)


def test_relion_rot_rotates_the_reference_first() -> None:
    (rotation,) = on_xyz(angles.from_relion(TRIPLES[1:2]))
    rot, tilt, psi = TRIPLES[1]
    np.testing.assert_allclose(rotation, turn("z", -psi) @ turn("y", -tilt) @ turn("z", -rot), atol=1e-12)


def test_dynamo_narot_rotates_the_reference_first() -> None:
    (rotation,) = on_xyz(angles.from_dynamo(TRIPLES[1:2]))
    tdrot, tilt, narot = TRIPLES[1]
    np.testing.assert_allclose(rotation, turn("z", -tdrot) @ turn("x", -tilt) @ turn("z", -narot), atol=1e-12)


def test_tom_phi_rotates_the_reference_first() -> None:
    (rotation,) = on_xyz(angles.from_tom(TRIPLES[1:2]))
    phi, psi, theta = TRIPLES[1]
    np.testing.assert_allclose(rotation, turn("z", psi) @ turn("x", theta) @ turn("z", phi), atol=1e-12)


def test_dynamo_is_tom_with_order_and_signs_reversed() -> None:
    tdrot, tilt, narot = TRIPLES.T
    np.testing.assert_allclose(
        angles.from_dynamo(TRIPLES), angles.from_tom(np.stack([-narot, -tdrot, -tilt], axis=1)), atol=1e-12
    )


@pytest.mark.parametrize("row", range(len(TRIPLES)))
def test_dynamo_and_relion_agree_with_the_eulerangles_package(row: int) -> None:
    triple = TRIPLES[row : row + 1]
    converted = np.asarray(convert_eulers(triple, source_meta="dynamo", target_meta="relion")).reshape(1, 3)
    np.testing.assert_allclose(angles.from_dynamo(triple), angles.from_relion(converted), atol=1e-6)


@pytest.mark.parametrize("program", ["relion", "dynamo", "tom"])
@given(seed=st.integers(0, 2**31))
def test_rotations_survive_the_way_to_angles_and_back(program: str, seed: int) -> None:
    rotation = Rotation.random(5, random_state=seed).as_matrix()
    written = getattr(angles, f"to_{program}")(rotation)
    np.testing.assert_allclose(getattr(angles, f"from_{program}")(written), rotation, atol=1e-9)


@pytest.mark.parametrize("program", ["relion", "dynamo", "tom"])
def test_an_unknown_orientation_stays_unknown(program: str) -> None:
    rotation = np.stack([np.full((3, 3), np.nan), np.eye(3)])
    written = getattr(angles, f"to_{program}")(rotation)
    assert np.isnan(written[0]).all()
    np.testing.assert_allclose(getattr(angles, f"from_{program}")(written), rotation, atol=1e-12)


def test_axis_order_swap_is_its_own_inverse() -> None:
    rotation = Rotation.random(3, random_state=0).as_matrix()
    np.testing.assert_array_equal(angles.swap_xyz_zyx(angles.swap_xyz_zyx(rotation)), rotation)

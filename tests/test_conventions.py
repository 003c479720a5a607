"""Every line of CONVENTIONS.md is true: one test per line, and a line without a test fails."""

import re
import struct
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomosift.acquisition import Acquisition
from tomosift.conventions import UNLABELED, center_index
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.subtomogram_set import open_subtomograms
from tomosift.io import angles
from tomosift.io import particles as formats
from tomosift.io.particles import dynamo, imod, motive_list, read_particles, write_particles
from tomosift.io.particles import relion as star
from tomosift.io.particles import relion_columns as relion
from tomosift.io.volumes import open_volume, write_volume
from tomosift.particles import Grid, Particles
from tomosift.physics.conditions import ImagingRanges
from tomosift.physics.ctf import ctf_2d, ctf_3d
from tomosift.physics.imaging import image_parts, lab_protocol
from tomosift.physics.projection import project
from tomosift.physics.rotation import quaternions_to_matrices, random_rotations, rotate
from tomosift.physics.wedge import apply_mask, wedge_mask
from tomosift.simulation.dataset_tables import tilt_series_table
from tomosift.simulation.specimen import build_specimen
from tomosift.simulation.structures.densities import template
from tomosift.simulation.subtomograms import SubtomogramSetConfig, simulate_subtomograms
from tomosift.simulation.tilt_series import (
    TiltSeriesSettings,
    box_variance,
    plan_acquisition,
    record_tilt_series,
    snr_centers,
)
from tomosift.train.schedule import step_generator

PAGE = Path(__file__).resolve().parents[1] / "CONVENTIONS.md"
LINES = re.findall(r"^- \*\*(.+?)\*\*:", PAGE.read_text(), flags=re.MULTILINE)

QUARTER_ABOUT_Z = quaternions_to_matrices(torch.tensor([[np.cos(np.pi / 4), 0, 0, np.sin(np.pi / 4)]]).float())


def test_name(line: str) -> str:
    return "test_" + re.sub(r"\W+", "_", line.lower()).strip("_")


test_name.__test__ = False  # type: ignore[attr-defined]


def test_every_line_of_the_page_has_a_test_and_every_test_a_line() -> None:
    assert len(LINES) == len(set(LINES))
    ours = {name for name, value in globals().items() if name.startswith("test_") and isinstance(value, Callable)}
    ours -= {"test_name", "test_every_line_of_the_page_has_a_test_and_every_test_a_line"}
    assert {test_name(line) for line in LINES} == ours


def on_xyz(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    return angles.swap_xyz_zyx(rotation)[0]


def turn(axis: str, degrees: float) -> NDArray[np.float64]:
    """Right-handed turn of xyz columns, from the library that knows nothing of ours."""
    return Rotation.from_euler(axis, degrees, degrees=True).as_matrix()


def spot(size: int, *offset_zyx: int) -> torch.Tensor:
    volume = torch.zeros(1, size, size, size)
    volume[0, *(size // 2 + o for o in offset_zyx)] = 1.0
    return volume


def where(volume: torch.Tensor) -> tuple[int, ...]:
    """Offset of the brightest voxel from the center voxel."""
    size = volume.shape[-1]
    return tuple(int(i) - size // 2 for i in np.unravel_index(int(volume[0].argmax()), volume.shape[1:]))


def star_file(path: Path, optics: dict[str, object] | None = None, **columns: object) -> Path:
    """A one-particle list, written without any code of ours."""
    blocks = [("optics", optics)] if optics else []
    text = ""
    for name, values in [*blocks, ("particles", columns)]:
        labels = "\n".join(f"_{label} #{k}" for k, label in enumerate(values, 1))
        text += f"\ndata_{name}\n\nloop_\n{labels}\n" + " ".join(str(v) for v in values.values()) + "\n"
    path.write_text(text)
    return path


def test_axes(tmp_path: Path) -> None:
    volume = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    write_volume(tmp_path / "a.mrc", volume, 10.0)
    with mrcfile.open(tmp_path / "a.mrc") as raw:
        assert (int(raw.header.nx), int(raw.header.ny), int(raw.header.nz)) == (4, 3, 2)
    assert (tmp_path / "a.mrc").read_bytes()[1024:1032] == struct.pack("<2f", 0.0, 1.0)  # neighbors along x
    opened = open_volume(tmp_path / "a.mrc")
    assert opened.shape_zyx == (2, 3, 4)
    np.testing.assert_array_equal(opened.read(), volume)


def test_center_voxel() -> None:
    for size in (8, 9):
        assert center_index(size) == size // 2
        turns = random_rotations(4, torch.Generator().manual_seed(0))
        turned = rotate(spot(size, 0, 0, 0).repeat(4, 1, 1, 1), turns)
        assert torch.allclose(turned[:, size // 2, size // 2, size // 2], torch.ones(4), atol=1e-5)


def test_handedness() -> None:
    x, y = torch.tensor([0.0, 0, 1]), torch.tensor([0.0, 1, 0])
    assert torch.allclose(QUARTER_ABOUT_Z[0] @ x, y, atol=1e-6)
    assert where(rotate(spot(9, 0, 0, 3), QUARTER_ABOUT_Z)) == (0, 3, 0)
    assert torch.det(QUARTER_ABOUT_Z[0]) == pytest.approx(1.0)
    np.testing.assert_allclose(on_xyz(QUARTER_ABOUT_Z.double().numpy()), turn("z", 90), atol=1e-6)


def test_contrast(tmp_path: Path) -> None:
    dark = np.zeros((8, 8, 8), dtype=np.float32)
    dark[4, 4, 4] = -5.0
    write_volume(tmp_path / "dark.mrc", dark, 10.0)
    tomogram = Tomogram("dark", tmp_path / "dark.mrc", Grid((8, 8, 8), 10.0), is_inverted=True)
    assert tomogram.crop((4, 4, 4), 4)[2, 2, 2] == 5.0
    density = template("apoferritin", 10.0, 32)
    assert density[16 - 5 : 16 + 6].max() > abs(density.min())


def test_boxes(tmp_path: Path) -> None:
    box = np.random.default_rng(0).normal(3.0, 7.0, (1, 8, 8, 8)).astype(np.float32)
    poses = random_rotations(1, torch.Generator().manual_seed(0)).numpy()
    particles = Particles.create(["a"], np.zeros((1, 3)), rotation=poses)
    writer = SubtomogramWriter(tmp_path / "set", box_size=8, voxel_spacing_angstrom=10.0)
    writer.append(box, particles, np.float32([[-60, 60]]))
    writer.close()
    (shard,) = (tmp_path / "set").glob("boxes-*.npy")
    assert np.load(shard).dtype == np.float16
    read = open_subtomograms(tmp_path / "set").volumes(np.array([0]))[0]
    assert read.mean() == pytest.approx(0.0, abs=1e-3)
    assert read.std() == pytest.approx(1.0, abs=1e-3)
    assert np.corrcoef(read.ravel(), box.ravel())[0, 1] > 0.9999


def test_templates() -> None:
    density = template("apoferritin", 10.0, 32).double()
    index = torch.arange(32, dtype=torch.float64) - 16
    for axis in range(3):
        marginal = density.sum(dim=tuple(k for k in range(3) if k != axis))
        assert float((marginal * index).sum() / marginal.sum()) == pytest.approx(0.0, abs=0.1)
    assert 1.0 < float(density.max()) < 10.0  # volts; compact protein has 3


def test_masks(tmp_path: Path) -> None:
    still = replace(lab_protocol(), shift_voxels=(0.0, 0.0), snr=(0.1, 0.1))
    config = SubtomogramSetConfig(("groel",), 3, 32, still, max_neighbors=4)
    boxes = simulate_subtomograms(config, tmp_path, masks=True)
    density = template("groel", 10.0, 48)
    inside = int((density > 0.15 * density.max()).sum())
    # Turning a particle moves its surface through the grid but leaves its volume.
    for mask in boxes.masks(range(3)):
        assert int(mask.sum()) == pytest.approx(inside, rel=0.05)


def test_units() -> None:
    suffixes = ("_angstrom", "_um", "_mm", "_kv", "_deg", "_e_per_A2", "_angstrom2", "_voxels", "_nyquist")
    pure = {
        "amplitude_contrast", "snr", "noise_before_ctf", "scale", "rotation_max_deg", "rotation", "score", "shape_zyx",
    }  # fmt: skip
    words = {"particle_id", "tomogram", "class_name", "columns", "tables", "source", "notes", "aliases"}
    for kind in (Acquisition, Grid, Particles, ImagingRanges):
        for field in fields(kind):
            if field.type in (bool, "bool") or field.name in pure | words:
                continue
            assert field.name.endswith(suffixes), f"{kind.__name__}.{field.name}"


def test_pixels_and_angstrom(tmp_path: Path) -> None:
    volume = np.zeros((8, 9, 10), dtype=np.float32)
    volume[3, 4, 5] = 1.0
    write_volume(tmp_path / "a.mrc", volume, 12.0)
    tomogram = Tomogram("a", tmp_path / "a.mrc", Grid((8, 9, 10), 12.0))
    position = np.array([36.0, 48.0, 60.0])
    assert tomogram.crop(position / 12.0, 5)[2, 2, 2] == 1.0
    between = tomogram.crop(position / 12.0 + [0, 0, 0.5], 4)
    assert between[2, 2, 1] == pytest.approx(between[2, 2, 2], rel=0.01)


def test_positions(tmp_path: Path) -> None:
    file = star_file(tmp_path / "p.star", rlnTomoName="a", rlnCoordinateX=5, rlnCoordinateY=4, rlnCoordinateZ=3)
    particles = read_particles(file, voxel_spacing_angstrom=12.0)
    np.testing.assert_allclose(particles.position_zyx_angstrom, [[36.0, 48.0, 60.0]])


def test_first_pixel(tmp_path: Path) -> None:
    at_voxel_0 = Particles.create(["1"], np.zeros((1, 3)), class_name=["object"])
    assert (dynamo.FIRST_VOXEL_XYZ, motive_list.FIRST_VOXEL_XYZ) == ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
    assert imod.FIRST_VOXEL_XYZ == (0.5, 0.5, 0.0)
    for name in ("a.star", "a.csv", "a.tbl", "a.em", "a.mod", "a.ndjson"):
        path = tmp_path / name
        write_particles(path, at_voxel_0, voxel_spacing_angstrom=7.0)
        read = read_particles(path, voxel_spacing_angstrom=7.0)
        np.testing.assert_allclose(read.position_zyx_angstrom, 0.0, atol=1e-5, err_msg=name)
    assert (tmp_path / "a.tbl").read_text().split()[23:26] == ["0.5", "0.5", "0.5"]
    rows = np.frombuffer((tmp_path / "a.em").read_bytes()[512:], dtype="<f4")
    assert rows[7:10].tolist() == [1.0, 1.0, 1.0]
    assert star.read_star(tmp_path / "a.star")["particles"]["rlnCoordinateX"].tolist() == [0.0]
    assert '"location": {"x": 0.0, "y": 0.0, "z": 0.0}' in (tmp_path / "a.ndjson").read_text()
    assert struct.pack(">3f", 0.5, 0.5, 0.0) in (tmp_path / "a.mod").read_bytes()
    warp = star_file(
        tmp_path / "w.star", rlnMicrographName="a.tomostar", rlnCoordinateX=0, rlnCoordinateY=0, rlnCoordinateZ=2
    )
    np.testing.assert_allclose(read_particles(warp, voxel_spacing_angstrom=7.0).position_zyx_angstrom, [[14, 0, 0]])
    picks = tmp_path / "ExperimentRuns" / "run" / "Picks" / "user_1_object.json"
    picks.parent.mkdir(parents=True)
    picks.write_text(
        '{"pickable_object_name": "object", "user_id": "user", "session_id": "1", "run_name": "run",'
        ' "points": [{"location": {"x": 1.0, "y": 2.0, "z": 3.0}}]}'
    )
    np.testing.assert_allclose(formats.read_particles(picks).position_zyx_angstrom, [[3.0, 2.0, 1.0]])


def test_relion_pixels(tmp_path: Path) -> None:
    file = star_file(
        tmp_path / "p.star",
        {"rlnOpticsGroup": 1, "rlnTomoTiltSeriesPixelSize": 1.5, "rlnTomoSubtomogramBinning": 4},
        rlnTomoName="a", rlnCoordinateX=10, rlnCoordinateY=20, rlnCoordinateZ=30, rlnOpticsGroup=1,
    )  # fmt: skip
    np.testing.assert_allclose(read_particles(file, voxel_spacing_angstrom=6.0).position_zyx_angstrom, [[45, 30, 15]])


def test_relion_5_centered_coordinates(tmp_path: Path) -> None:
    coordinates = dict.fromkeys(relion.CENTERED_COORDINATES, 0.0)
    sizes = {"rlnTomoSizeX": 101, "rlnTomoSizeY": 60, "rlnTomoSizeZ": 41}
    optics = {"rlnOpticsGroup": 1, "rlnTomoTiltSeriesPixelSize": 2.0}
    file = star_file(tmp_path / "p.star", optics, rlnTomoName="a", **coordinates, **sizes, rlnOpticsGroup=1)
    np.testing.assert_allclose(star.read_particles(file).position_zyx_angstrom, [[41.0, 60.0, 101.0]])
    python = star.read_particles(file, center="relion-python")
    np.testing.assert_allclose(python.position_zyx_angstrom, [[39.0, 58.0, 99.0]])


def test_relion_origins(tmp_path: Path) -> None:
    columns: dict[str, object] = {
        "rlnTomoName": "a", "rlnCoordinateX": 100, "rlnCoordinateY": 100, "rlnCoordinateZ": 100,
        "rlnOriginXAngst": 5.0, "rlnOriginYAngst": 0.0, "rlnOriginZAngst": 0.0,
    }  # fmt: skip
    plain = read_particles(star_file(tmp_path / "plain.star", **columns), voxel_spacing_angstrom=1.0)
    np.testing.assert_allclose(plain.position_zyx_angstrom, [[100, 100, 95]])
    subtomogram = dict(zip(relion.SUBTOMOGRAM_ANGLES, (20.0, 50.0, -70.0), strict=True))
    turned = read_particles(star_file(tmp_path / "turned.star", **columns, **subtomogram), voxel_spacing_angstrom=1.0)
    shift = angles.from_relion(np.array([[20.0, 50.0, -70.0]]))[0] @ [0, 0, 5.0]
    np.testing.assert_allclose(turned.position_zyx_angstrom, [np.array([100, 100, 100]) - shift], atol=1e-9)


def test_rotation() -> None:
    turns = random_rotations(1, torch.Generator().manual_seed(3))
    v = torch.tensor([5.0, -3.0, 4.0])
    axis = torch.arange(33) - 16.0
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    blob = torch.exp(-0.5 * ((grid - v) ** 2).sum(-1) / 1.5**2)[None]
    turned = rotate(blob, turns)[0]
    center = (turned[..., None] * grid).sum((0, 1, 2)) / turned.sum()
    assert torch.allclose(center, turns[0] @ v, atol=0.05)


def test_order_of_operations() -> None:
    moved = rotate(spot(17, 0, 0, 3), QUARTER_ABOUT_Z, torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([2.0]))
    assert where(moved) == (0, 6, 1)


def test_relion_angles() -> None:
    rot, tilt, psi = 23.0, 57.0, -101.0
    ours = on_xyz(angles.from_relion(np.array([[rot, tilt, psi]])))
    np.testing.assert_allclose(ours, turn("z", -psi) @ turn("y", -tilt) @ turn("z", -rot), atol=1e-12)
    theirs = Rotation.from_euler("ZYZ", [rot, tilt, psi], degrees=True).inv().as_matrix()
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_relion_subtomogram_angles(tmp_path: Path) -> None:
    first, second = (20.0, 50.0, -70.0), (-10.0, 30.0, 5.0)
    file = star_file(
        tmp_path / "p.star", rlnTomoName="a", rlnCoordinateX=1, rlnCoordinateY=1, rlnCoordinateZ=1,
        **dict(zip(relion.SUBTOMOGRAM_ANGLES, first, strict=True)), **dict(zip(relion.ANGLES, second, strict=True)),
    )  # fmt: skip
    expected = angles.from_relion(np.array([first])) @ angles.from_relion(np.array([second]))
    np.testing.assert_allclose(read_particles(file, voxel_spacing_angstrom=1.0).rotation, expected, atol=1e-12)


def test_dynamo_angles() -> None:
    tdrot, tilt, narot = 23.0, 57.0, -101.0
    ours = on_xyz(angles.from_dynamo(np.array([[tdrot, tilt, narot]])))
    np.testing.assert_allclose(ours, turn("z", -tdrot) @ turn("x", -tilt) @ turn("z", -narot), atol=1e-12)


def test_tom_angles() -> None:
    phi, psi, theta = 23.0, 57.0, -101.0
    ours = on_xyz(angles.from_tom(np.array([[phi, psi, theta]])))
    np.testing.assert_allclose(ours, turn("z", psi) @ turn("x", theta) @ turn("z", phi), atol=1e-12)


def test_imod_slicer_angles() -> None:
    x, y, z = 23.0, 57.0, -101.0
    ours = on_xyz(angles.from_slicer(np.array([[x, y, z]])))
    np.testing.assert_allclose(ours, turn("z", -z) @ turn("y", -y) @ turn("x", -x), atol=1e-12)


def test_unknown_orientation(tmp_path: Path) -> None:
    file = star_file(tmp_path / "p.star", rlnTomoName="a", rlnCoordinateX=1, rlnCoordinateY=1, rlnCoordinateZ=1)
    assert np.isnan(read_particles(file, voxel_spacing_angstrom=1.0).rotation).all()
    assert np.isnan(Particles.create(["a"], np.zeros((1, 3))).rotation).all()


def test_geometry() -> None:
    volume = torch.rand(6, 8, 10, generator=torch.Generator().manual_seed(0))
    untilted, tilted = project(volume, torch.tensor([0.0, 35.0]), (8, 24))
    assert torch.allclose(untilted[:, 7:17], volume.sum(0), atol=1e-4)  # the beam sums over z
    assert torch.allclose(tilted.sum(1), volume.sum((0, 2)), rtol=1e-4)  # nothing moves along the tilt axis y


def test_tilt_sign() -> None:
    image = project(spot(17, 4, 0, 0)[0], torch.tensor([30.0]))[0]
    x = torch.arange(17) - 8.0
    assert float((image.sum(0) * x).sum()) == pytest.approx(4 * np.sin(np.deg2rad(30)), abs=0.05)
    np.testing.assert_allclose(turn("y", 30)[0] @ [0, 0, 4], 2.0)


def test_tilt_range() -> None:
    size = 65
    mask = wedge_mask(size, torch.tensor([[-60.0, 60.0], [-90.0, 90.0]]))
    kx = 10
    for kz, kept in ((int(10 * np.tan(np.deg2rad(59))), 1), (int(np.ceil(10 * np.tan(np.deg2rad(62)))), 0)):
        assert mask[0, kz, 0, kx] == mask[0, -kz, 0, kx] == kept
    assert mask[0, 20, 0, 0] == 0  # the beam itself lies in the wedge
    assert mask[0, 0, 20, 0] == 1  # the tilt axis never does
    assert bool((mask[1] == 1).all())
    one_sided = wedge_mask(size, torch.tensor([[0.0, 60.0]]))
    assert (one_sided[0, 10, 0, 10], one_sided[0, -10, 0, 10]) == (1, 0)  # kz = kx tan t


def test_turned_wedge() -> None:
    tilt = torch.tensor([[-50.0, 50.0]])
    volume = apply_mask(torch.randn(1, 17, 17, 17, generator=torch.Generator().manual_seed(1)), wedge_mask(17, tilt))
    turned = rotate(volume, QUARTER_ABOUT_Z)
    outside = apply_mask(turned, 1 - wedge_mask(17, tilt, QUARTER_ABOUT_Z))
    assert float(outside.square().sum()) < 1e-6 * float(turned.square().sum())


def test_fourier_layout() -> None:
    for size in (8, 9):
        full = torch.tensor([[-60.0, 60.0]])
        assert wedge_mask(size, full).shape == (1, size, size, size // 2 + 1)
        assert ctf_3d(size, 10.0, torch.tensor([3.0])).shape == torch.fft.rfftn(torch.zeros(1, *[size] * 3)).shape
        assert wedge_mask(size, full)[0, 0, 0, 0] == 1  # the mean is always kept


def test_ctf_sign() -> None:
    for contrast in (0.07, 0.2):
        assert float(ctf_2d((16, 16), 4.0, torch.tensor([3.0]), amplitude_contrast=contrast)[0, 0, 0]) == pytest.approx(
            contrast, abs=1e-5
        )
    shifted = ctf_2d((16, 16), 4.0, torch.tensor([3.0]), phase_shift_deg=90.0, amplitude_contrast=0.0)
    assert float(shifted[0, 0, 0]) == pytest.approx(1.0, abs=1e-5)


def test_defocus_sign() -> None:
    under, over = ctf_2d((256, 256), 4.0, torch.tensor([2.0, -2.0]), amplitude_contrast=0.0)[:, 0, 10]
    assert under > 0.1
    assert over < -0.1
    table = tilt_series_table(plan_acquisition(TiltSeriesSettings(defocus_um=3.0), np.random.default_rng(0)))
    assert table["rlnDefocusU"].mean() == pytest.approx(30000, rel=0.02)


def test_dose() -> None:
    settings = TiltSeriesSettings(tilt_range_deg=(-6.0, 6.0), tilt_step_deg=3.0, dose_per_tilt_e_per_A2=2.0)
    plan = plan_acquisition(settings, np.random.default_rng(0))
    assert plan.dose_e_per_A2[plan.tilt_angles_deg == 0.0] == 0.0
    assert plan.dose_e_per_A2.max() == 2.0 * (len(plan.dose_e_per_A2) - 1)


def test_snr_of_a_box() -> None:
    generator = torch.Generator().manual_seed(0)
    ranges = ImagingRanges(snr=(0.1, 0.1), defocus_um=(4.0, 4.0), noise_before_ctf=(1.0, 1.0))
    density = torch.randn(16, 24, 24, 24, generator=generator)
    parts = image_parts(density, ranges.sample(16, generator), generator, is_posed=True)
    signal, noise = parts.signal, parts.noise[:, 0]
    assert float(signal.var() / noise.var()) == pytest.approx(0.1, rel=0.03)
    lost = apply_mask(noise, 1 - wedge_mask(24, torch.tensor([[-60.0, 60.0]])))
    assert float(lost.var()) < 1e-6 * float(noise.var())


@pytest.fixture(scope="module")
def crowd():
    axis = torch.arange(20.0) - 10
    square = axis[:, None, None] ** 2 + axis[:, None] ** 2 + 0.5 * axis**2
    blob = {"blob": 2 * torch.exp(-0.5 * square / 4)}
    return build_specimen(blob, {"blob": 10}, (24, 72, 72), 10.0, rng=np.random.default_rng(5))


@pytest.fixture(scope="module")
def recorded(crowd):
    settings = TiltSeriesSettings(tilt_step_deg=6.0, dose_per_tilt_e_per_A2=6.0, snr_box_size=20, snr=0.2)
    return record_tilt_series(crowd, settings, rng=np.random.default_rng(1))


def test_snr_of_a_tomogram(crowd, recorded) -> None:
    centers = snr_centers(crowd, 20)
    noise = recorded.full - recorded.signal
    assert box_variance(recorded.signal, centers, 20) / box_variance(noise, centers, 20) == pytest.approx(0.2, rel=0.01)


def test_halves(recorded) -> None:
    first, second = recorded.halves - recorded.signal
    np.testing.assert_allclose(recorded.halves.mean(0), recorded.full, atol=1e-4 * recorded.full.std())
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05
    assert first.var() == pytest.approx(2 * (recorded.full - recorded.signal).var(), rel=0.1)
    generator = torch.Generator().manual_seed(0)
    parameters = replace(ImagingRanges(snr=(0.5, 0.5), has_ctf=False)).sample(8, generator)
    parts = image_parts(torch.rand(8, 16, 16, 16, generator=generator), parameters, generator, views=2)
    assert torch.allclose(parts.views.mean(1), parts.volume, atol=1e-4)
    assert float(parts.noise[:, 0].var() / parts.noise.mean(1).var()) == pytest.approx(2.0, rel=0.1)


def test_labels(tmp_path: Path) -> None:
    assert UNLABELED == -1
    particles = Particles.create(["a"] * 3, np.zeros((3, 3)), class_name=["ribosome", "", "apoferritin"])
    writer = SubtomogramWriter(tmp_path / "set", box_size=8, voxel_spacing_angstrom=10.0)
    boxes = np.random.default_rng(0).normal(size=(3, 8, 8, 8)).astype(np.float32)
    writer.append(boxes, particles, np.tile(np.float32([-60, 60]), (3, 1)))
    writer.close()
    data = open_subtomograms(tmp_path / "set")
    assert data.class_names == ("apoferritin", "ribosome")
    assert data.label.tolist() == [1, -1, 0]


def test_randomness() -> None:
    draws = [torch.rand(4, generator=step_generator(seed, step)) for seed, step in ((3, 7), (3, 7), (3, 8), (4, 7))]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[3])

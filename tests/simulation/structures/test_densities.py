"""Templates of structures and maps: mass, place, orientation, units, and what is refused."""

from pathlib import Path

import gemmi
import mrcfile
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tomosift.errors import FormatError
from tomosift.io.structures import read_structure
from tomosift.physics.rotation import random_rotations, rotate_upsampled, upsample
from tomosift.simulation.structures.densities import (
    PROTEIN_CONTRAST_VOLT,
    density_from_map,
    mask,
    potential,
    template,
    template_radius_angstrom,
)
from tomosift.simulation.structures.potential import (
    atom_contrast,
    centered_atoms,
    potential_of_atoms,
    soft_nyquist,
    splat,
)


def some_atoms(seed: int, n: int = 40, extent: float = 20.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    position = extent * torch.randn(n, 3, generator=generator).clamp(-1.5, 1.5)
    number = torch.tensor([6, 7, 8, 16, 15])[torch.randint(5, (n,), generator=generator)]
    return position, number


def center_of_mass(density: torch.Tensor) -> torch.Tensor:
    axis = torch.arange(density.shape[0], dtype=torch.float64) - density.shape[0] // 2
    double = density.double()
    moments = [double.sum(dim=[d for d in range(3) if d != k]) @ axis for k in range(3)]
    return torch.stack(moments) / double.sum()


def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack((first.flatten(), second.flatten())))[0, 1])


def small_map(path: Path, density: np.ndarray, spacing: float) -> Path:
    with mrcfile.new(path) as mrc:
        mrc.set_data(density.astype(np.float32))
        mrc.voxel_size = spacing
    return path


def blobs(size: int, spacing: float, shift: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    """Two Gaussians 40 A apart along z and x, the second half as heavy, in a map of its own."""
    axis = (np.arange(size) - size // 2) * spacing
    z, y, x = np.meshgrid(axis - shift[0], axis - shift[1], axis - shift[2], indexing="ij")
    first = np.exp(-((z + 20) ** 2 + y**2 + x**2) / (2 * 15**2))
    return first + 0.5 * np.exp(-((z - 20) ** 2 + y**2 + (x - 20) ** 2) / (2 * 15**2))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(4, 14), st.sampled_from([23, 24]), st.sampled_from([None, 15.0]))
def test_integral_is_the_sum_over_atoms_at_any_spacing(
    seed: int, spacing: float, size: int, resolution: float | None
) -> None:
    position, number = some_atoms(seed, extent=10.0)
    density = potential_of_atoms(position, number, spacing, size, resolution)
    expected = sum(atom_contrast(int(n)) for n in number)
    assert float(density.sum()) * spacing**3 == pytest.approx(expected, rel=2e-2)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([31, 32]))
def test_a_single_atom_lies_where_its_coordinates_say(seed: int, size: int) -> None:
    place = 12 * torch.rand(1, 3, generator=torch.Generator().manual_seed(seed)) - 6
    density = potential_of_atoms(place, torch.tensor([8]), 3.0, size, resolution_angstrom=8.0, solvent_volt=0.0)
    torch.testing.assert_close(center_of_mass(density).float() * 3.0, place[0], atol=0.05, rtol=0)


def test_atoms_agree_with_gemmis_electron_density_calculator() -> None:
    position, number = some_atoms(3, n=300)
    size, spacing, blur = 48, 2.0, 120.0
    ours = potential_of_atoms(position, number, spacing, size, solvent_volt=0.0)
    structure = gemmi.Structure()
    structure.add_model(gemmi.Model(1))
    structure[0].add_chain(gemmi.Chain("A"))
    residue = gemmi.Residue()
    residue.name = "GLY"
    for (z, y, x), element in zip(position.tolist(), number.tolist(), strict=True):
        atom = gemmi.Atom()
        # A vanishing B-factor of the atoms; the blur that gemmi needs on a coarse grid is given to both sides.
        atom.element, atom.b_iso = gemmi.Element(element), 0.0
        atom.pos = gemmi.Position(*(value + (size // 2) * spacing for value in (x, y, z)))
        residue.add_atom(atom)
    structure[0][0].add_residue(residue)
    structure.cell = gemmi.UnitCell(*(3 * [size * spacing]), 90, 90, 90)
    calculator = gemmi.DensityCalculatorE()
    calculator.d_min, calculator.rate, calculator.blur = 4.0, 2.0, blur
    calculator.grid.set_unit_cell(structure.cell)
    calculator.grid.set_size(size, size, size)
    calculator.add_model_density_to_grid(structure[0])
    theirs = torch.from_numpy(np.array(calculator.grid, copy=True)).permute(2, 1, 0) * 47.878
    frequency = torch.fft.fftfreq(size, spacing) ** 2
    half = torch.fft.rfftfreq(size, spacing) ** 2
    squared = frequency[:, None, None] + frequency[:, None] + half
    blurred = torch.fft.irfftn(torch.fft.rfftn(ours) * torch.exp(-blur / 4 * squared), s=ours.shape)
    theirs = torch.fft.irfftn(torch.fft.rfftn(theirs) * soft_nyquist(squared, spacing), s=ours.shape)
    assert correlation(blurred, theirs) > 0.998
    assert float((blurred - theirs).norm() / theirs.norm()) < 0.05


def test_hydrogens_change_nothing() -> None:
    position, number = some_atoms(5)
    with_hydrogens = torch.cat((position, position + 1.0)), torch.cat((number, torch.ones_like(number)))
    assert torch.equal(potential_of_atoms(position, number, 5.0, 24), potential_of_atoms(*with_hydrogens, 5.0, 24))


def test_ice_takes_the_displaced_volume_times_its_potential_off() -> None:
    position, number = some_atoms(6, extent=8.0)
    vacuum = potential_of_atoms(position, number, 5.0, 24, solvent_volt=0.0).sum() * 125
    ice = potential_of_atoms(position, number, 5.0, 24, solvent_volt=3.6).sum() * 125
    expected = sum(atom_contrast(int(n), 0.0) - atom_contrast(int(n), 3.6) for n in number)
    assert float(vacuum - ice) == pytest.approx(expected, rel=1e-2)


def test_turning_the_atoms_turns_the_density() -> None:
    position, number = some_atoms(7, n=400)
    rotation = random_rotations(1, torch.Generator().manual_seed(1))
    turned_atoms = potential_of_atoms(position @ rotation[0].T, number, 5.0, 24)
    fine = upsample(potential_of_atoms(position, number, 5.0, 24)[None])
    turned_density = rotate_upsampled(fine, 2, rotation)[0]
    assert correlation(turned_atoms, turned_density) > 0.995


def test_a_finer_spacing_shows_the_same_values_at_shared_points() -> None:
    position, number = some_atoms(8, n=200)
    coarse = potential_of_atoms(position, number, 6.0, 24, resolution_angstrom=40.0)
    fine = potential_of_atoms(position, number, 3.0, 48, resolution_angstrom=40.0)
    torch.testing.assert_close(fine[::2, ::2, ::2], coarse, atol=0.02 * float(coarse.max()), rtol=0)


def test_splat_keeps_the_number_and_place_of_points() -> None:
    position = 4 + 24 * torch.rand(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    grid = splat(position, 32)
    assert float(grid.sum()) == pytest.approx(50, rel=1e-5)
    torch.testing.assert_close(center_of_mass(grid) + 16, position.mean(0), atol=1e-5, rtol=0)


def test_structure_is_centered_and_agrees_with_a_map_of_the_same_entry(real_data: Path) -> None:
    ours = template(real_data / "structures" / "3j9i.pdb.gz", 10.0, 32, resolution_angstrom=20.0)
    assert ours.dtype == torch.float32
    assert center_of_mass(ours).abs().max() < 0.05
    theirs = template(real_data / "maps" / "polnet_5A" / "3j9i.mrc.gz", 10.0, 32, resolution_angstrom=20.0)
    assert center_of_mass(theirs).abs().max() < 0.05
    # The same orientation and center: a mirrored or permuted axis would lower this to about 0.6.
    assert correlation(ours, theirs) > 0.95


def test_protein_has_the_contrast_of_protein_against_ice(real_data: Path) -> None:
    structure = read_structure(real_data / "structures" / "1bxn.pdb.gz")
    density = potential(structure, 5.0, 48, resolution_angstrom=15.0)
    inside = density[density > 0.5 * density.max()].mean()
    assert 2.0 < float(inside) < 4.5


def test_box_that_is_too_small_says_how_large_it_must_be(real_data: Path) -> None:
    with pytest.raises(ValueError, match=r"use at least 2[0-9] voxels"):
        template(real_data / "structures" / "3j9i.pdb.gz", 10.0, 12)


def test_unknown_source_names_the_atlas() -> None:
    with pytest.raises(ValueError, match=r"neither a file nor a name.*groel"):
        template("no-such-complex", 10.0, 32)


@settings(max_examples=10, deadline=None)
@given(st.floats(3, 8), st.floats(-15, 15), st.sampled_from([31, 32, 40]))
def test_map_is_centered_by_mass_at_any_spacing(
    tmp_path_factory: pytest.TempPathFactory, spacing: float, shift: float, size: int
) -> None:
    path = small_map(tmp_path_factory.mktemp("map") / "map.mrc", blobs(56, 4.0, (shift, -shift, 5.0)), 4.0)
    density = density_from_map(path, spacing, 2 * int(100 / spacing))
    assert center_of_mass(density).abs().max() * spacing < 0.5
    assert float(density[mask(density)].mean()) == pytest.approx(PROTEIN_CONTRAST_VOLT, rel=1e-4)


def test_resampled_map_equals_the_function_it_samples(tmp_path: Path) -> None:
    path = small_map(tmp_path / "map.mrc", blobs(64, 4.0), 4.0)
    density = density_from_map(path, 5.5, 40)
    # Center of mass of the two Gaussians: a third of the way from the first to the second.
    expected = torch.from_numpy(blobs(40, 5.5, (20 - 40 / 3, 0, -20 / 3))).float()
    assert correlation(density, expected) > 0.9999


def test_noise_floor_removes_the_background_of_a_measured_map(tmp_path: Path) -> None:
    noise = 0.02 * np.random.default_rng(0).standard_normal((48, 48, 48))
    density = density_from_map(small_map(tmp_path / "map.mrc", blobs(48, 5.0) + noise + 7.0, 5.0), 5.0, 48)
    corner = density[:8, :8, :8]
    assert corner.abs().max() < 0.1 * density.max()
    assert correlation(density, torch.from_numpy(blobs(48, 5.0, (20 - 40 / 3, 0, -20 / 3))).float()) > 0.97


def test_dark_protein_is_refused_until_it_is_declared(tmp_path: Path) -> None:
    path = small_map(tmp_path / "dark.mrc", 5.0 - blobs(48, 5.0), 5.0)
    with pytest.raises(FormatError, match="dark where the molecule is"):
        density_from_map(path, 10.0, 24)
    bright = density_from_map(small_map(tmp_path / "bright.mrc", blobs(48, 5.0), 5.0), 10.0, 24)
    torch.testing.assert_close(density_from_map(path, 10.0, 24, dark_protein=True), bright, atol=1e-3, rtol=1e-3)


def test_contrast_of_real_maps_is_recognized(real_data: Path) -> None:
    maps = real_data / "maps" / "experimental"
    assert density_from_map(maps / "groel_emd_1081_11.5A.mrc", 10.0, 32).max() > 0
    with pytest.raises(FormatError, match="dark"):
        density_from_map(maps / "emd_3420_b4.mrc.gz", 10.0, 72)
    with pytest.raises(FormatError, match="voxel spacing"):
        density_from_map(maps / "aspire_clean70SRibosome_65p.mrc", 10.0, 48)


@pytest.mark.parametrize(("value", "message"), [(0.0, "the same everywhere"), (np.nan, "NaN or infinite")])
def test_map_without_a_molecule_is_refused(tmp_path: Path, value: float, message: str) -> None:
    path = tmp_path / "flat.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(np.zeros((8, 8, 8), np.float32))
        mrc.data[0, 0, 0] = value
        mrc.voxel_size = 5.0
    with pytest.raises(FormatError, match=message):
        density_from_map(path, 5.0, 8)


def test_radius_reaches_the_farthest_voxel_of_the_mask() -> None:
    ball = torch.zeros(21, 21, 21)
    ball[10, 10, 4] = ball[10, 10, 10] = 1.0
    assert template_radius_angstrom(ball, 4.0) == pytest.approx(6.5 * 4.0)
    assert int(mask(ball).sum()) == 2
    assert template_radius_angstrom(torch.zeros(5, 5, 5), 4.0) == 0.0


def test_centered_atoms_have_their_center_of_mass_at_zero(real_data: Path) -> None:
    structure = read_structure(real_data / "structures" / "3gl1.pdb.gz")
    position, number = centered_atoms(structure)
    mass = np.array([gemmi.Element(int(n)).weight for n in number])
    np.testing.assert_allclose(mass @ position / mass.sum(), 0, atol=1e-9)

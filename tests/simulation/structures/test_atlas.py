"""The atlas: every entry against its own statements, and entries made from files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tomosift.errors import FormatError
from tomosift.io.structures import read_structure
from tomosift.simulation.structures.atlas import (
    add_to_atlas,
    atlas_folder,
    atlas_names,
    entry_density,
    load_atlas_entry,
)
from tomosift.simulation.structures.bead_models import (
    beads_density,
    default_bead_number,
    fit_beads,
    resolution_of_beads,
    shell_correlation,
)
from tomosift.simulation.structures.densities import potential, template
from tomosift.simulation.structures.potential import centered_atoms


@pytest.mark.parametrize("name", atlas_names())
def test_entry_is_small_free_and_fine_enough(name: str) -> None:
    entry = load_atlas_entry(name)
    assert entry.name == name
    assert entry.license.startswith("CC0")
    assert entry.fsc_half_angstrom <= 20
    assert (atlas_folder() / f"{name}.json").stat().st_size < 12 * 1024


@pytest.mark.parametrize("name", atlas_names())
def test_entry_is_positive_centered_and_of_the_stated_radius(name: str) -> None:
    entry = load_atlas_entry(name)
    density = entry_density(entry, 10.0, 32).double()
    axis = torch.arange(32, dtype=torch.float64) - 16
    moments = [density.sum(dim=[d for d in range(3) if d != k]) @ axis for k in range(3)]
    # Mass and potential are nearly, not exactly, proportional: phosphorus and metals scatter more.
    assert max(abs(float(m / density.sum())) for m in moments) < 0.4
    weight = sum(bead[4] for bead in entry.beads)
    assert float(density.sum()) * 1000 == pytest.approx(weight, rel=1e-3)
    distance = max(float(np.linalg.norm(bead[:3])) for bead in entry.beads)
    assert 0.6 * entry.radius_angstrom < distance < 1.1 * entry.radius_angstrom


def test_atlas_holds_sixteen_different_complexes() -> None:
    assert len(atlas_names()) >= 16
    assert len({load_atlas_entry(name).entry_id for name in atlas_names()}) == len(atlas_names())


@pytest.mark.parametrize(("name", "file"), [("groel", "1oel.pdb.gz"), ("igg", "1igt.pdb.gz")])
def test_entry_agrees_with_the_atoms_it_was_made_of(real_data: Path, name: str, file: str) -> None:
    entry = load_atlas_entry(name)
    structure = read_structure(real_data / "structures" / file, assembly=entry.assembly)
    assert len(structure) == entry.atoms
    atoms = potential(structure, 5.0, 48)
    curve = shell_correlation(entry_density(entry, 5.0, 48), atoms)
    shell = int(48 * 5.0 / entry.fsc_half_angstrom)
    assert (curve[1:shell] > 0.45).all()
    both = torch.stack((template(name, 10.0, 32).flatten(), potential(structure, 10.0, 32).flatten()))
    assert float(torch.corrcoef(both)[0, 1]) > 0.95


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(4, 20), st.sampled_from([21, 24]))
def test_bead_density_integrates_to_the_weights_at_any_spacing(seed: int, spacing: float, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    place = 20 * torch.rand(12, 3, generator=generator) - 10
    width, weight = 3 + 4 * torch.rand(12, 1, generator=generator), 1000 * torch.rand(12, 1, generator=generator)
    density = beads_density(torch.cat((place, width, weight), dim=1), spacing, size)
    # What is missing is the ringing of the band limit beyond the faces of the box.
    assert float(density.sum()) * spacing**3 == pytest.approx(float(weight.sum()), rel=2e-2)


def test_wide_bead_is_the_gaussian_it_says() -> None:
    beads = torch.tensor([[6.0, -4.0, 10.0, 12.0, 5000.0]])
    axis = (torch.arange(33) - 16) * 5.0
    z, y, x = torch.meshgrid(axis - 6.0, axis + 4.0, axis - 10.0, indexing="ij")
    expected = 5000 / (2 * torch.pi * 144) ** 1.5 * torch.exp(-(z**2 + y**2 + x**2) / (2 * 144))
    torch.testing.assert_close(beads_density(beads, 5.0, 33), expected, atol=2e-3 * float(expected.max()), rtol=0)


def test_shell_correlation_of_a_density_with_itself_is_one_and_of_noise_near_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 24, 24, 24, generator=generator)
    torch.testing.assert_close(shell_correlation(first, first), torch.ones(13))
    assert shell_correlation(first, second)[4:].abs().max() < 0.2


def test_refinement_beats_clustering_alone_and_repeats_exactly(real_data: Path) -> None:
    position, number = centered_atoms(read_structure(real_data / "structures" / "3gl1.pdb.gz"))
    clustered = fit_beads(position, number, 12, steps=1)
    refined = fit_beads(position, number, 12, steps=40)
    assert resolution_of_beads(refined, position, number) < resolution_of_beads(clustered, position, number)
    torch.testing.assert_close(refined, fit_beads(position, number, 12, steps=40))


def test_added_entry_is_found_by_name(real_data: Path, tmp_path: Path) -> None:
    path = add_to_atlas(
        real_data / "structures" / "3gl1.pdb.gz", "ssb1", beads=20, license="CC0-1.0", out_folder=tmp_path
    )
    assert path == tmp_path / "ssb1.json"
    entry = load_atlas_entry("ssb1", tmp_path)
    assert (entry.entry_id, entry.assembly, len(entry.beads)) == ("3GL1", "1", 20)
    assert atlas_names(tmp_path) == ("ssb1",)
    assert entry_density(entry, 8.0, 20).max() > 0.5


def test_default_number_of_beads_grows_with_mass_between_limits() -> None:
    assert [default_bead_number(mass) for mass in (10.0, 510.0, 4000.0)] == [120, 300, 400]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"beads": [[1, 2, 3, 4]]}, "beads.0"),
        ({"beads": []}, "beads"),
        ({"beads": [[1, 2, 3, 4, "heavy"]]}, "beads.0.4"),
        ({"mass_kda": -1}, "mass_kda"),
        ({"mas_kda": 1}, "mas_kda"),
    ],
)
def test_broken_entry_is_refused_by_field(tmp_path: Path, change: dict[str, object], field: str) -> None:
    good = load_atlas_entry("albumin").model_dump()
    (tmp_path / "broken.json").write_text(json.dumps({**good, **change}))
    with pytest.raises(FormatError) as caught:
        load_atlas_entry("broken", tmp_path)
    assert caught.value.field == field


def test_text_that_is_no_entry_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text("no JSON")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    for name in ("text", "bytes"):
        with pytest.raises(FormatError):
            load_atlas_entry(name, tmp_path)
    with pytest.raises(ValueError, match="is not in the atlas"):
        load_atlas_entry("absent", tmp_path)


def test_names_and_bead_numbers_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lower-case"):
        add_to_atlas(tmp_path / "x.pdb", "My Complex", out_folder=tmp_path)
    with pytest.raises(ValueError, match="beads is 0"):
        add_to_atlas(tmp_path / "x.pdb", "name", beads=0, out_folder=tmp_path)


def test_complex_larger_than_the_box_is_refused() -> None:
    with pytest.raises(ValueError, match="use at least"):
        template("ribosome-70s", 10.0, 16)

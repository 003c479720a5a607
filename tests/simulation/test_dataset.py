import dataclasses
import json

import mrcfile
import numpy as np
import pytest
import starfile
import torch

from tomosift.errors import FormatError
from tomosift.io.particles.relion import read_particles
from tomosift.io.volumes import open_volume, write_volume
from tomosift.simulation.dataset import (
    TomogramDatasetConfig,
    build_tomogram_specimen,
    half_path,
    load_templates,
    read_config,
    simulate_dataset,
    write_label_table,
)


@pytest.fixture(scope="module")
def structures(tmp_path_factory):
    """Two map files, so that the atlas plays no part."""
    folder = tmp_path_factory.mktemp("structures")
    axis = np.arange(16) - 8.0
    square = axis[:, None, None] ** 2 + axis[None, :, None] ** 2
    for name, density in {
        "ball": np.exp(-0.5 * (square + axis**2) / 1.8**2),
        "rod": np.exp(-0.5 * (square + (axis / 2.2) ** 2) / 1.5**2),
    }.items():
        write_volume(folder / f"{name}.mrc", density.astype(np.float32), 10.0)
    return folder


@pytest.fixture(scope="module")
def config(structures):
    return TomogramDatasetConfig(
        classes=(str(structures / "ball.mrc"), str(structures / "rod.mrc")),
        particles_per_class=5,
        tomograms=2,
        shape_zyx=(20, 56, 64),
        tilt_step_deg=10.0,
        dose_per_tilt_e_per_A2=9.0,
        vesicles=0,
        gold_beads=1,
        snr_box_size=16,
        template_extent_angstrom=160.0,
        seed=3,
    )


@pytest.fixture(scope="module")
def dataset(config, tmp_path_factory):
    return simulate_dataset(config, tmp_path_factory.mktemp("dataset"))


def test_tomograms_table_leads_to_every_volume_and_tilt_series(dataset, config):
    table = starfile.read(dataset.tomograms)
    assert list(table["rlnTomoName"]) == ["tomogram_001", "tomogram_002"]
    assert tuple(table.loc[0, ["rlnTomoSizeZ", "rlnTomoSizeY", "rlnTomoSizeX"]]) == config.shape_zyx
    for column in ("", "Half1", "Half2"):
        for path in table[f"rlnTomoReconstructedTomogram{column}"]:
            with mrcfile.open(dataset.folder / path) as volume:
                assert volume.data.shape == config.shape_zyx
                assert float(volume.voxel_size.x) == pytest.approx(10.0)
    series = starfile.read(dataset.folder / table["rlnTomoTiltSeriesStarFile"][0])
    np.testing.assert_allclose(series["rlnTomoYTilt"], np.arange(-60, 61, 10))
    assert series["rlnDefocusU"].between(2e4, 6e4).all()
    assert series["rlnMicrographPreExposure"].max() == pytest.approx(12 * 9)


def test_picks_are_near_the_truth_and_tell_no_class(dataset, config):
    grids = dict.fromkeys(config.tomogram_names, config.grid)
    picks, truth = (read_particles(path, grids=grids) for path in (dataset.particles, dataset.particles_truth))
    assert list(picks.particle_id) == list(truth.particle_id)
    assert set(picks.class_name) == {""}
    assert sorted(set(truth.class_name)) == ["ball", "rod"]
    error = picks.position_zyx_angstrom - truth.position_zyx_angstrom
    assert 4 < error.std() < 16
    np.testing.assert_allclose(picks.rotation, truth.rotation, atol=1e-9)


def test_row_numbers_do_not_tell_the_class(dataset, config):
    truth = read_particles(dataset.particles_truth, grids=dict.fromkeys(config.tomogram_names, config.grid))
    first = list(truth.class_name[truth.tomogram == "tomogram_001"])
    assert first not in (sorted(first), sorted(first, reverse=True))


def test_truth_on_disk_is_the_specimen_that_was_imaged(dataset, config):
    truth = read_particles(dataset.particles_truth, grids=dict.fromkeys(config.tomogram_names, config.grid))
    specimen, _ = build_tomogram_specimen(config, load_templates(config), 1)
    here = truth.select(truth.tomogram == "tomogram_002")
    exact = specimen.particles
    written, placed = (np.argsort(table.position_zyx_angstrom[:, 0]) for table in (here, exact))
    np.testing.assert_allclose(here.position_zyx_angstrom[written], exact.position_zyx_angstrom[placed], atol=1e-6)
    np.testing.assert_allclose(here.rotation[written], exact.rotation[placed], atol=1e-5)
    assert list(here.class_name[written]) == list(exact.class_name[placed])


def test_voxel_labels_agree_with_the_truth(dataset, config):
    truth = read_particles(dataset.particles_truth, grids=dict.fromkeys(config.tomogram_names, config.grid))
    classes = open_volume(dataset.folder / "labels" / "tomogram_001_classes.mrc").read()
    instances = open_volume(dataset.folder / "labels" / "tomogram_001_instances.mrc").read()
    assert len(np.unique(instances)) == 11
    for k in np.flatnonzero(truth.tomogram == "tomogram_001"):
        at = tuple(np.round(truth.position_zyx_angstrom[k] / 10).astype(int))
        assert classes[at] == 1 + ["ball", "rod"].index(truth.class_name[k])


def test_full_tomogram_is_the_mean_of_its_halves_with_unit_variance(dataset):
    path = dataset.volumes["tomogram_001"]
    full = open_volume(path).read()
    halves = [open_volume(half_path(path, number)).read() for number in (1, 2)]
    np.testing.assert_allclose(full, 0.5 * (halves[0] + halves[1]), atol=1e-4)
    assert full.std() == pytest.approx(1, abs=1e-3)


def test_resumed_data_set_equals_an_uninterrupted_one(dataset, config, tmp_path):
    fewer = dataclasses.replace(config, tomograms=1)
    simulate_dataset(fewer, tmp_path)
    first = tmp_path / "tomograms" / "tomogram_001.mrc"
    stamp = first.stat().st_mtime_ns
    reports = []
    again = simulate_dataset(config, tmp_path, lambda done, total, name: reports.append((done, total, name)))
    assert first.stat().st_mtime_ns == stamp
    assert reports == [(1, 2, "tomogram_001"), (2, 2, "tomogram_002")]
    for name in ("tomogram_001", "tomogram_002"):
        np.testing.assert_array_equal(
            open_volume(again.volumes[name]).read(), open_volume(dataset.volumes[name]).read()
        )
    assert again.particles_truth.read_text() == dataset.particles_truth.read_text()


def test_tomograms_differ_from_one_another(dataset):
    one, two = (open_volume(path).read() for path in dataset.volumes.values())
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.2


def test_a_folder_keeps_to_one_set_of_settings(dataset, config):
    with pytest.raises(ValueError, match=r"snr is 0\.1, expected 0\.5"):
        simulate_dataset(dataclasses.replace(config, snr=0.5), dataset.folder)


def test_settings_survive_json(dataset, config):
    assert read_config(dataset.folder) == config
    assert json.loads((dataset.folder / "simulation.json").read_text())["seed"] == 3


def test_a_folder_without_settings_is_named(tmp_path):
    with pytest.raises(FormatError, match=r"simulation\.json"):
        read_config(tmp_path)


def test_dark_on_disk_turns_the_sign_and_nothing_else(dataset, config, tmp_path):
    dark = simulate_dataset(dataclasses.replace(config, dark_on_disk=True, tomograms=1, halves=False), tmp_path)
    bright = open_volume(dataset.volumes["tomogram_001"]).read()
    np.testing.assert_array_equal(open_volume(dark.volumes["tomogram_001"]).read(), -bright)
    assert not half_path(dark.volumes["tomogram_001"], 1).exists()


def test_distractors_are_in_the_ice_and_in_no_list(config, structures, tmp_path):
    one = dataclasses.replace(
        config, classes=config.classes[:1], distractors=config.classes[1:], distractors_per_class=3, tomograms=1
    )
    paths = simulate_dataset(one, tmp_path)
    truth = read_particles(paths.particles_truth, grids=dict.fromkeys(one.tomogram_names, one.grid))
    assert set(truth.class_name) == {"ball"}
    assert (open_volume(tmp_path / "labels" / "tomogram_001_classes.mrc").read() == 2).any()


def test_picks_can_come_without_angles(config, tmp_path):
    blind = dataclasses.replace(config, pick_angles=False, tomograms=1)
    paths = simulate_dataset(blind, tmp_path)
    picks = read_particles(paths.particles, grids=dict.fromkeys(blind.tomogram_names, blind.grid))
    assert np.isnan(picks.rotation).all()


def test_label_table_holds_so_many_picks_of_each_class(dataset, config, tmp_path):
    grids = dict.fromkeys(config.tomogram_names, config.grid)
    truth = read_particles(dataset.particles_truth, grids=grids)
    picks = read_particles(dataset.particles, grids=grids)
    for per_class in (2, 4):
        path = write_label_table(dataset.folder, tmp_path / f"{per_class}.star", per_class)
        labeled = read_particles(path, grids=grids)
        assert sorted(labeled.class_name) == ["ball"] * per_class + ["rod"] * per_class
        rows = [list(picks.particle_id).index(k) for k in labeled.particle_id]
        np.testing.assert_allclose(labeled.position_zyx_angstrom, picks.position_zyx_angstrom[rows], atol=1e-6)
        assert list(truth.class_name[rows]) == list(labeled.class_name)
    fewer, more = (set(read_particles(tmp_path / f"{k}.star", grids=grids).particle_id) for k in (2, 4))
    assert fewer < more


def test_label_table_keeps_to_the_tomograms_it_is_given(dataset, config, tmp_path):
    path = write_label_table(dataset.folder, tmp_path / "one.star", 2, tomograms=["tomogram_002"])
    labeled = read_particles(path, grids=dict.fromkeys(config.tomogram_names, config.grid))
    assert set(labeled.tomogram) == {"tomogram_002"}
    with pytest.raises(ValueError, match="class ball has 5 particles"):
        write_label_table(dataset.folder, tmp_path / "x.star", 9, tomograms=["tomogram_002"])
    with pytest.raises(ValueError, match="tomogram_009 not in"):
        write_label_table(dataset.folder, tmp_path / "x.star", 1, tomograms=["tomogram_009"])


def test_a_class_named_twice_is_refused(config):
    with pytest.raises(ValueError, match="ball is named more than once"):
        dataclasses.replace(config, distractors=config.classes[:1])


def test_global_seeds_do_not_matter(dataset, config, tmp_path):
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    again = simulate_dataset(dataclasses.replace(config, tomograms=1), tmp_path)
    name = "tomogram_001"
    np.testing.assert_array_equal(open_volume(again.volumes[name]).read(), open_volume(dataset.volumes[name]).read())


def test_a_slab_too_thin_for_a_class_is_an_error_that_names_it(config, tmp_path):
    with pytest.raises(ValueError, match="no room for a single rod or ball in a slab of"):
        simulate_dataset(dataclasses.replace(config, shape_zyx=(3, 56, 64), gold_beads=0), tmp_path)

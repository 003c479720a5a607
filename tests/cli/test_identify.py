"""The command that names particles by examples: what it answers, what it keeps, and what it refuses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import starfile
from tomosift.cli.masks import check_masks

from tomosift.cli.main import main
from tomosift.data.labels import label_subtomograms
from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.inference.model_files import load_classifier
from tomosift.io.volumes import open_volume
from tomosift.simulation.subtomograms import SubtomogramSetConfig, simulate_subtomograms

pytestmark = pytest.mark.usefixtures("few_rotations")

Refuse = Callable[..., str]
CLASSES = ("apoferritin", "groel", "ribosome-70s")


def identify(chain: Any, *more: object, averages: str = "never") -> None:
    """Run it; averages take their time, so that only what is about them has them."""
    main(["identify", str(chain.subtomograms), *(str(word) for word in more), "--averages", averages])


def test_every_other_particle_gets_a_class_and_examples_are_left_out_and_said(
    world: Any, chain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = starfile.read(world.paths.particles, always_dict=True)["particles"]
    identify(chain, "--examples", world.labels, "--out", tmp_path / "named.star")
    table = starfile.read(tmp_path / "named.star", always_dict=True)["particles"]
    assert len(table) == len(given) - 6  # two examples of each class
    assert set(given.columns) <= set(table.columns)
    assert set(table["tomosiftClass"]) <= {*CLASSES, "unknown"}
    probabilities = table[[f"tomosiftProbability_{name}" for name in CLASSES]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-4)
    assert len(np.load(tmp_path / "named_embeddings.npy")) == len(table)
    assert "6 particles of the set are examples and are left out" in capsys.readouterr().err


def test_nothing_that_fits_is_answered_unknown(world: Any, chain: Any, tmp_path: Path) -> None:
    identify(chain, "--examples", world.labels, "--out", tmp_path / "named.star", "--min-similarity", 0.999)
    table = starfile.read(tmp_path / "named.star", always_dict=True)["particles"]
    assert set(table["tomosiftClass"]) == {"unknown"}


def test_saved_classes_are_known_to_classify_and_take_up_another(world: Any, chain: Any, tmp_path: Path) -> None:
    identify(chain, "--examples", world.labels, "--out", tmp_path / "a.star", "--save", tmp_path / "kept")
    main(["classify", str(tmp_path / "kept"), str(chain.subtomograms), "--out", str(tmp_path / "b.star")])
    first, second = (starfile.read(tmp_path / name, always_dict=True)["particles"] for name in ("a.star", "b.star"))
    columns = [f"tomosiftProbability_{name}" for name in CLASSES]
    shared = second.merge(first, on=["rlnTomoName", "rlnCenteredCoordinateXAngst"], suffixes=("", "_before"))
    assert len(shared) == len(first)
    np.testing.assert_allclose(shared[columns], shared[[f"{name}_before" for name in columns]], atol=1e-4)
    config = SubtomogramSetConfig(("rubisco",), per_class=2, box_size=16, voxel_spacing_angstrom=16.0, max_neighbors=0)
    simulate_subtomograms(config, tmp_path / "rubisco")
    more = ("--examples", tmp_path / "rubisco", "--model", tmp_path / "kept", "--save", tmp_path / "four")
    identify(chain, "--out", tmp_path / "c.star", *more)
    assert load_classifier(tmp_path / "four").card.class_names == (*CLASSES, "rubisco")
    table = starfile.read(tmp_path / "c.star", always_dict=True)["particles"]
    assert len(table) == len(open_subtomograms(chain.subtomograms))


def test_bad_requests_end_in_one_sentence(world: Any, chain: Any, tmp_path: Path, refuse: Refuse) -> None:
    out = ("--out", tmp_path / "named.star")
    config = SubtomogramSetConfig(("rubisco",), per_class=2, box_size=16, max_neighbors=0)
    coarse = simulate_subtomograms(config, tmp_path / "rubisco")
    told = refuse("identify", chain.subtomograms, "--examples", coarse.path, *out)
    assert "voxel spacing of the examples" in told
    assert "is 10.00 A" in told
    assert "extract with --voxel-spacing 16" in told
    labels = starfile.read(world.labels, always_dict=True)
    labels = {name: block.drop(columns="tomosiftClass", errors="ignore") for name, block in labels.items()}
    starfile.write(labels, tmp_path / "empty.star")
    assert "names no class" in refuse("identify", chain.subtomograms, "--examples", tmp_path / "empty.star", *out)
    trained = refuse("identify", chain.subtomograms, "--examples", world.labels, "--model", chain.classifier, *out)
    assert "trained head, which takes up no new class" in trained
    identify(chain, "--examples", world.labels, *out, "--save", tmp_path / "kept")
    again = refuse("identify", chain.subtomograms, "--examples", world.labels, "--model", tmp_path / "kept", *out)
    assert "exists already" in again
    assert "suffix" in refuse("identify", chain.subtomograms, "--examples", world.labels, "--out", tmp_path / "a.xyz")


@pytest.fixture(scope="module")
def outlining(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that makes masks, trained for two steps."""
    folder = tmp_path_factory.mktemp("outlining")
    small = ("--per-class", "4", "--box-size", "16", "--voxel-spacing", "16", "--max-neighbors", "0")
    main(["boxes", "--classes", "clpb", "rubisco", "--out", str(folder / "boxes"), *small])
    few = ("--training.steps", "2", "--training.batch-size", "2")
    main(["train", "one_shot", str(folder / "boxes"), "--out", str(folder / "run"), *few])
    return folder / "run"


def test_masks_come_in_the_order_of_the_table_or_in_the_frame_of_the_tomograms(
    world: Any, chain: Any, outlining: Path, tmp_path: Path
) -> None:
    given = ("--examples", world.labels, "--model", outlining, "--out", tmp_path / "named.star")
    identify(chain, *given, "--masks", tmp_path / "masks.mrcs")
    table = starfile.read(tmp_path / "named.star", always_dict=True)["particles"]
    stack = open_volume(tmp_path / "masks.mrcs")
    assert stack.data.shape == (len(table) * 16, 16, 16) or stack.data.shape == (len(table), 16, 16, 16)
    assert set(np.unique(np.asarray(stack.data))) <= {0, 1}
    identify(chain, *given, "--masks", tmp_path / "volumes.zarr", "--crf")
    names = sorted(path.name for path in (tmp_path / "volumes.zarr").iterdir())
    assert names == [f"{name}.zarr" for name in sorted(set(table["rlnTomoName"]))]
    volume = open_volume(tmp_path / "volumes.zarr" / names[0])
    assert volume.data.shape == (24, 64, 64)
    assert volume.voxel_spacing_angstrom == 16.0
    assert set(np.unique(np.asarray(volume.data[:]))) <= {0, 1, 2, 3}


def test_masks_that_cannot_be_made_are_refused_before_the_work(
    world: Any, chain: Any, tmp_path: Path, refuse: Refuse
) -> None:
    given = ("identify", chain.subtomograms, "--examples", world.labels, "--out", tmp_path / "named.star")
    assert "expected .mrcs for a stack or .zarr" in refuse(*given, "--masks", tmp_path / "masks.tif")
    assert not (tmp_path / "named.star").exists()
    alone = ("--init", "None", "--training.steps", "1", "--out", str(tmp_path / "alone"))
    main(["train", "contrastive", str(chain.subtomograms), *alone])
    assert "makes no masks" in refuse(*given, "--model", tmp_path / "alone", "--masks", tmp_path / "masks.mrcs")
    identify(chain, *given[2:], "--model", chain.pretrained, "--masks", tmp_path / "masks.mrcs")  # kept from general
    assert (tmp_path / "masks.mrcs").exists()


def test_two_tomograms_never_share_a_label_volume(chain: Any, outlining: Path, tmp_path: Path) -> None:
    boxes = open_subtomograms(chain.subtomograms)
    first, second = boxes.tomogram_names[:2]
    names = np.where(boxes.particles.tomogram == first, "TS 1", boxes.particles.tomogram)
    names = np.where(boxes.particles.tomogram == second, "TS/1", names).astype(object)
    renamed = replace(boxes, particles=replace(boxes.particles, tomogram=names))
    model = load_classifier(outlining)
    check_masks(tmp_path / "masks.mrcs", model, renamed)
    grids = dict.fromkeys(renamed.tomogram_names, boxes.grids[first])
    with (
        mock.patch.object(Subtomograms, "grids", mock.PropertyMock(return_value=grids)),
        pytest.raises(ValueError, match=r"would both be written to .*TS_1\.zarr; write masks to \.mrcs"),
    ):
        check_masks(tmp_path / "masks.zarr", model, renamed)


def test_report_shows_examples_and_particles_beside_them(
    world: Any, chain: Any, outlining: Path, tmp_path: Path
) -> None:
    given = ("--examples", world.labels, "--model", outlining, "--out", tmp_path / "named.star")
    identify(chain, *given, "--report", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert 'id="support"' in text
    assert "Classes were made from 6 examples; nothing was trained." in text
    assert text.count("most like") == 16 + 1  # cards, and the sentence above them
    assert "White lines show" in text


def test_averages_name_and_outline_particles_and_are_kept(world: Any, chain: Any, tmp_path: Path) -> None:
    given = ("--examples", world.labels, "--out", tmp_path / "named.star")
    files = ("--masks", tmp_path / "masks.mrcs", "--report", tmp_path / "report.html", "--save", tmp_path / "kept")
    identify(chain, *given, *files, averages="auto")
    table = starfile.read(tmp_path / "named.star", always_dict=True)["particles"]
    columns = [f"tomosiftProbability_{name}" for name in CLASSES]
    np.testing.assert_allclose(table[columns].to_numpy().sum(1), 1, atol=1e-4)
    boxes = open_subtomograms(chain.subtomograms)
    true, shown = (label_subtomograms(boxes, path) for path in (world.paths.particles_truth, world.labels))
    asked = true.particles.class_name[shown.label < 0]
    assert (table["tomosiftClass"].to_numpy() == asked).mean() > 0.9
    masks = np.asarray(open_volume(tmp_path / "masks.mrcs").data).reshape(len(table), -1)
    assert set(np.unique(masks)) == {0, 1}
    assert masks.any(axis=1).all()
    assert "compared with" in (tmp_path / "report.html").read_text()
    identify(chain, "--examples", world.labels, "--out", tmp_path / "plain.star", "--masks", tmp_path / "plain.mrcs")
    plain = np.asarray(open_volume(tmp_path / "plain.mrcs").data).reshape(len(table), -1)
    assert (masks != plain).any(axis=1).mean() > 0.5
    kept = load_classifier(tmp_path / "kept")
    assert kept.card.averages
    main(["classify", str(tmp_path / "kept"), str(chain.subtomograms), "--out", str(tmp_path / "again.star")])
    again = starfile.read(tmp_path / "again.star", always_dict=True)["particles"]
    np.testing.assert_allclose(again[columns][shown.label < 0], table[columns], atol=1e-3)


def test_where_no_averages_can_be_made_it_is_said_and_particles_are_named_all_the_same(
    world: Any, chain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dense = tmp_path / "dense"
    few = ("--training.steps", "1", "--training.batch-size", "8", "--init", "None", "--encoder", "dense")
    main(["train", "contrastive", str(chain.subtomograms), "--out", str(dense), *few])
    capsys.readouterr()
    files = ("--out", tmp_path / "a.star", "--save", tmp_path / "kept")
    identify(chain, "--examples", world.labels, "--model", dense, *files, averages="auto")
    said = capsys.readouterr().err
    assert "no averages: the encoder dense does not look for the middle of a particle" in said
    assert "compare with averages" not in said
    assert not load_classifier(tmp_path / "kept").card.averages
    config = SubtomogramSetConfig(CLASSES, per_class=5, box_size=16, voxel_spacing_angstrom=16.0, max_neighbors=0)
    small = simulate_subtomograms(config, tmp_path / "small")
    examples = simulate_subtomograms(replace(config, per_class=1, seed=9), tmp_path / "examples")
    main(["identify", str(small.path), "--examples", str(examples.path), "--out", str(tmp_path / "b.star")])
    assert "no averages: fewer than 2 classes have 10 particles to make one of" in capsys.readouterr().err
    # The examples are of another set, though simulated sets call their particles the same.
    assert len(starfile.read(tmp_path / "b.star", always_dict=True)["particles"]) == 15


def test_averages_of_larger_boxes_than_those_of_earlier_classes_are_kept_in_a_model_that_loads(
    world: Any, chain: Any, tmp_path: Path
) -> None:
    words = ["extract", str(world.paths.particles), "--tomograms", str(world.paths.tomograms)]
    main([*words, "--out", str(tmp_path / "set"), "--voxel-spacing", "16", "--box-size", "20"])
    config = SubtomogramSetConfig(("rubisco",), per_class=2, box_size=16, voxel_spacing_angstrom=16.0, max_neighbors=0)
    simulate_subtomograms(config, tmp_path / "rubisco")
    first = ("--examples", tmp_path / "rubisco", "--save", tmp_path / "one")
    identify(chain, "--out", tmp_path / "one.star", *first)
    more = ("--examples", world.labels, "--model", tmp_path / "one", "--save", tmp_path / "four")
    main(["identify", str(tmp_path / "set"), "--out", str(tmp_path / "four.star"), *(str(word) for word in more)])
    card = load_classifier(tmp_path / "four").card
    assert card.averages
    assert card.box_size == 20

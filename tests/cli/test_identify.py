"""The command identify: its predictions, what it writes, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import starfile

from tomosift.cli.main import main
from tomosift.data.labels import label_subtomograms
from tomosift.data.subtomogram_set import open_subtomograms
from tomosift.inference.model_files import load_classifier
from tomosift.io.volumes import open_volume
from tomosift.simulation.subtomograms import SubtomogramSetConfig, simulate_subtomograms

pytestmark = pytest.mark.usefixtures("few_rotations", "fast_recentering")

Refuse = Callable[..., str]
CLASSES = ("apoferritin", "groel", "ribosome-70s")


def identify(chain: Any, *more: object, class_averages: str = "never") -> None:
    """Run the command; class averages take time, so only the tests about them compute them."""
    main(["identify", str(chain.subtomograms), *(str(word) for word in more), "--class-averages", class_averages])


def test_every_particle_gets_a_class_and_labeled_examples_keep_theirs(
    world: Any, chain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picks = starfile.read(world.paths.particles, always_dict=True)["particles"]
    identify(chain, "--labels", world.labels, "--out", tmp_path / "classified.star")
    table = starfile.read(tmp_path / "classified.star", always_dict=True)["particles"]
    assert len(table) == len(picks)
    examples = table[table["tomosiftIsExample"] == 1]
    assert examples["tomosiftClass"].value_counts().to_dict() == dict.fromkeys(CLASSES, 2)
    assert set(examples["tomosiftConfidence"]) == {1.0}
    assert set(picks.columns) <= set(table.columns)
    assert set(table["tomosiftClass"]) <= {*CLASSES, "unknown"}
    probabilities = table[[f"tomosiftProbability_{name}" for name in CLASSES]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-4)
    assert len(np.load(tmp_path / "classified_embeddings.npy")) == len(table)
    assert "6 particles of the set are labeled examples and keep their class" in capsys.readouterr().err


def test_particles_of_low_similarity_are_unknown(world: Any, chain: Any, tmp_path: Path) -> None:
    identify(chain, "--labels", world.labels, "--out", tmp_path / "classified.star", "--min-similarity", 0.999)
    table = starfile.read(tmp_path / "classified.star", always_dict=True)["particles"]
    assert set(table["tomosiftClass"][table["tomosiftIsExample"] == 0]) == {"unknown"}


def test_saved_model_classifies_and_enrolls_another_class(world: Any, chain: Any, tmp_path: Path) -> None:
    identify(chain, "--labels", world.labels, "--out", tmp_path / "a.star", "--save", tmp_path / "kept")
    words = ["--model", str(tmp_path / "kept"), "--out", str(tmp_path / "b.star")]
    main(["classify", str(chain.subtomograms), *words])
    first, second = (starfile.read(tmp_path / name, always_dict=True)["particles"] for name in ("a.star", "b.star"))
    columns = [f"tomosiftProbability_{name}" for name in CLASSES]
    shared = second.merge(first, on=["rlnTomoName", "rlnCenteredCoordinateXAngst"], suffixes=("", "_before"))
    assert len(shared) == len(first)
    shared = shared[shared["tomosiftIsExample"] == 0]
    np.testing.assert_allclose(shared[columns], shared[[f"{name}_before" for name in columns]], atol=1e-4)
    config = SubtomogramSetConfig(("rubisco",), per_class=2, box_size=16, voxel_spacing_angstrom=16.0, max_neighbors=0)
    simulate_subtomograms(config, tmp_path / "rubisco")
    more = ("--labels", tmp_path / "rubisco", "--model", tmp_path / "kept", "--save", tmp_path / "four")
    identify(chain, "--out", tmp_path / "c.star", *more)
    assert load_classifier(tmp_path / "four").card.class_names == (*CLASSES, "rubisco")
    table = starfile.read(tmp_path / "c.star", always_dict=True)["particles"]
    assert len(table) == len(open_subtomograms(chain.subtomograms))


def test_wrong_requests_are_refused_in_one_sentence(world: Any, chain: Any, tmp_path: Path, refuse: Refuse) -> None:
    out = ("--out", tmp_path / "classified.star")
    config = SubtomogramSetConfig(("rubisco",), per_class=2, box_size=16, max_neighbors=0)
    coarse = simulate_subtomograms(config, tmp_path / "rubisco")
    message = refuse("identify", chain.subtomograms, "--labels", coarse.path, *out)
    assert "voxel spacing of the labeled set" in message
    assert "is 10.00 A" in message
    assert "extract with --voxel-spacing 16" in message
    labels = starfile.read(world.labels, always_dict=True)
    labels = {name: block.drop(columns="tomosiftClass", errors="ignore") for name, block in labels.items()}
    starfile.write(labels, tmp_path / "empty.star")
    assert "names no class" in refuse("identify", chain.subtomograms, "--labels", tmp_path / "empty.star", *out)
    message = refuse("identify", chain.subtomograms, "--labels", world.labels, "--model", chain.classifier, *out)
    assert "trained head, which accepts no new class" in message
    identify(chain, "--labels", world.labels, *out, "--save", tmp_path / "kept")
    message = refuse("identify", chain.subtomograms, "--labels", world.labels, "--model", tmp_path / "kept", *out)
    assert "exists already" in message
    assert "suffix" in refuse("identify", chain.subtomograms, "--labels", world.labels, "--out", tmp_path / "a.xyz")


@pytest.fixture(scope="module")
def mask_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that predicts masks, trained for two steps."""
    folder = tmp_path_factory.mktemp("mask_model")
    small = ("--per-class", "4", "--box-size", "16", "--voxel-spacing", "16", "--max-neighbors", "0")
    words = ["--structures", "clpb", "rubisco", "--out", str(folder / "set"), *small]
    main(["simulate", "subtomograms", *words])
    few = ("--training.steps", "2", "--training.batch-size", "2")
    main(["train", "one_shot", str(folder / "set"), "--out", str(folder / "run"), *few])
    return folder / "run"


def test_masks_are_in_the_order_of_the_table_or_in_the_frame_of_the_tomograms(
    world: Any, chain: Any, mask_model: Path, tmp_path: Path
) -> None:
    options = ("--labels", world.labels, "--model", mask_model, "--out", tmp_path / "classified.star")
    identify(chain, *options, "--masks", tmp_path / "masks.mrcs")
    table = starfile.read(tmp_path / "classified.star", always_dict=True)["particles"]
    stack = open_volume(tmp_path / "masks.mrcs")
    assert stack.data.shape == (len(table) * 16, 16, 16) or stack.data.shape == (len(table), 16, 16, 16)
    assert set(np.unique(np.asarray(stack.data))) <= {0, 1}
    identify(chain, *options, "--masks", tmp_path / "volumes.zarr", "--crf")
    names = sorted(path.name for path in (tmp_path / "volumes.zarr").iterdir())
    assert names == [f"{name}.zarr" for name in sorted(set(table["rlnTomoName"]))]
    volume = open_volume(tmp_path / "volumes.zarr" / names[0])
    assert volume.data.shape == (24, 64, 64)
    assert volume.voxel_spacing_angstrom == 16.0
    assert set(np.unique(np.asarray(volume.data[:]))) <= {0, 1, 2, 3}


def test_masks_that_cannot_be_written_are_refused_before_the_work(
    world: Any, chain: Any, tmp_path: Path, refuse: Refuse
) -> None:
    options = ("identify", chain.subtomograms, "--labels", world.labels, "--out", tmp_path / "classified.star")
    assert "expected .mrcs for a stack or .zarr" in refuse(*options, "--masks", tmp_path / "masks.tif")
    assert not (tmp_path / "classified.star").exists()
    alone = ("--model", "None", "--training.steps", "1", "--out", str(tmp_path / "alone"))
    main(["train", "contrastive", str(chain.subtomograms), *alone])
    assert "predicts no masks" in refuse(*options, "--model", tmp_path / "alone", "--masks", tmp_path / "masks.mrcs")
    identify(chain, *options[2:], "--model", chain.pretrained, "--masks", tmp_path / "masks.mrcs")  # kept from general
    assert (tmp_path / "masks.mrcs").exists()


def test_report_shows_labeled_examples_beside_particles(
    world: Any, chain: Any, mask_model: Path, tmp_path: Path
) -> None:
    options = ("--labels", world.labels, "--model", mask_model, "--out", tmp_path / "classified.star")
    identify(chain, *options, "--report", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert 'id="support"' in text
    assert "Classes were enrolled from 6 labeled examples; nothing was trained." in text
    assert text.count("<dt>most similar</dt>") == 16
    assert "Beside the most similar example" in text
    assert "White lines show" in text


def test_class_averages_classify_and_mask_particles_and_are_kept(world: Any, chain: Any, tmp_path: Path) -> None:
    options = ("--labels", world.labels, "--out", tmp_path / "classified.star")
    files = ("--masks", tmp_path / "masks.mrcs", "--report", tmp_path / "report.html", "--save", tmp_path / "kept")
    identify(chain, *options, *files, class_averages="auto")
    table = starfile.read(tmp_path / "classified.star", always_dict=True)["particles"]
    columns = [f"tomosiftProbability_{name}" for name in CLASSES]
    np.testing.assert_allclose(table[columns].to_numpy().sum(1), 1, atol=1e-4)
    subtomograms = open_subtomograms(chain.subtomograms)
    true, shown = (label_subtomograms(subtomograms, path) for path in (world.paths.particles_truth, world.labels))
    expected = true.particles.class_name[shown.label < 0]
    others = table[table["tomosiftIsExample"] == 0]
    assert (others["tomosiftClass"].to_numpy() == expected).mean() > 0.9
    masks = np.asarray(open_volume(tmp_path / "masks.mrcs").data).reshape(len(table), -1)
    assert set(np.unique(masks)) == {0, 1}
    assert masks.any(axis=1).all()
    assert "compared with" in (tmp_path / "report.html").read_text()
    identify(chain, "--labels", world.labels, "--out", tmp_path / "plain.star", "--masks", tmp_path / "plain.mrcs")
    plain = np.asarray(open_volume(tmp_path / "plain.mrcs").data).reshape(len(table), -1)
    assert (masks != plain).any(axis=1).mean() > 0.5
    kept = load_classifier(tmp_path / "kept")
    assert kept.card.class_averages
    words = ["--model", str(tmp_path / "kept"), "--out", str(tmp_path / "again.star")]
    main(["classify", str(chain.subtomograms), *words])
    again = starfile.read(tmp_path / "again.star", always_dict=True)["particles"]
    np.testing.assert_allclose(again[columns][shown.label < 0], others[columns], atol=1e-3)


def test_without_class_averages_the_reason_is_printed_and_particles_are_classified(
    world: Any, chain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dense = tmp_path / "dense"
    few = ("--training.steps", "1", "--training.batch-size", "8", "--model", "None", "--encoder", "dense")
    main(["train", "contrastive", str(chain.subtomograms), "--out", str(dense), *few])
    capsys.readouterr()
    files = ("--out", tmp_path / "a.star", "--save", tmp_path / "kept")
    identify(chain, "--labels", world.labels, "--model", dense, *files, class_averages="auto")
    printed = capsys.readouterr().err
    assert "no class averages: the encoder dense does not recenter" in printed
    assert "align to class averages" not in printed
    assert not load_classifier(tmp_path / "kept").card.class_averages
    config = SubtomogramSetConfig(CLASSES, per_class=5, box_size=16, voxel_spacing_angstrom=16.0, max_neighbors=0)
    small = simulate_subtomograms(config, tmp_path / "small")
    examples = simulate_subtomograms(replace(config, per_class=1, seed=9), tmp_path / "examples")
    main(["identify", str(small.path), "--labels", str(examples.path), "--out", str(tmp_path / "b.star")])
    assert "no class averages: fewer than 2 classes have 10 members" in capsys.readouterr().err
    # The labeled examples are of another set, though particles of simulated sets have the same names.
    assert len(starfile.read(tmp_path / "b.star", always_dict=True)["particles"]) == 15


def test_class_averages_of_a_larger_box_size_than_earlier_classes_are_saved(
    world: Any, chain: Any, tmp_path: Path
) -> None:
    words = ["extract", str(world.paths.particles), "--tomograms", str(world.paths.tomograms)]
    main([*words, "--out", str(tmp_path / "set"), "--voxel-spacing", "16", "--box-size", "20"])
    config = SubtomogramSetConfig(("rubisco",), per_class=2, box_size=16, voxel_spacing_angstrom=16.0, max_neighbors=0)
    simulate_subtomograms(config, tmp_path / "rubisco")
    first = ("--labels", tmp_path / "rubisco", "--save", tmp_path / "one")
    identify(chain, "--out", tmp_path / "one.star", *first)
    more = ("--labels", world.labels, "--model", tmp_path / "one", "--save", tmp_path / "four")
    main(["identify", str(tmp_path / "set"), "--out", str(tmp_path / "four.star"), *(str(word) for word in more)])
    card = load_classifier(tmp_path / "four").card
    assert card.class_averages
    assert card.box_size == 20

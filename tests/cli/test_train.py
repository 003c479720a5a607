"""The command train: what a run holds, how it is repeated, what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tomosift.cli.main import main
from tomosift.data.subtomogram_set import open_subtomograms
from tomosift.inference.model_files import load_classifier
from tomosift.io.particles import csv
from tomosift.particles import Particles

Refuse = Callable[..., str]
FEW = ("--training.steps", "2", "--training.batch-size", "8")


def weights(run: Path) -> bytes:
    return (run / "result" / "model.safetensors").read_bytes()


def labels_csv(path: Path, chain: Any, class_name: list[str], offset: float = 0.0) -> Path:
    """Labels of the first particles, all of them ``offset`` Angstrom away along each axis."""
    particles = open_subtomograms(chain.subtomograms).particles.select(np.arange(len(class_name)))
    csv.write_particles(
        path, Particles.create(particles.tomogram, particles.position_zyx_angstrom + offset, class_name=class_name)
    )
    return path


def test_run_holds_configuration_environment_log_and_model(chain: Any) -> None:
    for run in (chain.pretrained, chain.classifier):
        names = {path.name for path in run.iterdir()}
        assert {"config.json", "environment.json", "log.jsonl", "result", "seen.json"} <= names
        assert not [path for path in run.rglob("*") if path.name.startswith(".")]
    described = json.loads((chain.classifier / "config.json").read_text())
    assert described["method"] == "supervised"
    assert described["config"]["init"] == str(chain.pretrained)
    assert described["data"]["labeled"]["labeled"] == 6


def test_run_lists_the_particles_whose_labels_it_used(chain: Any) -> None:
    assert json.loads((chain.pretrained / "seen.json").read_text()) == []
    labeled = json.loads((chain.classifier / "seen.json").read_text())
    assert len(labeled) == 6
    assert set(labeled) < set(open_subtomograms(chain.subtomograms).particles.particle_id)


def test_classes_are_those_of_the_labels(chain: Any) -> None:
    assert load_classifier(chain.classifier).card.class_names == ("apoferritin", "groel", "ribosome-70s")
    assert load_classifier(chain.pretrained).card.class_names == ()


def test_settings_of_an_earlier_pretraining_reproduce_its_weights(chain: Any, tmp_path: Path) -> None:
    words = ["train", "contrastive", str(chain.subtomograms), "--out", str(tmp_path / "again")]
    main([*words, "--from", str(chain.pretrained)])
    assert weights(tmp_path / "again") == weights(chain.pretrained)


def test_settings_of_an_earlier_fine_tuning_reproduce_its_weights(world: Any, chain: Any, tmp_path: Path) -> None:
    words = ["train", "supervised", str(chain.subtomograms), "--out", str(tmp_path / "again")]
    main([*words, "--labels", str(world.labels), "--from", str(chain.classifier / "config.json")])
    assert weights(tmp_path / "again") == weights(chain.classifier)
    assert not np.array_equal(weights(chain.classifier), weights(chain.pretrained))


def test_another_seed_gives_other_weights(chain: Any, tmp_path: Path) -> None:
    settings = str(chain.pretrained / "config.json")
    words = ["train", "contrastive", str(chain.subtomograms), "--out", str(tmp_path / "other"), "--from", settings]
    main([*words, "--seed", "5"])
    assert weights(tmp_path / "other") != weights(chain.pretrained)


def test_run_lists_the_particles_of_validation_too(world: Any, chain: Any, tmp_path: Path) -> None:
    words = ["train", "supervised", str(chain.subtomograms), "--out", str(tmp_path / "run"), *FEW]
    main([*words, "--labels", str(world.labels), "--validation", str(world.paths.particles_truth)])
    assert len(json.loads((tmp_path / "run" / "seen.json").read_text())) == 45


def test_labels_can_come_from_any_column(world: Any, chain: Any, tmp_path: Path) -> None:
    words = ["train", "supervised", str(chain.subtomograms), "--out", str(tmp_path / "run"), *FEW]
    main([*words, "--labels", str(world.labels), "--label-column", "rlnClassNumber"])
    assert load_classifier(tmp_path / "run").card.class_names == ("1", "2", "3")


def test_wrong_folders_of_sets_are_refused(world: Any, tmp_path: Path, refuse: Refuse) -> None:
    assert "set" in refuse("train", "contrastive", tmp_path / "absent", "--out", tmp_path / "run")
    assert "set.json" in refuse("train", "contrastive", world.folder, "--out", tmp_path / "run")


def test_unfinished_set_is_refused_with_how_to_finish_it(chain: Any, tmp_path: Path, refuse: Refuse) -> None:
    shutil.copytree(chain.subtomograms, tmp_path / "set")
    (tmp_path / "set" / "set.json").unlink()
    assert "did not finish" in refuse("train", "contrastive", tmp_path / "set", "--out", tmp_path / "run")


def test_unlabeled_sets_are_refused_and_leave_no_run(chain: Any, tmp_path: Path, refuse: Refuse) -> None:
    assert "0 classes" in refuse("train", "supervised", chain.subtomograms, "--out", tmp_path / "run")


def test_labels_of_one_class_are_refused_and_can_be_corrected(
    world: Any, chain: Any, tmp_path: Path, refuse: Refuse
) -> None:
    one = labels_csv(tmp_path / "one.csv", chain, ["groel", "groel"])
    words = ("train", "supervised", chain.subtomograms, "--out", tmp_path / "run", *FEW, "--labels")
    assert "labels name 1 classes, expected at least 2" in refuse(*words, one)
    main([str(word) for word in (*words, world.labels)])
    assert (tmp_path / "run" / "result").is_dir()


def test_labels_that_belong_to_no_particle_are_refused(chain: Any, tmp_path: Path, refuse: Refuse) -> None:
    far = labels_csv(tmp_path / "far.csv", chain, ["groel", "clpb"], offset=5000.0)
    message = refuse("train", "supervised", chain.subtomograms, "--out", tmp_path / "run", "--labels", far)
    assert "2 of 2 labels belong to no particle within 30 A" in message


def test_label_files_without_classes_are_refused(world: Any, chain: Any, tmp_path: Path, refuse: Refuse) -> None:
    words = ("train", "supervised", chain.subtomograms, "--out", tmp_path / "run", "--labels")
    assert "names no class" in refuse(*words, world.paths.particles)
    assert "no column weather" in refuse(*words, world.labels, "--label-column", "weather")
    assert "absent.star" in refuse(*words, tmp_path / "absent.star")


def test_encoder_of_another_voxel_spacing_is_refused(world: Any, chain: Any, tmp_path: Path, refuse: Refuse) -> None:
    words = ["extract", str(world.paths.particles), "--tomograms", str(world.paths.tomograms)]
    main([*words, "--out", str(tmp_path / "set"), "--voxel-spacing", "20", "--box-size", "16"])
    options = ("--labels", world.labels, "--model", chain.pretrained)
    message = refuse("train", "supervised", tmp_path / "set", "--out", tmp_path / "run", *options)
    assert "20.00 A" in message
    assert "16.00 A" in message


def test_missing_model_to_start_from_is_refused(world: Any, chain: Any, tmp_path: Path, refuse: Refuse) -> None:
    options = ("--labels", world.labels, "--model", tmp_path / "absent")
    assert "absent" in refuse("train", "supervised", chain.subtomograms, "--out", tmp_path / "run", *options)


def test_folder_that_is_no_run_is_refused_and_left_alone(world: Any, chain: Any, refuse: Refuse) -> None:
    before = sorted(world.folder.iterdir())
    assert "not a run" in refuse("train", "contrastive", chain.subtomograms, "--out", world.folder)
    assert sorted(world.folder.iterdir()) == before


def test_run_of_other_settings_is_refused(chain: Any, refuse: Refuse) -> None:
    before = weights(chain.pretrained)
    message = refuse("train", "contrastive", chain.subtomograms, "--out", chain.pretrained, *FEW)
    assert "give another --out" in message
    assert weights(chain.pretrained) == before


@pytest.mark.parametrize("break_it", ["unknown key", "wrong type", "no settings", "no JSON", "other method", "absent"])
def test_settings_that_do_not_fit_are_refused(chain: Any, tmp_path: Path, refuse: Refuse, break_it: str) -> None:
    described = json.loads((chain.pretrained / "config.json").read_text())
    path = tmp_path / "config.json"
    if break_it == "unknown key":
        described["config"]["training"]["epochs"] = 3
    elif break_it == "wrong type":
        described["config"]["training"]["steps"] = "many"
    elif break_it == "no settings":
        del described["config"]
    elif break_it == "other method":
        described = json.loads((chain.classifier / "config.json").read_text())
    if break_it != "absent":
        path.write_text("{" if break_it == "no JSON" else json.dumps(described))
    assert "config.json" in refuse("train", "contrastive", chain.subtomograms, "--out", tmp_path / "r", "--from", path)


def test_unknown_encoders_are_refused(chain: Any, tmp_path: Path, refuse: Refuse) -> None:
    words = ("train", "contrastive", chain.subtomograms, "--out", tmp_path / "run", "--encoder", "resnet")
    assert "encoder is 'resnet', expected one of" in refuse(*words)


@pytest.mark.parametrize("setting", ["steps", "batch-size", "devices", "checkpoint-every"])
def test_counts_below_one_are_refused(chain: Any, tmp_path: Path, refuse: Refuse, setting: str) -> None:
    words = ("train", "contrastive", chain.subtomograms, "--out", tmp_path / "run", *FEW)
    assert "-1" in refuse(*words, f"--training.{setting}", "-1")


def test_model_trained_by_episodes_enrolls_classes(chain: Any, world: Any, tmp_path: Path, refuse: Refuse) -> None:
    few = ("--model", "None", "--ways", "2", "--shots", "1", "--queries", "1", "--training.steps", "2")
    words = ["train", "prototypical", str(chain.subtomograms), "--labels", str(world.labels), *few]
    main([*words, "--head", "attention", "--out", str(tmp_path / "run")])
    assert load_classifier(tmp_path / "run").card.head == "attention"
    options = (
        "--labels",
        str(world.labels),
        "--model",
        str(tmp_path / "run"),
        "--out",
        str(tmp_path / "classified.star"),
    )
    main(["identify", str(chain.subtomograms), *options, "--class-averages", "never", "--save", str(tmp_path / "kept")])
    kept = load_classifier(tmp_path / "kept").card
    assert (kept.head, kept.class_names) == ("attention", ("apoferritin", "groel", "ribosome-70s"))
    message = refuse(*words, "--validation-classes", "clpb", "--out", tmp_path / "other")
    assert "validation class clpb is not among those of" in message
    message = refuse(*words, "--validation-classes", "groel", "rubisco", "--out", tmp_path / "other")
    assert "validation class rubisco" in message

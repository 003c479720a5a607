"""A tiny simulated world and the whole chain of commands on it, made once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tomosift.cli.main import main
from tomosift.simulation.dataset import DatasetPaths, simulate_dataset, write_label_table
from tomosift.simulation.dataset_config import TomogramDatasetConfig

CLASSES = ("ribosome-70s", "groel", "apoferritin")
SPACING = 16.0


@dataclass(frozen=True)
class World:
    """Three small tomograms with fifteen particles each, and two labels per class."""

    folder: Path
    paths: DatasetPaths
    labels: Path


@dataclass(frozen=True)
class Chain:
    """What the commands made of the world."""

    subtomograms: Path
    pretrained: Path
    classifier: Path


def run(*words: object) -> None:
    main([str(word) for word in words])


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    config = TomogramDatasetConfig(
        classes=CLASSES,
        particles_per_class=5,
        tomograms=3,
        shape_zyx=(24, 64, 64),
        voxel_spacing_angstrom=SPACING,
        tilt_step_deg=10.0,
        snr=0.5,
        vesicles=0,
        gold_beads=0,
        snr_box_size=16,
        template_extent_angstrom=384.0,
        labels=False,
        seed=1,
    )
    paths = simulate_dataset(config, folder)
    return World(folder, paths, write_label_table(folder, folder / "labels.star", 2))


@pytest.fixture(scope="session")
def chain(world: World, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    folder = tmp_path_factory.mktemp("chain")
    made = Chain(folder / "set", folder / "pretrained", folder / "classifier")
    few = ("--training.steps", 3, "--training.batch-size", 8)
    boxes = ("--voxel-spacing", SPACING, "--box-size", 16)
    run("extract", world.paths.particles, "--tomograms", world.paths.tomograms, "--out", made.subtomograms, *boxes)
    run("train", "contrastive", made.subtomograms, "--out", made.pretrained, *few)
    start = ("--labels", world.labels, "--init", made.pretrained, "--tuning", "probe-then-finetune")
    start += ("--averages", "never")  # test_sort and test_identify have them
    run("train", "supervised", made.subtomograms, "--out", made.classifier, *start, *few)
    return made


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must end with code 2 and one sentence, leaving ``tmp_path`` as it was; the sentence."""

    def attempt(*words: object) -> str:
        before = sorted(tmp_path.rglob("*"))
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            run(*words)
        error = capsys.readouterr().err
        assert end.value.code == 2
        assert "Traceback" not in error
        last = error.splitlines()[-1]
        assert last.startswith("tomosift: ")
        assert error.count("tomosift: ") == 1
        assert sorted(tmp_path.rglob("*")) == before
        return last

    return attempt

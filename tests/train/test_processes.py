"""Several processes train as one does: same losses, same weights, one writer, and a run that was killed goes on."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from tomosift import methods
from tomosift.data.sets import TrainingSets
from tomosift.data.subtomograms import SubtomogramWriter, open_subtomograms
from tomosift.draws import ShardGenerator, normal, uniform
from tomosift.methods import METHODS, contrastive, metric, supervised
from tomosift.nn.classifier import load_classifier
from tomosift.particles import Particles
from tomosift.physics.augmentation import ViewRanges
from tomosift.train.config import config_from_json
from tomosift.train.loop import Training
from tomosift.train.processes import launched

HERE, SCRIPTS = Path(__file__).resolve(), Path(sys.executable).parent
TOLERANCE = 1e-4
STEPS = 6

VIEWS = ViewRanges(noise_std=(0.0, 0.5), hidden_cubes=1, elastic_voxels=0.5)
TRAINING = Training(steps=STEPS, batch_size=24, checkpoint_every=3)
# Where the true gradient is zero, AdamW blows rounding up to a whole step: before a head that subtracts means.
GENTLE = replace(TRAINING, learning_rate=1e-4)
LARGE = replace(TRAINING, batch_size=72)  # views are made some at a time: here a different number in each process
CASES: dict[str, tuple[str, Any]] = {
    "simclr": ("contrastive", contrastive.Config(views=VIEWS, training=LARGE)),
    "sectors": ("contrastive", contrastive.Config(independent_noise="sectors", training=TRAINING)),
    "moco": ("contrastive", contrastive.Config(framework="moco", queue_size=100, views=VIEWS, training=TRAINING)),
    "residual": ("supervised", supervised.Config(encoder="residual", views=VIEWS, training=GENTLE)),
    "stopped early": ("supervised", supervised.Config(evaluate_every=2, training=GENTLE)),
    "metric": (
        "metric",
        metric.Config(
            box_size=16,
            complexes=16,
            boxes_each=4,
            classes_per_batch=8,
            directions_complexes=2,
            independent_noise=0.5,
            training=TRAINING,
        ),
    ),
}


def made(folder: Path) -> Path:
    """Two shapes, 48 boxes of 16^3 in four tomograms."""
    rng = np.random.default_rng(0)
    axis = np.arange(16) - 8
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    shapes = [np.exp(-(z**2 + y**2 + x**2) / 18), np.exp(-(z**2 / 2 + y**2 / 50 + x**2 / 50))]
    boxes = np.stack([shapes[k % 2] * 3 + rng.normal(size=(16, 16, 16)) for k in range(48)]).astype(np.float32)
    names = ["ball" if k % 2 == 0 else "plate" for k in range(48)]
    particles = Particles.create([f"tomogram_{k // 12}" for k in range(48)], np.zeros((48, 3)), class_name=names)
    writer = SubtomogramWriter(folder, box_size=16, voxel_spacing_angstrom=10.0)
    writer.append(boxes, particles, np.tile(np.float32([-60, 60]), (48, 1)))
    writer.close()
    return folder


def sets(folder: Path) -> TrainingSets:
    boxes = open_subtomograms(folder)
    last = boxes.particles.tomogram == "tomogram_3"
    return TrainingSets(boxes.select(~last), boxes, boxes.select(last))


def trained(case: str, folder: Path, runs: Path, processes: int, kill_at: int = 0) -> None:
    """Train into ``runs`` and keep the losses of every step beside the run."""
    name, config = CASES[case]
    config = replace(config, training=replace(config.training, devices=processes))
    losses: list[dict[str, float]] = []
    norms: list[float] = []
    clip = Fabric.clip_gradients

    def clipped(self: Fabric, *given: Any, **named: Any) -> Any:
        norms.append(float(norm := clip(self, *given, **named)))
        return norm

    def progress(step: int, steps: int, numbers: dict[str, float]) -> None:
        if numbers:
            losses.append({**numbers, "gradient": norms[-1]})
        if numbers and step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    # Two files of lessons, one for each process.
    with patch.object(metric, "_LESSON_COMPLEXES", 8), patch.object(Fabric, "clip_gradients", clipped):
        methods.train(name, config, sets(folder), runs / case, 5, progress)
    rank = torch.distributed.get_rank() if processes > 1 else 0
    (runs / f"{case}.{rank}.json").write_text(json.dumps(losses))


def main(cases: str, folder: str, runs: str, processes: str, kill_at: str) -> None:
    torch.set_num_threads(1)
    for case in cases.split(","):
        trained(case, Path(folder), Path(runs), int(processes), int(kill_at))


def together(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program in two processes that torchrun starts."""
    start = [SCRIPTS / "torchrun", "--standalone", "--nproc-per-node", "2", *words]
    return finished(start, **options)


def finished(command: Sequence[object], **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        [str(word) for word in command], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("boxes") / "set")


def differences(one: Path, two: Path) -> float:
    """Greatest relative difference of a trained tensor; a discriminant's few examples here leave it undetermined."""
    models = [load_classifier(folder) for folder in (one, two)]
    states = [{**model.encoder.state_dict(), **dict(model.named_parameters())} for model in models]
    return max(float((a - states[1][name]).norm() / a.norm().clamp(min=1e-6)) for name, a in states[0].items())


@pytest.fixture(scope="module")
def pairs(boxes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Runs of every case by one process and by two."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    done = together(HERE, ",".join(CASES), boxes, two, 2, 0)
    assert done.returncode == 0, done.stderr[-3000:]
    for case in CASES:
        trained(case, boxes, one, 1)
    return one, two


@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_losses_and_weights_of_one(case: str, pairs: tuple[Path, Path]) -> None:
    one, two = pairs
    alone, first, second = (
        json.loads((folder / f"{case}.{rank}.json").read_text()) for folder, rank in ((one, 0), (two, 0), (two, 1))
    )
    assert first == second
    assert len(alone) == len(first) >= STEPS
    for expected, got in zip(alone, first, strict=True):
        assert got == pytest.approx(expected, abs=TOLERANCE, rel=TOLERANCE)
    assert first[0] == pytest.approx(alone[0], rel=1e-5)  # before anything can add up
    assert differences(one / case, two / case) < TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_one_of_two_processes_writes(case: str, pairs: tuple[Path, Path]) -> None:
    logs = [[json.loads(line) for line in (folder / case / "log.jsonl").read_text().splitlines()] for folder in pairs]
    alone, both = ([{k: v for k, v in e.items() if k not in ("time", "seconds")} for e in log] for log in logs)
    assert [entry.keys() for entry in both] == [entry.keys() for entry in alone]
    for expected, got in zip(alone, both, strict=True):
        assert got.get("loss") == pytest.approx(expected.get("loss"), abs=TOLERANCE)
    names = [sorted(path.relative_to(folder).as_posix() for path in (folder / case).rglob("*")) for folder in pairs]
    assert names[0] == names[1]


def test_a_run_of_two_processes_that_was_killed_goes_on_in_two_or_in_one(
    boxes: Path, pairs: tuple[Path, Path], tmp_path: Path
) -> None:
    for processes, folder in ((2, tmp_path / "two"), (1, tmp_path / "one")):
        folder.mkdir(exist_ok=True)
        if processes == 2:
            killed = together(HERE, "sectors", boxes, folder, 2, 4)
            assert killed.returncode != 0
            shutil.copytree(folder / "sectors", tmp_path / "one" / "sectors")
            assert not (folder / "sectors" / "result").exists()
            done = together(HERE, "sectors", boxes, folder, 2, 0)
            assert done.returncode == 0, done.stderr[-3000:]
        else:
            trained("sectors", boxes, folder, 1)
        log = [json.loads(line) for line in (folder / "sectors" / "log.jsonl").read_text().splitlines()]
        assert [entry["step"] for entry in log if entry.get("event") == "resumed"] == [3]
        assert differences(pairs[0] / "sectors", folder / "sectors") < TOLERANCE


COMMAND = ("train", "supervised", "--encoder", "radial", "--evaluate-every", "2", "--training.steps", "2")
COMMAND += ("--training.batch-size", "24")


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def by_torchrun(words: list[object]) -> str:
    done = together("--no-python", SCRIPTS / "tomosift", *words)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def by_itself(words: list[object]) -> str:
    done = finished([SCRIPTS / "tomosift", *words, "--training.devices", "2"])
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def by_srun_on_two_nodes(words: list[object]) -> str:
    """As srun would start one process on each of two nodes, which both are this machine."""
    port = free_port()
    started = []
    for rank in ("0", "1"):
        place = {"PROCID": rank, "NODEID": rank, "LOCALID": "0", "JOB_ID": "1234", "JOB_NAME": "interactive"}
        size = {"NTASKS": "2", "STEP_NUM_TASKS": "2", "NNODES": "2", "STEP_NUM_NODES": "2", "NTASKS_PER_NODE": "1"}
        variables = {f"SLURM_{name}": value for name, value in {**place, **size}.items()}
        environment = {**os.environ, **variables, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [str(word) for word in (SCRIPTS / "tomosift", *words)]
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    said = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    return "".join(said)


@pytest.mark.parametrize("start", [by_torchrun, by_itself, by_srun_on_two_nodes])
def test_command_trains_in_processes_however_they_are_started(
    start: Callable[[list[object]], str], boxes: Path, pairs: tuple[Path, Path], tmp_path: Path
) -> None:
    said = start([*COMMAND, boxes, "--out", tmp_path / "run"])
    assert said.count("finished; the model is in") == 1
    assert said.count("supervised: 2 of 2") >= 1
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if "loss" in entry] == [2]
    assert load_classifier(tmp_path / "run").card.class_names == ("ball", "plate")


def test_refusals_come_before_anything_is_written(boxes: Path, tmp_path: Path) -> None:
    for name in METHODS:
        if not methods.method(name).SHARES_BATCHES:
            config = replace(methods.method(name).Config(), training=Training(devices=2))
            with pytest.raises(ValueError, match=f"devices is 2, expected 1: {name} trains in one process only"):
                methods.train(name, config, sets(boxes), tmp_path / "run", 0)
    config = contrastive.Config(training=Training(batch_size=9, devices=2))
    with pytest.raises(ValueError, match="batch_size is 9, expected a multiple of 2 processes"):
        methods.train("contrastive", config, sets(boxes), tmp_path / "run", 0)
    config = contrastive.Config(training=Training(batch_size=8, nodes=2))
    with pytest.raises(ValueError, match="nodes is 2, but nothing was started on the others; use srun or torchrun"):
        methods.train("contrastive", config, sets(boxes), tmp_path / "run", 0)
    assert not (tmp_path / "run").exists()


def test_another_number_of_processes_is_the_same_run() -> None:
    stored = json.loads(json.dumps(asdict(Training())))
    del stored["nodes"]  # as earlier versions wrote it
    assert config_from_json(Training, stored, Path("config.json")) == Training()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_processes_draw_is_what_one_draws(count: int) -> None:
    def drawn(rank: int, of: int) -> list[torch.Tensor]:
        generator = ShardGenerator()
        generator.rank, generator.count = rank, of
        generator.manual_seed(1)
        rows = 12 // of
        pair = normal((rows, 5, 4), generator), uniform((rows,), generator, torch.float64)
        views = VIEWS.sample(rows, generator)
        return [*pair, views.rotation, views.noise_std, views.hidden_corner, torch.randn(2, generator=generator)]

    whole, parts = drawn(0, 1), [drawn(rank, count) for rank in range(count)]
    for place, expected in enumerate(whole[:-1]):
        assert torch.equal(torch.stack([part[place] for part in parts], 1).flatten(0, 1), expected)
    assert all(torch.equal(part[-1], whole[-1]) for part in parts)


def test_launchers_say_how_many_processes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC_"))]:
        monkeypatch.delenv(name)
    assert launched() is None
    assert Training(devices=3, nodes=2).as_launched() == Training(devices=3, nodes=2)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    assert launched() == (4, 2)
    assert Training().as_launched() == Training(devices=4, nodes=2)
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "3")
    with pytest.raises(ValueError, match="8 processes were started on 3 nodes, expected the same number on each"):
        launched()
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("LOCAL_WORLD_SIZE", "2"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    assert launched() == (2, 1)


if __name__ == "__main__":
    main(*sys.argv[1:])

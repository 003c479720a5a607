"""Distributed training equals training in one process: same losses, same weights, one writer, and it resumes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from tomosift import methods
from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.subtomogram_set import open_subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.model_files import load_classifier
from tomosift.methods import METHODS, contrastive, metric, supervised
from tomosift.models.encoders.radial import Radial
from tomosift.particles import Particles
from tomosift.physics.augmentation import ViewRanges
from tomosift.rng import ShardGenerator, draw_normal, draw_uniform
from tomosift.simulation import held_out_complexes
from tomosift.train.config import config_from_json
from tomosift.train.loop import Training, _check_distributed, _Trainer
from tomosift.train.processes import detect_launched_processes
from tomosift.train.run import Run

HERE, SCRIPTS = Path(__file__).resolve(), Path(sys.executable).parent
TOLERANCE = 1e-4
STEPS = 6
LIMIT_S = 280  # for a program to end, on however busy a machine

VIEWS = ViewRanges(noise_std=(0.0, 0.5), hidden_cubes=1, elastic_voxels=0.5)
TRAINING = Training(steps=STEPS, batch_size=24, checkpoint_every=3)
GENTLE = replace(TRAINING, learning_rate=1e-4)
GENTLER = replace(TRAINING, learning_rate=1e-5)  # the head divides by how little boxes differ under random weights
CASES: dict[str, tuple[str, Any]] = {
    "simclr": ("contrastive", contrastive.Config(training=TRAINING)),
    "sectors": ("contrastive", contrastive.Config(independent_noise="sectors", training=TRAINING)),
    "moco": ("contrastive", contrastive.Config(framework="moco", queue_size=100, training=TRAINING)),
    "residual": ("supervised", supervised.Config(encoder="residual", views=VIEWS, training=GENTLER)),
    "stopped early": ("supervised", supervised.Config(evaluate_every=2, training=GENTLE)),
    "metric": (
        "metric",
        metric.Config(
            box_size=16,
            complexes=16,
            particles_per_complex=4,
            classes_per_batch=8,
            plda_complexes=2,
            independent_noise=0.5,
            training=TRAINING,
        ),
    ),
}


def write_set(folder: Path) -> Path:
    """Two shapes, 32 boxes of 16^3 in four tomograms."""
    rng = np.random.default_rng(0)
    axis = np.arange(16) - 8
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    shapes = [np.exp(-(z**2 + y**2 + x**2) / 18), np.exp(-(z**2 / 2 + y**2 / 50 + x**2 / 50))]
    boxes = np.stack([shapes[k % 2] * 3 + rng.normal(size=(16, 16, 16)) for k in range(32)]).astype(np.float32)
    names = ["ball" if k % 2 == 0 else "plate" for k in range(32)]
    particles = Particles.create([f"tomogram_{k // 8}" for k in range(32)], np.zeros((32, 3)), class_name=names)
    writer = SubtomogramWriter(folder, box_size=16, voxel_spacing_angstrom=10.0)
    writer.append(boxes, particles, np.tile(np.float32([-60, 60]), (32, 1)))
    writer.close()
    return folder


def sets(folder: Path) -> TrainingSets:
    boxes = open_subtomograms(folder)
    last = boxes.particles.tomogram == "tomogram_3"
    return TrainingSets(boxes.select(~last), boxes, boxes.select(last))


def train_case(case: str, folder: Path, runs: Path, processes: int, kill_at: int = 0) -> None:
    """Train into ``runs`` and keep the losses of every step beside the run."""
    name, config = CASES[case]
    config = replace(config, training=replace(config.training, devices=processes))
    rank = int(os.environ["RANK"]) if processes > 1 else 0
    losses: list[dict[str, float]] = []
    norms: list[float] = []
    clip, descend = Fabric.clip_gradients, _Trainer.descend

    def clip_and_record(self: Fabric, *arguments: Any, **named: Any) -> Any:
        norms.append(float(norm := clip(self, *arguments, **named)))
        return norm

    def descend_and_record(self: _Trainer, stream: Any) -> dict[str, float]:
        losses.append({**(step_losses := descend(self, stream)), "gradient": norms[-1]})
        return step_losses

    def progress(step: int, steps: int, note: str = "") -> None:
        if note.startswith("loss") and step == kill_at and rank == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with (
        # Two files of features, one for each process, and few subtomograms afterwards.
        patch.object(metric, "BLOCK_COMPLEXES", 8),
        patch.object(held_out_complexes, "_PARTICLES_PER_COMPLEX", 8),
        patch.object(Radial, "center_candidates", 1),
        patch.object(Fabric, "clip_gradients", clip_and_record),
        patch.object(_Trainer, "descend", descend_and_record),
        # Where the true gradient is zero, as before a head that subtracts means, AdamW blows rounding up to a step.
        patch.object(torch.optim, "AdamW", partial(torch.optim.AdamW, eps=1e-3)),
    ):
        methods.train(name, config, sets(folder), runs / case, 5, progress)
    (runs / f"{case}.{rank}.json").write_text(json.dumps(losses))


def main(cases: str, folder: str, runs: str, processes: str, kill_at: str) -> None:
    torch.set_num_threads(1)
    for case in cases.split(","):
        train_case(case, Path(folder), Path(runs), int(processes), int(kill_at))


def run_processes(command: Sequence[object], *environments: dict[str, object]) -> list[tuple[int, str]]:
    """Exit codes and errors of a program that is started once for each of these environments."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = (
            {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])} if len(environments) > 1 else {}
        )
    words = [str(word) for word in command]
    started = []
    for variables in environments:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **meeting, **{k: str(v) for k, v in variables.items()}}
        started.append(subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True))
    try:
        outputs = [process.communicate(timeout=LIMIT_S)[1] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    return [(process.returncode, errors) for process, errors in zip(started, outputs, strict=True)]


def run_in_two_processes(*words: object) -> list[tuple[int, str]]:
    """Run this file in two processes, as torchrun would."""
    size = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "test"}
    return run_processes([sys.executable, HERE, *words], *({**size, "RANK": k, "LOCAL_RANK": k} for k in (0, 1)))


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("boxes") / "set")


def differences(one: Path, two: Path) -> float:
    """Greatest difference of a trained tensor, as a share of its length where that is above one.

    Buffers of heads are left out: a discriminant is not determined by the few examples there are here.
    """
    models = [load_classifier(folder) for folder in (one, two)]
    states = [{**model.encoder.state_dict(), **dict(model.named_parameters())} for model in models]
    pairs = [(value.detach(), states[1][name].detach()) for name, value in states[0].items()]
    return max(float((a - b).norm() / a.norm().clamp(min=1)) for a, b in pairs)


@pytest.fixture(scope="module")
def pairs(boxes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Runs of every case by one process and by two."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    done = run_in_two_processes(",".join(CASES), boxes, two, 2, 0)
    assert [code for code, _ in done] == [0, 0], done
    for case in CASES:
        train_case(case, boxes, one, 1)
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
        names = expected.keys() - {"gradient"}
        assert {k: got[k] for k in names} == pytest.approx({k: expected[k] for k in names}, abs=TOLERANCE)
    assert first[0] == pytest.approx(alone[0], rel=TOLERANCE)  # before anything can add up
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


def test_a_killed_run_of_two_processes_resumes_in_two_or_in_one(
    boxes: Path, pairs: tuple[Path, Path], tmp_path: Path
) -> None:
    for processes, folder in ((2, tmp_path / "two"), (1, tmp_path / "one")):
        folder.mkdir(exist_ok=True)
        if processes == 2:
            killed = run_in_two_processes("sectors", boxes, folder, 2, 4)
            assert killed[0][0] == -signal.SIGKILL
            assert killed[1][0] > 0  # the other one does not wait for what will never come
            shutil.copytree(folder / "sectors", tmp_path / "one" / "sectors")
            assert not (folder / "sectors" / "result").exists()
            done = run_in_two_processes("sectors", boxes, folder, 2, 0)
            assert [code for code, _ in done] == [0, 0], done
        else:
            train_case("sectors", boxes, folder, 1)
        log = [json.loads(line) for line in (folder / "sectors" / "log.jsonl").read_text().splitlines()]
        assert [entry["step"] for entry in log if entry.get("event") == "resumed"] == [3]
        assert differences(pairs[0] / "sectors", folder / "sectors") < TOLERANCE


COMMAND = ("train", "supervised", "--encoder", "radial", "--evaluate-every", "2", "--training.steps", "2")
COMMAND += ("--training.batch-size", "24")


def start_by_torchrun(words: list[object]) -> list[tuple[int, str]]:
    start = [SCRIPTS / "torchrun", "--standalone", "--nproc-per-node", "2", "--no-python", SCRIPTS / "tomosift"]
    return run_processes([*start, *words], {})


def start_by_tomosift(words: list[object]) -> list[tuple[int, str]]:
    return run_processes([SCRIPTS / "tomosift", *words, "--training.devices", "2"], {})


def start_by_srun_on_two_nodes(words: list[object]) -> list[tuple[int, str]]:
    """As srun would start one process on each of two nodes, which both are this machine."""
    size = {"NTASKS": 2, "STEP_NUM_TASKS": 2, "NNODES": 2, "STEP_NUM_NODES": 2, "NTASKS_PER_NODE": 1}
    size |= {"LOCALID": 0, "JOB_ID": 1234, "JOB_NAME": "interactive"}
    processes = ({**size, "PROCID": k, "NODEID": k} for k in (0, 1))
    variables = ({f"SLURM_{name}": value for name, value in process.items()} for process in processes)
    return run_processes([SCRIPTS / "tomosift", *words], *variables)


@pytest.mark.slow
@pytest.mark.parametrize("start", [start_by_torchrun, start_by_tomosift, start_by_srun_on_two_nodes])
def test_command_trains_in_several_processes_with_every_launcher(
    start: Callable[[list[object]], list[tuple[int, str]]], boxes: Path, tmp_path: Path
) -> None:
    done = start([*COMMAND, boxes, "--out", tmp_path / "run"])
    errors = "".join(text for _, text in done)
    assert all(code == 0 for code, _ in done), errors
    assert errors.count("finished; the model is in") == 1
    assert errors.count("supervised: 2 of 2") >= 1
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if "loss" in entry] == [2]
    assert load_classifier(tmp_path / "run").card.class_names == ("ball", "plate")


def test_refusals_come_before_anything_is_written(boxes: Path, tmp_path: Path) -> None:
    for name in METHODS:
        if not methods.load_method(name).SHARES_BATCHES:
            config = replace(methods.load_method(name).Config(), training=Training(devices=2))
            with pytest.raises(ValueError, match=f"devices is 2, expected 1: {name} trains in one process only"):
                methods.train(name, config, sets(boxes), tmp_path / "run", 0)
    config = contrastive.Config(training=Training(batch_size=9, devices=2))
    with pytest.raises(ValueError, match="batch_size is 9, expected a multiple of 2 processes"):
        methods.train("contrastive", config, sets(boxes), tmp_path / "run", 0)
    config = contrastive.Config(training=Training(batch_size=8, nodes=2))
    with pytest.raises(ValueError, match="nodes is 2, but the other nodes run no processes; use srun or torchrun"):
        methods.train("contrastive", config, sets(boxes), tmp_path / "run", 0)
    assert not (tmp_path / "run").exists()


def test_networks_that_normalize_over_the_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch normalization, whose statistics processes do not share"):
        _check_distributed(torch.nn.Sequential(torch.nn.BatchNorm1d(2)), 0, Run(tmp_path))


def test_another_number_of_processes_is_the_same_run(tmp_path: Path) -> None:
    stored = json.loads(json.dumps(asdict(Training())))
    del stored["nodes"]  # as earlier versions wrote it
    assert config_from_json(Training, stored, Path("config.json")) == Training()
    Run.open(tmp_path / "run", {"training": stored})
    Run.open(tmp_path / "run", {"training": asdict(Training(devices=4, nodes=2))})


@pytest.mark.parametrize("count", [1, 2, 3])
def test_processes_together_draw_what_a_single_one_draws(count: int) -> None:
    def draw(rank: int, of: int) -> list[torch.Tensor]:
        generator = ShardGenerator()
        generator.rank, generator.count = rank, of
        generator.manual_seed(1)
        rows = 12 // of
        pair = draw_normal((rows, 5, 4), generator), draw_uniform((rows,), generator, torch.float64)
        views = VIEWS.sample(rows, generator)
        fields = [views.rotation, views.noise_std, views.hidden_corner, views.noise_seed]
        return [*pair, *fields, torch.randn(2, generator=generator)]

    whole, parts = draw(0, 1), [draw(rank, count) for rank in range(count)]
    for index, expected in enumerate(whole[:-1]):
        assert torch.equal(torch.stack([part[index] for part in parts], 1).flatten(0, 1), expected)
    assert all(torch.equal(part[-1], whole[-1]) for part in parts)


def test_number_of_processes_is_read_from_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC_"))]:
        monkeypatch.delenv(name)
    assert detect_launched_processes() is None
    assert Training(devices=3, nodes=2).match_launcher() == Training(devices=3, nodes=2)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    assert detect_launched_processes() == (4, 2)
    assert Training().match_launcher() == Training(devices=4, nodes=2)
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "3")
    with pytest.raises(ValueError, match="8 processes were started on 3 nodes, expected the same number on each"):
        detect_launched_processes()
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("LOCAL_WORLD_SIZE", "2"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    assert detect_launched_processes() == (2, 1)


if __name__ == "__main__":
    main(*sys.argv[1:])

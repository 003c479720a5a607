"""The training loop on a problem of two numbers: rate, early stopping, resume, and what stops it."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tomosift.errors import FormatError, NonFiniteLossError
from tomosift.progress import Progress
from tomosift.train import loop
from tomosift.train.loop import Training, Validation, fit
from tomosift.train.run import Run
from tomosift.train.schedule import learning_rate_share, step_generator

TRAINING = Training(steps=12, batch_size=4, learning_rate=0.05, checkpoint_every=4, warmup=0.2)


@dataclass(frozen=True)
class Points:
    """A batch that can be moved to a device and sharded."""

    x: Tensor

    def to(self, device: torch.device) -> "Points":
        return Points(self.x.to(device))

    def shard(self, rank: int, count: int) -> "Points":
        return Points(self.x[rank::count])


class RecordingStream:
    """A stream that records the requested steps."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def batch(self, step: int) -> Points:
        self.steps.append(step)
        return Points(torch.randn(4, 2, generator=torch.Generator().manual_seed(step)))


class Line(nn.Module):
    """Fits y = 3 x0 - x1 with noisy inputs and dropout: both kinds of randomness take part."""

    def __init__(self, poison_at: int = -1) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.dropout = nn.Dropout(0.3)
        self.poison_at = poison_at
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, batch: Points, generator: torch.Generator) -> dict[str, Tensor]:
        noise = 0.1 * torch.randn(batch.x.shape, generator=generator)
        target = 3 * batch.x[:, :1] - batch.x[:, 1:]
        loss = (self.layer(self.dropout(batch.x + noise)) - target).square().mean()
        if int(self.count) == self.poison_at:
            loss = loss * torch.nan
        self.count += 1
        return {"loss": loss, "weight": self.layer.weight.detach().abs().mean()}


def line(seed: int = 0, **options: int) -> Line:
    torch.manual_seed(seed)
    return Line(**options)


def open_run(folder: Path) -> Run:
    return Run.open(folder, {"of": "a test"})


def train_line(folder: Path, training: Training = TRAINING, seed: int = 0, **options: object) -> Line:
    learner = line()
    fit(learner, RecordingStream(), training, open_run(folder), seed, **options)  # type: ignore[arg-type]
    return learner


def log_entries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (folder / "log.jsonl").read_text().splitlines()]


def same(one: nn.Module, two: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@settings(deadline=None)
@given(st.integers(1, 500), st.floats(0.0, 1.0))
def test_rate_rises_to_its_peak_and_falls_without_turning_back(steps: int, warmup: float) -> None:
    shares = [learning_rate_share(step, steps, warmup) for step in range(steps)]
    assert all(0 < share <= 1 for share in shares)
    warm = max(1, round(warmup * steps))
    assert all(a < b for a, b in pairwise(shares[:warm]))
    assert all(a >= b for a, b in pairwise(shares[warm:]))
    assert max(shares) == 1.0


def test_rate_follows_a_line_and_then_half_a_cosine() -> None:
    shares = [learning_rate_share(step, 100, 0.1) for step in range(100)]
    assert shares[:10] == pytest.approx([0.1 * (k + 1) for k in range(10)])
    assert shares[55] == pytest.approx(0.5)
    assert shares[99] == pytest.approx(0.5 + 0.5 * math.cos(math.pi * 89 / 90))


def test_optimizer_gets_the_rate_of_its_step_and_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[list[float]] = []
    descend = torch.optim.AdamW.step

    def noting(self: torch.optim.AdamW, *given: object, **named: object) -> object:
        used.append([group["lr"] for group in self.param_groups])
        return descend(self, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.optim.AdamW, "step", noting)
    learner = line()
    groups = [{"params": [learner.layer.weight], "lr": 0.01}, {"params": [learner.layer.bias]}]
    fit(learner, RecordingStream(), TRAINING, open_run(tmp_path / "run"), 0, parameter_groups=groups)
    shares = [learning_rate_share(step, 12, 0.2) for step in range(12)]
    assert [pair[0] for pair in used] == pytest.approx([0.01 * share for share in shares])
    assert [pair[1] for pair in used] == pytest.approx([0.05 * share for share in shares])


def test_training_lowers_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_STEPS_PER_LOG_LINE", 1)
    train_line(tmp_path / "run", replace(TRAINING, steps=200))
    losses = [entry["loss"] for entry in log_entries(tmp_path / "run")]
    assert len(losses) == 200
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])


def test_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    one, two, other = (train_line(tmp_path / str(k), seed=seed) for k, seed in enumerate((1, 1, 2)))
    assert same(one, two)
    assert not same(one, other)


def test_steps_are_requested_in_order_and_logged_with_all_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_STEPS_PER_LOG_LINE", 1)
    stream, reports = RecordingStream(), []
    fit(line(), stream, TRAINING, open_run(tmp_path / "run"), 0, progress=lambda *report: reports.append(report))
    assert stream.steps == list(range(12))
    entries = log_entries(tmp_path / "run")
    assert all(entry.keys() == {"time", "step", "loss", "weight", "seconds"} for entry in entries)
    assert reports == [(k + 1, 12, f"loss {entry['loss']:.3f}") for k, entry in enumerate(entries)]


class Kill(Exception):
    pass


def kill_at(at: int) -> Progress:
    def progress(step: int, steps: int, note: str = "") -> None:
        if step == at:
            raise Kill

    return progress


@pytest.mark.parametrize("at", [5, 8, 9, 11])
def test_resumed_run_ends_in_the_weights_of_an_uninterrupted_one(at: int, tmp_path: Path) -> None:
    whole = train_line(tmp_path / "whole")
    with pytest.raises(Kill):
        train_line(tmp_path / "parts", progress=kill_at(at))
    learner, stream = line(seed=99), RecordingStream()
    fit(learner, stream, TRAINING, open_run(tmp_path / "parts"), 0)
    # The step that was killed may not have reached its checkpoint: it is done again.
    assert stream.steps == list(range((at - 1) // 4 * 4, 12))
    assert same(whole, learner)


def test_killed_before_the_first_checkpoint_starts_anew(tmp_path: Path) -> None:
    whole = train_line(tmp_path / "whole")
    with pytest.raises(Kill):
        train_line(tmp_path / "parts", progress=kill_at(2))
    assert not open_run(tmp_path / "parts").checkpoint.exists()
    assert same(train_line(tmp_path / "parts"), whole)


def test_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    whole = train_line(tmp_path / "run")
    learner, stream = line(seed=99), RecordingStream()
    fit(learner, stream, TRAINING, open_run(tmp_path / "run"), 0)
    assert not stream.steps
    assert same(whole, learner)


def scores(*values: float) -> tuple[Callable[[], float], list[float]]:
    left = list(values)
    return lambda: left.pop(0), left


def test_early_stopping_keeps_the_best_weights_not_the_last(tmp_path: Path) -> None:
    score, left = scores(0.1, 0.9, 0.8, 0.7, 0.95, 1.0)
    stopped = train_line(tmp_path / "early", validation=Validation(score, every=2, patience=2))
    assert len(left) == 2  # stopped after two scores without a better one
    score, _ = scores(0.1, 0.9)
    learner = line()
    with pytest.raises(Kill):
        fit(
            learner,
            RecordingStream(),
            TRAINING,
            open_run(tmp_path / "short"),
            0,
            validation=Validation(score, every=2, patience=2),
            progress=kill_at(4),
        )
    assert same(stopped, learner)


def test_without_a_stop_the_best_of_all_scores_is_kept(tmp_path: Path) -> None:
    score, left = scores(0.5, 0.6, 0.4, 0.3)
    best = train_line(tmp_path / "run", validation=Validation(score, every=3, patience=9))
    assert not left
    assert int(best.count) == 6


def test_number_of_steps_behind_the_weights_is_returned_and_can_be_limited(tmp_path: Path) -> None:
    score, _ = scores(0.5, 0.6, 0.4, 0.3)
    assert (
        fit(line(), RecordingStream(), TRAINING, open_run(tmp_path / "a"), 0, validation=Validation(score, 3, 9)) == 6
    )
    assert fit(line(), RecordingStream(), TRAINING, open_run(tmp_path / "b"), 0) == TRAINING.steps
    short, reported = line(), []
    end = fit(
        short,
        RecordingStream(),
        TRAINING,
        open_run(tmp_path / "c"),
        0,
        last_step=6,
        progress=lambda *now: reported.append(now),
    )
    assert end == 6
    assert [now[:2] for now in reported] == [(step, 6) for step in range(1, 7)]
    # The rates are those of the long training: interrupting that at the same step gives the same weights.
    longer = line()
    with pytest.raises(Kill):
        fit(longer, RecordingStream(), TRAINING, open_run(tmp_path / "d"), 0, progress=kill_at(6))
    assert same(short, longer)


def test_of_equal_scores_the_earliest_counts(tmp_path: Path) -> None:
    score, _ = scores(0.5, 0.5, 0.5, 0.5)
    assert int(train_line(tmp_path / "run", validation=Validation(score, every=3, patience=9)).count) == 3


@pytest.mark.parametrize("at", [5, 8, 9])
def test_early_stopping_survives_an_interruption(at: int, tmp_path: Path) -> None:
    def improving_until(step: int) -> Validation:
        return Validation(lambda: -abs(float(int(current[0].count) - step)), every=2, patience=2)

    current = [line()]
    fit(current[0], RecordingStream(), TRAINING, open_run(tmp_path / "whole"), 0, validation=improving_until(6))
    whole = current[0]
    current[0] = line()
    with pytest.raises(Kill):
        fit(
            current[0],
            RecordingStream(),
            TRAINING,
            open_run(tmp_path / "parts"),
            0,
            validation=improving_until(6),
            progress=kill_at(at),
        )
    current[0] = line(seed=99)
    fit(current[0], RecordingStream(), TRAINING, open_run(tmp_path / "parts"), 0, validation=improving_until(6))
    assert same(whole, current[0])
    assert int(whole.count) == 6


def test_learner_is_ready_to_evaluate_afterwards(tmp_path: Path) -> None:
    assert not train_line(tmp_path / "run").training


def test_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    learner = line(poison_at=6)
    run = open_run(tmp_path / "run")
    with pytest.raises(NonFiniteLossError, match=r"the loss is nan .* at step 6 .* try a lower learning rate"):
        fit(learner, RecordingStream(), TRAINING, run, 0)
    assert bool(learner.layer.weight.isfinite().all())
    healed, stream = line(), RecordingStream()
    fit(healed, stream, TRAINING, run, 0)
    assert stream.steps[0] == 4
    assert same(healed, train_line(tmp_path / "whole"))


def test_damaged_checkpoint_is_refused_in_one_sentence(tmp_path: Path) -> None:
    train_line(tmp_path / "run")
    run = open_run(tmp_path / "run")
    run.checkpoint.write_bytes(run.checkpoint.read_bytes()[:50])
    with pytest.raises(FormatError, match=r"checkpoint is unreadable .* delete it to start anew"):
        fit(line(), RecordingStream(), TRAINING, run, 0)


def test_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    train_line(tmp_path / "run")
    other = line()
    other.more = nn.Linear(1, 1)
    with pytest.raises(FormatError, match="expected weights of this model; give another --out"):
        fit(other, RecordingStream(), TRAINING, open_run(tmp_path / "run"), 0)


def test_checkpoint_of_a_training_of_other_parameters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Kill):
        train_line(tmp_path / "run", progress=kill_at(9))
    other = line()
    next(other.parameters()).requires_grad_(False)
    with pytest.raises(FormatError, match="expected the state of this training; give another --out"):
        fit(other, RecordingStream(), TRAINING, open_run(tmp_path / "run"), 0)


def test_log_holds_steps_losses_and_resumption(tmp_path: Path) -> None:
    with pytest.raises(Kill):
        train_line(tmp_path / "run", progress=kill_at(9))
    train_line(tmp_path / "run")
    entries = log_entries(tmp_path / "run")
    assert [entry["step"] for entry in entries if "loss" in entry] == [10, 12]
    assert [entry["step"] for entry in entries if entry.get("event") == "resumed"] == [8]


def test_frozen_parameters_stay_as_they_are(tmp_path: Path) -> None:
    learner = line()
    learner.layer.bias.requires_grad_(False)
    before = learner.layer.bias.clone()
    fit(learner, RecordingStream(), TRAINING, open_run(tmp_path / "run"), 0)
    assert torch.equal(learner.layer.bias, before)


def test_step_generators_of_neighboring_steps_and_seeds_are_uncorrelated() -> None:
    draws = [torch.rand(2000, generator=step_generator(seed, step)) for seed in (0, 1) for step in (0, 1, 2)]
    correlation = torch.corrcoef(torch.stack(draws)) - torch.eye(6)
    assert float(correlation.abs().max()) < 0.1

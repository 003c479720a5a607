"""The one training loop: repetition, seeds, progress, logging, checkpoints, resume, precision and devices.

A method hands over a *learner*: a module whose ``forward(batch, generator)`` gives a dictionary of losses (the entry
``loss`` is descended, the others are logged) and whose state dict holds everything that a resumed run needs. This
room knows nothing of cryo-ET.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, distributed, nn

from tomosift.errors import NonFiniteLossError
from tomosift.rng import ShardGenerator
from tomosift.train.checkpoint import load_checkpoint, save_checkpoint
from tomosift.train.processes import join_processes, launched_processes, run_on_first
from tomosift.train.run import Run

_MAX_NORM = 5.0  # longer gradients are shortened to this; a guard for the first steps, rarely felt later

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@runtime_checkable
class Stream(Protocol):
    """Batches as a pure function of the step."""

    def batch(self, step: int) -> Any:
        """The batch of this step."""
        ...


@dataclass(frozen=True)
class Training:
    """How long and how fast to train; part of every method's configuration."""

    steps: int = 300
    """Number of optimizer steps."""
    batch_size: int = 48
    """Boxes per step, over all devices."""
    learning_rate: float = 1e-3
    """Peak learning rate; warmed up linearly, then a half cosine down to zero."""
    weight_decay: float = 1e-4
    """Decoupled weight decay (AdamW)."""
    warmup: float = 0.05
    """Share of the steps spent warming up."""
    checkpoint_every: int = 50
    """Steps between checkpoints."""
    precision: Precision = "32-true"
    """bf16-mixed and 16-mixed are for GPUs; CPUs without bfloat16 units run them a hundred times slower."""
    devices: int = 1
    """Processes of each machine, one for each GPU where it has some; torchrun and srun say it themselves."""
    nodes: int = 1
    """Machines; torchrun and srun, which start the processes on them, say it themselves."""

    @property
    def processes(self) -> int:
        """How many train together."""
        return self.devices * self.nodes

    def check(self) -> None:
        """Refuse counts that make no sense.

        Raises
        ------
        ValueError
            When steps, batch size, devices, nodes or the checkpoint interval are below 1, or processes would get parts
            of a batch that differ in size.
        """
        for name in ("steps", "batch_size", "checkpoint_every", "devices", "nodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate is {self.learning_rate}, expected more than 0")
        if self.batch_size % self.processes:
            raise ValueError(f"batch_size is {self.batch_size}, expected a multiple of {self.processes} processes")

    def as_launched(self) -> "Training":
        """The same, by as many processes as torchrun or srun has started, if one of them has.

        Raises
        ------
        ValueError
            When nodes have different numbers of processes.
        """
        devices, nodes = launched_processes() or (self.devices, self.nodes)
        return replace(self, devices=devices, nodes=nodes)


@dataclass(frozen=True)
class Validation:
    """Early stopping: ``score()`` is called every so many steps, higher is better, the best weights are kept."""

    score: Callable[[], float]
    every: int
    patience: int
    """Stop after this many scores without a new best one."""


Progress = Callable[[int, int, dict[str, float]], None]
"""Called after each step with the steps done, the steps in all and the newest losses; other numbers, or none, where the
steps are not those of an optimizer."""


def step_generator(seed: int, step: int, rank: int = 0, count: int = 1) -> torch.Generator:
    """The randomness of one step, a function of (seed, step) alone: that of a particle is the same in any process."""
    generator = ShardGenerator()
    generator.rank, generator.count = rank, count
    return generator.manual_seed(_mixed(seed, step))


def _mixed(seed: int, step: int) -> int:
    # Neighbouring seeds of one generator are correlated in their first numbers; a fixed odd multiplier spreads them.
    return ((seed * 1_000_003 + step + 1) * 0x9E3779B97F4A7C15) % (2**63)


def learning_rate_share(step: int, steps: int, warmup: float) -> float:
    """Share of the peak rate at a step: linear warm-up, then half a cosine."""
    warm = max(1, round(warmup * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 + 0.5 * math.cos(math.pi * (step - warm) / max(1, steps - warm))


def fit(
    learner: nn.Module,
    stream: Stream,
    training: Training,
    run: Run,
    seed: int,
    *,
    validation: Validation | None = None,
    parameter_groups: list[dict[str, Any]] | None = None,
    last_step: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Train in place; afterwards the learner holds the final (or, with validation, the best) weights.

    Starts from the run's checkpoint where there is one: on the same machine the resumed run ends in the same weights
    as one that was never interrupted.

    Returns
    -------
    int
        Number of steps behind the weights that the learner holds.

    Parameters
    ----------
    last_step
        End after so many steps, at learning rates as if all steps of ``training`` were to come.
    parameter_groups
        Groups for AdamW, each with its own ``lr`` if wanted; all trainable parameters at the one rate without it.

    Raises
    ------
    NonFiniteLossError
        At the first loss or gradient norm that is NaN or infinite; the last checkpoint is left as it was.
    ValueError
        When several processes are asked for and the learner normalizes over the batch, or they do not see one and the
        same checkpoint.
    """
    fabric = join_processes(training.devices, training.nodes, training.precision)
    rank, count = fabric.global_rank, fabric.world_size
    groups = parameter_groups or [{"params": [p for p in learner.parameters() if p.requires_grad]}]
    optimizer = torch.optim.AdamW(groups, lr=training.learning_rate, weight_decay=training.weight_decay)
    peaks = [group["lr"] for group in optimizer.param_groups]
    done = load_checkpoint(run.checkpoint, learner, optimizer)
    if count > 1:
        _check_together(learner, done.step, run)
    model, optimizer = fabric.setup(learner, optimizer)
    best = done.best_weights
    history = list(done.scores)
    step, started = done.step, time.monotonic()
    if step:
        run.log(event="resumed", step=step)

    def stopped() -> bool:
        return validation is not None and bool(history) and len(history) - 1 - _best(history) >= validation.patience

    end = training.steps if last_step is None else min(last_step, training.steps)
    while step < end and not stopped():
        learner.train()
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * learning_rate_share(step, training.steps, training.warmup)
        # Layers that draw from the global generator (dropout) are tied to the step as well.
        torch.manual_seed(_mixed(seed, step))
        batch = stream.batch(step).shard(rank, count).to(fabric.device)
        losses: dict[str, Tensor] = model(batch, step_generator(seed, step, rank, count))
        fabric.backward(losses["loss"])
        norm = fabric.clip_gradients(model, optimizer, max_norm=_MAX_NORM, error_if_nonfinite=False)
        numbers = {name: float(value.detach()) for name, value in losses.items()}
        if count > 1:
            numbers = _averaged(numbers, fabric.device)
        loss, length = numbers["loss"], float("nan") if norm is None else float(norm)
        if not (math.isfinite(loss) and math.isfinite(length)):
            raise NonFiniteLossError(
                f"the loss is {loss} and the gradient norm {length} at step {step} of {run.folder}; the last "
                "checkpoint is intact: try a lower learning rate or precision 32-true"
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 10 == 0 or step == end:
            run.log(
                step=step, **{k: round(v, 5) for k, v in numbers.items()}, seconds=round(time.monotonic() - started, 2)
            )
        if validation is not None and (step % validation.every == 0 or step == end):
            learner.eval()
            score = validation.score()  # in every process, for what it does to the learner; that of the first counts
            history.append(run_on_first(partial(float, score)))
            run.log(step=step, validation=round(history[-1], 5))
            if _best(history) == len(history) - 1:
                best = {name: value.detach().clone() for name, value in learner.state_dict().items()}
        if progress is not None:
            progress(step, end, numbers)
        if rank == 0 and (step % training.checkpoint_every == 0 or step == end or stopped()):
            save_checkpoint(run.checkpoint, learner, optimizer, step, history, best)
    if validation is not None and best is not None:
        learner.load_state_dict(best)
        step = min((_best(history) + 1) * validation.every, end)
    learner.eval()
    return step


def _averaged(numbers: dict[str, float], device: torch.device) -> dict[str, float]:
    """Means over all processes."""
    total = torch.tensor(list(numbers.values()), dtype=torch.float32, device=device)
    distributed.all_reduce(total)
    return dict(zip(numbers, (total / distributed.get_world_size()).tolist(), strict=True))


def _check_together(learner: nn.Module, step: int, run: Run) -> None:
    """Refuse what several processes would do in silence otherwise than one."""
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in learner.modules()):
        raise ValueError(
            "the network has batch normalization, whose statistics processes do not share; train it in one process, or "
            "take another encoder"
        )
    if run_on_first(lambda: step) != step:
        raise ValueError(
            f"processes see different checkpoints in {run.folder}; put it where all nodes see the same files"
        )


def _best(history: list[float]) -> int:
    """Index of the best score; the earliest of equals."""
    return max(range(len(history)), key=lambda k: (history[k], -k))

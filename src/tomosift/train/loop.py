"""The one training loop: repetition, seeds, progress, logging, checkpoints, resume, precision and devices.

A method hands over a *learner*: a module whose ``forward(batch, generator)`` gives a dictionary of losses (the entry
``loss`` is descended, the others are logged) and whose state dict holds everything that a resumed run needs. This
room knows nothing of cryo-ET.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from tomosift.errors import NonFiniteLossError
from tomosift.train.checkpoint import load_checkpoint, save_checkpoint
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
    """Processes or GPUs on this machine."""

    def check(self) -> None:
        """Refuse counts that make no sense.

        Raises
        ------
        ValueError
            When steps, batch size, devices or the checkpoint interval are below 1.
        """
        for name in ("steps", "batch_size", "checkpoint_every", "devices"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate is {self.learning_rate}, expected more than 0")


@dataclass(frozen=True)
class Validation:
    """Early stopping: ``score()`` is called every so many steps, higher is better, the best weights are kept."""

    score: Callable[[], float]
    every: int
    patience: int
    """Stop after this many scores without a new best one."""


Progress = Callable[[int, int, dict[str, float]], None]
"""Called after each step with the steps done, the steps in all and the newest losses."""


def step_generator(seed: int, step: int) -> torch.Generator:
    """The randomness of one step, a function of (seed, step) alone."""
    return torch.Generator().manual_seed(_mixed(seed, step))


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
    """
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator="auto", devices=training.devices, precision=training.precision)
    if training.devices > 1:
        fabric.launch()
    groups = parameter_groups or [{"params": [p for p in learner.parameters() if p.requires_grad]}]
    optimizer = torch.optim.AdamW(groups, lr=training.learning_rate, weight_decay=training.weight_decay)
    peaks = [group["lr"] for group in optimizer.param_groups]
    done = load_checkpoint(run.checkpoint, learner, optimizer)
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
        batch = stream.batch(step).shard(fabric.global_rank, fabric.world_size).to(fabric.device)
        losses: dict[str, Tensor] = model(batch, step_generator(seed + 7919 * fabric.global_rank, step))
        fabric.backward(losses["loss"])
        norm = fabric.clip_gradients(model, optimizer, max_norm=_MAX_NORM, error_if_nonfinite=False)
        numbers = {name: float(value.detach()) for name, value in losses.items()}
        loss, length = numbers["loss"], float("nan") if norm is None else float(norm)
        if not (math.isfinite(loss) and math.isfinite(length)):
            raise NonFiniteLossError(
                f"the loss is {loss} and the gradient norm {length} at step {step} of {run.folder}; the last "
                "checkpoint is intact: try a lower learning rate or precision 32-true"
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if fabric.global_rank == 0 and (step % 10 == 0 or step == end):
            run.log(
                step=step, **{k: round(v, 5) for k, v in numbers.items()}, seconds=round(time.monotonic() - started, 2)
            )
        if validation is not None and (step % validation.every == 0 or step == end):
            learner.eval()
            history.append(validation.score())
            run.log(step=step, validation=round(history[-1], 5))
            if _best(history) == len(history) - 1:
                best = {name: value.detach().clone() for name, value in learner.state_dict().items()}
        if progress is not None:
            progress(step, end, numbers)
        if fabric.global_rank == 0 and (step % training.checkpoint_every == 0 or step == end or stopped()):
            save_checkpoint(run.checkpoint, learner, optimizer, step, history, best)
    if validation is not None and best is not None:
        learner.load_state_dict(best)
        step = min((_best(history) + 1) * validation.every, end)
    learner.eval()
    return step


def _best(history: list[float]) -> int:
    """Index of the best score; the earliest of equals."""
    return max(range(len(history)), key=lambda k: (history[k], -k))

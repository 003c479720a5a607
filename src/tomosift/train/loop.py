"""The training loop: repetition, seeds, progress, logging, checkpoints, resuming, precision and devices.

A method provides a *learner*: a module whose ``forward(batch, generator)`` returns a dictionary of losses. The entry
``loss`` is minimized, the others are logged. Its state dict holds everything that a resumed run needs. The loop knows
nothing of cryo-ET.
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
from tomosift.progress import Progress, ignore_progress
from tomosift.train.checkpoint import load_checkpoint, save_checkpoint
from tomosift.train.processes import detect_launched_processes, join_processes, run_on_first
from tomosift.train.run import Run
from tomosift.train.schedule import learning_rate_share, mix_seed, step_generator

_MAX_NORM = 5.0  # longer gradients are clipped to this norm, which matters in the first steps only
_STEPS_PER_LOG_LINE = 10

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@runtime_checkable
class Stream(Protocol):
    """Batches as a pure function of the step."""

    def batch(self, step: int) -> Any:
        """Return the batch of this step."""
        ...


@dataclass(frozen=True)
class Training:
    """Number of steps, learning rate, precision and devices; part of every method's configuration."""

    steps: int = 300
    """Number of optimizer steps."""
    batch_size: int = 48
    """Subtomograms per step, over all devices."""
    learning_rate: float = 1e-3
    """Peak learning rate, after a linear warm-up; half a cosine then takes it down to zero."""
    weight_decay: float = 1e-4
    """Decoupled weight decay (AdamW)."""
    warmup: float = 0.05
    """Share of the steps in the warm-up."""
    checkpoint_every: int = 50
    """Steps between checkpoints."""
    precision: Precision = "32-true"
    """bf16-mixed and 16-mixed are for GPUs; CPUs without bfloat16 units run them a hundred times slower."""
    devices: int = 1
    """Processes per machine, one for each GPU if it has GPUs; torchrun and srun set this number themselves."""
    nodes: int = 1
    """Number of machines; torchrun and srun, which start the processes there, set this number themselves."""

    @property
    def processes(self) -> int:
        """Number of processes that train together."""
        return self.devices * self.nodes

    def check(self) -> None:
        """Raise ValueError for impossible settings.

        Raises
        ------
        ValueError
            When steps, batch size, devices, nodes or the checkpoint interval are below 1, the learning rate is not
            positive, or the batch size is no multiple of the number of processes.
        """
        for name in ("steps", "batch_size", "checkpoint_every", "devices", "nodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate is {self.learning_rate}, expected more than 0")
        if self.batch_size % self.processes:
            raise ValueError(f"batch_size is {self.batch_size}, expected a multiple of {self.processes} processes")

    def match_launcher(self) -> "Training":
        """Return the same settings with the devices and nodes of torchrun or srun, if one of them started this process.

        Raises
        ------
        ValueError
            When nodes have different numbers of processes.
        """
        devices, nodes = detect_launched_processes() or (self.devices, self.nodes)
        return replace(self, devices=devices, nodes=nodes)


@dataclass(frozen=True)
class Validation:
    """Early stopping: the weights with the highest score are kept."""

    score: Callable[[], float]
    """Higher is better."""
    every: int
    """Steps between two scores."""
    patience: int
    """Stop after this many scores without a new best one."""


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
    """Train a learner in place; return the number of steps behind the weights that it then holds.

    These are the final weights or, with validation, the best ones. Training starts from the checkpoint of the run, if
    there is one. On the same machine, a resumed run ends in the same weights as an uninterrupted one.

    Parameters
    ----------
    learner
        ``forward(batch, generator)`` returns a dictionary of scalar losses with the entry ``loss``.
    stream
        Batches; each must have ``to(device)`` and ``shard(rank, count)``.
    training
        Number of steps, learning rate, precision and devices.
    run
        Folder for the log and the checkpoint.
    seed
        Determines all random numbers of the training, together with the step.
    validation
        Early stopping; without it, all steps are done and the final weights are kept.
    parameter_groups
        Groups for AdamW, each with an optional ``lr`` of its own. By default one group holds all trainable parameters.
    last_step
        End after this many steps, at the learning rates of a training that does all steps of ``training``.
    progress
        Called after each step; the note is the loss.

    Raises
    ------
    NonFiniteLossError
        At the first loss or gradient norm that is NaN or infinite. The last checkpoint is left intact.
    ValueError
        With several processes, when the learner has batch normalization or the processes see different checkpoints.
    """
    trainer = _Trainer.start(learner, training, run, seed, validation, parameter_groups)
    report = progress or ignore_progress
    end = training.steps if last_step is None else min(last_step, training.steps)
    while trainer.step < end and not trainer.is_stopped:
        losses = trainer.descend(stream)
        is_last = trainer.step == end
        if is_last or trainer.step % _STEPS_PER_LOG_LINE == 0:
            trainer.log(losses)
        if validation is not None and (is_last or trainer.step % validation.every == 0):
            trainer.validate(validation)
        report(trainer.step, end, f"loss {losses['loss']:.3f}")
        if is_last or trainer.is_stopped or trainer.step % training.checkpoint_every == 0:
            trainer.save()
    return trainer.finish(end)


@dataclass
class _Trainer:
    """A training between its steps: what `fit` does, one method per part."""

    learner: nn.Module
    model: Any
    """The learner as Fabric wraps it."""
    optimizer: Any
    fabric: Any
    training: Training
    run: Run
    seed: int
    validation: Validation | None
    peaks: list[float]
    """Peak learning rate of each parameter group."""
    step: int
    scores: list[float]
    best_weights: dict[str, Tensor] | None
    started: float

    @classmethod
    def start(
        cls,
        learner: nn.Module,
        training: Training,
        run: Run,
        seed: int,
        validation: Validation | None,
        parameter_groups: list[dict[str, Any]] | None,
    ) -> "_Trainer":
        """Create the optimizer and load the checkpoint, if there is one."""
        fabric = join_processes(training.devices, training.nodes, training.precision)
        groups = parameter_groups or [{"params": [p for p in learner.parameters() if p.requires_grad]}]
        optimizer = torch.optim.AdamW(groups, lr=training.learning_rate, weight_decay=training.weight_decay)
        peaks = [group["lr"] for group in optimizer.param_groups]
        resume = load_checkpoint(run.checkpoint, learner, optimizer)
        if fabric.world_size > 1:
            _check_distributed(learner, resume.step, run)
        model, optimizer = fabric.setup(learner, optimizer)
        if resume.step:
            run.log(event="resumed", step=resume.step)
        state = (resume.step, list(resume.scores), resume.best_weights, time.monotonic())
        return cls(learner, model, optimizer, fabric, training, run, seed, validation, peaks, *state)

    @property
    def is_stopped(self) -> bool:
        """Whether early stopping has ended the training."""
        if self.validation is None or not self.scores:
            return False
        return len(self.scores) - 1 - _best_index(self.scores) >= self.validation.patience

    def descend(self, stream: Stream) -> dict[str, float]:
        """Do one optimizer step; return the losses, averaged over all processes."""
        rank, count = self.fabric.global_rank, self.fabric.world_size
        self.learner.train()
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * learning_rate_share(self.step, self.training.steps, self.training.warmup)
        # Layers that draw from the global generator (dropout) are tied to the step as well.
        torch.manual_seed(mix_seed(self.seed, self.step))
        batch = stream.batch(self.step).shard(rank, count).to(self.fabric.device)
        outputs: dict[str, Tensor] = self.model(batch, step_generator(self.seed, self.step, rank, count))
        self.fabric.backward(outputs["loss"])
        norm = self.fabric.clip_gradients(self.model, self.optimizer, max_norm=_MAX_NORM, error_if_nonfinite=False)
        losses = {name: float(value.detach()) for name, value in outputs.items()}
        if count > 1:
            losses = _average_over_processes(losses, self.fabric.device)
        self._require_finite(losses["loss"], float("nan") if norm is None else float(norm))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return losses

    def _require_finite(self, loss: float, norm: float) -> None:
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise NonFiniteLossError(
                f"the loss is {loss} and the gradient norm {norm} at step {self.step} of {self.run.folder}; the last "
                "checkpoint is intact: try a lower learning rate or precision 32-true"
            )

    def log(self, losses: dict[str, float]) -> None:
        """Write step, losses and elapsed seconds to the log of the run."""
        seconds = round(time.monotonic() - self.started, 2)
        self.run.log(step=self.step, **{name: round(value, 5) for name, value in losses.items()}, seconds=seconds)

    def validate(self, validation: Validation) -> None:
        """Compute the validation score; remember the weights, if it is the best one."""
        self.learner.eval()
        score = validation.score()  # in every process, as it may change the learner; that of the first one counts
        self.scores.append(run_on_first(partial(float, score)))
        self.run.log(step=self.step, validation=round(self.scores[-1], 5))
        if _best_index(self.scores) == len(self.scores) - 1:
            self.best_weights = {name: value.detach().clone() for name, value in self.learner.state_dict().items()}

    def save(self) -> None:
        """Replace the checkpoint, in the first process alone."""
        if self.fabric.global_rank == 0:
            state = (self.step, self.scores, self.best_weights)
            save_checkpoint(self.run.checkpoint, self.learner, self.optimizer, *state)

    def finish(self, end: int) -> int:
        """Load the best weights, if there was validation; return the number of steps behind the weights."""
        step = self.step
        if self.validation is not None and self.best_weights is not None:
            self.learner.load_state_dict(self.best_weights)
            step = min((_best_index(self.scores) + 1) * self.validation.every, end)
        self.learner.eval()
        return step


def _average_over_processes(losses: dict[str, float], device: torch.device) -> dict[str, float]:
    total = torch.tensor(list(losses.values()), dtype=torch.float32, device=device)
    distributed.all_reduce(total)
    return dict(zip(losses, (total / distributed.get_world_size()).tolist(), strict=True))


def _check_distributed(learner: nn.Module, step: int, run: Run) -> None:
    """Refuse what would silently give other results in several processes than in one."""
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in learner.modules()):
        raise ValueError(
            "the network has batch normalization, whose statistics processes do not share; train it in one process, or "
            "choose another encoder"
        )
    if run_on_first(lambda: step) != step:
        raise ValueError(
            f"processes see different checkpoints in {run.folder}; put it where all nodes see the same files"
        )


def _best_index(scores: list[float]) -> int:
    """Return the index of the best score; the earliest of equals."""
    return max(range(len(scores)), key=lambda k: (scores[k], -k))

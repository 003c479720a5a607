"""Checkpoints: one safetensors file with the learner, its optimizer, the step and the best weights so far."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from tomosift.errors import FormatError
from tomosift.files import written_then_renamed


@dataclass(frozen=True)
class ResumePoint:
    """Where a run continues; a new run starts at step 0."""

    step: int = 0
    """Optimizer steps done."""
    scores: tuple[float, ...] = ()
    """Validation scores so far."""
    best_weights: dict[str, Tensor] | None = field(default=None)
    """State dict behind the best score; None without validation."""


def save_checkpoint(
    path: Path,
    learner: nn.Module,
    optimizer: Any,
    step: int,
    scores: list[float],
    best_weights: dict[str, Tensor] | None,
) -> None:
    """Replace the checkpoint; a kill at any moment leaves either the old file or the new one."""
    tensors = {f"learner/{name}": value for name, value in learner.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in (best_weights or {}).items()}
    state = optimizer.state_dict()
    for index, entries in state["state"].items():
        tensors |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in entries.items()}
    header = {"step": str(step), "scores": json.dumps(scores), "groups": json.dumps(state["param_groups"])}
    with written_then_renamed(path) as temporary:
        # Clones, because safetensors refuses tensors that share memory.
        plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        temporary.write_bytes(save(plain, metadata=header))


def load_checkpoint(path: Path, learner: nn.Module, optimizer: torch.optim.Optimizer) -> ResumePoint:
    """Load a checkpoint into the learner and the optimizer, both in place; without a file nothing changes.

    Raises
    ------
    FormatError
        When the file is damaged, or belongs to another model or another training.
    """
    if not path.exists():
        return ResumePoint()
    try:
        with safe_open(path, framework="pt") as stream:
            header = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118, it is no mapping
        step, scores = int(header["step"]), tuple(json.loads(header["scores"]))
        groups = json.loads(header["groups"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise FormatError(
            path, "checkpoint", f"unreadable ({error})", "a checkpoint", "delete it to start anew"
        ) from None
    try:
        learner.load_state_dict(_select_prefix(tensors, "learner/"))
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise FormatError(path, "weights", first, "weights of this model", "give another --out") from None
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _select_prefix(tensors, "optimizer/").items():
        index, entry = name.split("/", 1)
        state.setdefault(int(index), {})[entry] = value
    try:
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except ValueError as error:
        advice = "give another --out, or continue with the version of tomosift that began this run"
        raise FormatError(path, "optimizer", str(error), "the state of this training", advice) from None
    return ResumePoint(step, scores, _select_prefix(tensors, "best/") or None)


def _select_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

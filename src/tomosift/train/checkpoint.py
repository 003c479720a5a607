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
class Resumed:
    """Where a run stands; a fresh run stands at step 0."""

    step: int = 0
    scores: tuple[float, ...] = ()
    best_weights: dict[str, Tensor] | None = field(default=None)


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


def load_checkpoint(path: Path, learner: nn.Module, optimizer: torch.optim.Optimizer) -> Resumed:
    """Put the checkpoint's state into learner and optimizer; without a file nothing changes.

    Raises
    ------
    FormatError
        When the file is damaged or belongs to another model or training.
    """
    if not path.exists():
        return Resumed()
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
        learner.load_state_dict(_part(tensors, "learner/"))
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise FormatError(path, "weights", first, "weights of this model", "give another --out") from None
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _part(tensors, "optimizer/").items():
        index, entry = name.split("/", 1)
        state.setdefault(int(index), {})[entry] = value
    try:
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except ValueError as error:
        advice = "give another --out, or go on with the version of tomosift that began"
        raise FormatError(path, "optimizer", str(error), "the state of this training", advice) from None
    return Resumed(step, scores, _part(tensors, "best/") or None)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

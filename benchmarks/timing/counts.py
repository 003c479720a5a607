"""Floating-point operations of a piece of work, and the share of time that they take.

Matrix products and convolutions count two operations per multiplication (`torch.utils.flop_counter`). Fourier
transforms count 5 n log2 n per complex transform of n numbers and half of that per real one, as is common. All other
operations count zero.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from timing.clock import Work

_FFT = ("_fft_r2c", "_fft_c2r", "_fft_c2c")
_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward")


@dataclass(frozen=True)
class Counts:
    """GFLOP of one call."""

    matrix: float
    """Of matrix products and convolutions, their gradients included."""
    fft: float


def _transform(shape: Any, dims: Any, real: bool) -> int:
    lengths = [shape[dim] for dim in dims]
    points = math.prod(lengths)
    whole = 5 * math.prod(shape) * math.log2(max(points, 2))
    return round(whole / 2 if real else whole)


def _forward(shape: Any, dims: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return _transform(shape, dims, True)


def _backward(shape: Any, dims: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return _transform(out_shape, dims, True)


def _complex(shape: Any, dims: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return _transform(shape, dims, False)


def count_operations(work: Work) -> Counts:
    """Count the operations of one call."""
    ops = torch.ops.aten
    mapping: dict[Any, Any] = {ops._fft_r2c: _forward, ops._fft_c2r: _backward, ops._fft_c2c: _complex}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        work()
    by_operation = counter.get_flop_counts().get("Global", {})
    fft = sum(flops for name, flops in by_operation.items() if any(part in str(name) for part in _FFT))
    total = sum(by_operation.values())
    return Counts((total - fft) / 1e9, fft / 1e9)


def measure_time_shares(work: Work) -> dict[str, float]:
    """Return the shares of transforms and matrix products in the processor time of one call, after a first one."""
    work()
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        work()
    events = profiler.key_averages()
    whole = sum(event.self_cpu_time_total for event in events)

    def share(names: tuple[str, ...]) -> float:
        keys = {f"aten::{name}" for name in names}
        return float(sum(event.cpu_time_total for event in events if event.key in keys) / max(whole, 1))

    # Of a convolution, forward or backward, the outermost operation is taken.
    return {"fft": share(_FFT), "matrix": share(_PRODUCTS)}

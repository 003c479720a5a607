"""Seconds per pretraining step and what they are spent on, boxes classified per second, and simulated against learned.

    ./dev bench speed [--box-size 32] [--batch-size 96] [--threads 2]

Times are processor-bound medians of one process; the share of augmentation in a step is measured within one run.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from statistics import median
from typing import Annotated

import torch
import tyro

from tomosift.data.batches import Batch
from tomosift.methods.contrastive import Config, Learner
from tomosift.methods.metric import Config as Metric
from tomosift.methods.metric import Learner as MetricLearner
from tomosift.nn.encoders import ENCODERS, build_encoder
from tomosift.physics.augmentation import normalized
from tomosift.simulate.stream import ComplexStream


@dataclass(frozen=True)
class Options:
    """What to time."""

    encoders: tuple[str, ...] = ("radial", "residual")
    box_size: int = 32
    batch_size: int = 96
    threads: int = 2
    repeats: int = 5


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median wall time of a call, after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return median(times)


def simulated_per_second(options: Options) -> float:
    """Boxes of complexes that do not exist, four of each, as the method `metric` has them simulated."""
    torch.set_num_threads(1)
    stream = ComplexStream(options.batch_size // 4, 4, 0, options.box_size)
    stream.batch(0)
    count = options.repeats * options.threads
    started = time.perf_counter()
    with ThreadPoolExecutor(options.threads) as pool:
        list(pool.map(stream.batch, range(count)))
    torch.set_num_threads(options.threads)
    return 4 * stream.classes * count / (time.perf_counter() - started)


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Time and print."""
    torch.set_num_threads(options.threads)
    count, size = options.batch_size, options.box_size
    volume = normalized(torch.randn(count, size, size, size, generator=torch.Generator().manual_seed(0)))
    batch = Batch(
        volume=volume,
        label=torch.full((count,), -1),
        tilt_range_deg=torch.tensor([[-60.0, 60.0]]).repeat(count, 1),
        rotation=torch.full((count, 3, 3), torch.nan),
        index=torch.arange(count),
    )
    generator = torch.Generator().manual_seed(1)
    labeled = replace(batch, label=torch.arange(count) // 4)
    print(f"{count} boxes of {size}^3, {options.threads} threads")
    print(f"simulated: {simulated_per_second(options):.0f} boxes/s, {options.threads} threads side by side")
    for name in options.encoders:
        if name not in ENCODERS:
            raise ValueError(f"encoder is {name!r}, expected one of {', '.join(ENCODERS)}")
        learner = Learner(Config(encoder=name), 10.0, None)
        optimizer = torch.optim.AdamW(learner.parameters())

        def step(learner: Learner = learner, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.zero_grad()
            learner(batch, generator)["loss"].backward()
            optimizer.step()

        def views(learner: Learner = learner) -> None:
            with torch.no_grad():
                learner.two_views(batch, generator)

        def center(learner: Learner = learner) -> None:
            learner.encoder.centered(volume)

        def classify(learner: Learner = learner) -> None:
            with torch.inference_mode():
                learner.encoder(volume)

        whole, sources, centering, forward = (
            seconds(work, options.repeats) for work in (step, views, center, classify)
        )
        augmentation = sources - centering
        metric = MetricLearner(Metric(), build_encoder(name), None)
        improver = torch.optim.AdamW(metric.parameters())

        def learn(metric: MetricLearner = metric, optimizer: torch.optim.Optimizer = improver) -> None:
            optimizer.zero_grad()
            metric(labeled, generator)["loss"].backward()
            optimizer.step()

        learned = count / seconds(learn, options.repeats)
        print(
            f"{name:>10}: step {whole:.3f} s, centering {centering:.3f} s, two views {augmentation:.3f} s "
            f"({100 * augmentation / whole:.0f} %, {500 * augmentation / count:.2f} ms a view), "
            f"{count / forward:.0f} boxes/s classified, metric training on fresh boxes {learned:.0f} boxes/s"
        )


if __name__ == "__main__":
    tyro.cli(main)

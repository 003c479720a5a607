"""Samples per second of every stage, what they are spent on, and which stage is the bottleneck.

    ./dev bench speed [--box-size 32] [--batch-size 96] [--threads 1] [--out FOLDER]

Each stage is timed in turn with a large float32 product of matrices, so that shares of what this processor can multiply
hold on a machine that others use too. The table is printed and, with --out, written as speed.csv and speed.md. Boxes
are white noise, files are in the page cache. Stages that read or write files are timed by the clock on the wall, all
others on one thread by processor time (`timing.clock`).
"""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import tyro
from timing.clock import Timing, Work, in_turn, matrix_product, peak_memory_gb, spread_of
from timing.counts import counted, time_shares
from timing.stages import (
    Extraction,
    Pretraining,
    Reading,
    Stage,
    embedding,
    linear_layers,
    noise_batch,
    noise_set,
    noise_tomogram,
    places,
    scanned,
    seeded,
    supervised_step,
)

from tomosift.malloc import keep_freed_memory
from tomosift.models.descriptors.grid import compute_block_descriptors
from tomosift.simulation.synthetic_stream import SyntheticComplexStream

TOMOGRAM_ZYX = (128, 512, 512)


@dataclass(frozen=True)
class Options:
    """What to time."""

    encoders: tuple[str, ...] = ("radial", "residual")
    """Of pretraining and fine-tuning; inference is timed for `dense` as well."""
    box_size: int = 32
    batch_size: int = 96
    threads: int = 1
    repeats: int = 5
    block: int = 128
    """Edge of the block that is scanned, in voxels."""
    stride: int = 2
    """Voxels between places of the scan."""
    stored: int = 2048
    """Boxes of the set to read from, and particles to extract."""
    out: Path | None = None
    """Folder for the table."""


class Table:
    """Rows that are printed as they come."""

    def __init__(self, options: Options) -> None:
        self.options, self.rows, self.sentences = options, list[dict[str, object]](), list[str]()
        self.product, self.product_gflop = matrix_product()
        self.peaks: list[float] = []

    def together(self, works: dict[str, Work], wall: bool = False) -> dict[str, Timing]:
        """These in turn with the product of matrices, which is called ``peak``."""
        timings = in_turn({**works, "peak": self.product}, self.options.repeats, wall)
        self.peaks += [self.product_gflop / seconds for seconds in timings["peak"].seconds]
        return timings

    def stage(self, stage: Stage) -> Timing:
        """Time a stage and add its row."""
        timings = self.together({"it": stage.work}, stage.wall)
        self.add(stage, timings["it"], timings["peak"])
        return timings["it"]

    def add(self, stage: Stage, timing: Timing, peak: Timing) -> None:
        rate, low, high = timing.per_second(stage.samples)
        row: dict[str, object] = {
            "stage": stage.name,
            "unit": stage.unit,
            "threads": self.options.threads,
            "clock": "wall" if stage.wall or self.options.threads > 1 else "processor",
            "per_second": round(rate, 1),
            "lowest": round(low, 1),
            "highest": round(high, 1),
        }
        if stage.countable:
            counts, shares = counted(stage.work), time_shares(stage.work)
            peak_per_s = [self.product_gflop / seconds for seconds in peak.seconds]
            share = spread_of([counts.matrix / s / p for s, p in zip(timing.seconds, peak_per_s, strict=True)])[0]
            row |= {
                "matrix_gflop_per_s": round(counts.matrix / timing.median, 2),
                "fft_gflop_per_s": round(counts.fft / timing.median, 2),
                "share_of_peak": round(share, 3),
            }
            row |= {"time_in_products": round(shares["matrix"], 3), "time_in_fft": round(shares["fft"], 3)}
        row["peak_memory_gb"] = round(peak_memory_gb(), 2)
        self.rows.append(row)
        print("  ".join(f"{key} {value}" for key, value in row.items() if key not in ("threads", "clock")), flush=True)

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def write(self) -> None:
        """Print the sentences; write everything into the folder that was asked for."""
        print("\n".join(["", *self.sentences]))
        folder = self.options.out
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame(self.rows)
        table.to_csv(folder / "speed.csv", index=False)
        cells = [list(table.columns), ["---"] * len(table.columns)]
        cells += table.astype(object).where(table.notna(), "").astype(str).to_numpy().tolist()
        lines = ["| " + " | ".join(line) + " |" for line in cells]
        (folder / "speed.md").write_text("\n".join([*lines, "", *(f"- {one}" for one in self.sentences), ""]))


def share_of(part: Timing, whole: Timing) -> float:
    """Percent, median over rounds."""
    return 100 * part.over(whole)[0]


def less(one: Timing, *others: Timing) -> Timing:
    """What is left of each round."""
    rounds = zip(*(timing.seconds for timing in (one, *others)), strict=True)
    return Timing(tuple(max(first - sum(rest), 1e-9) for first, *rest in rounds))


def files(table: Table, folder: Path) -> Timing:
    """Extraction and reading; gives the time of a batch read."""
    options = table.options
    size, count = options.box_size, options.stored
    tomogram = noise_tomogram(folder, TOMOGRAM_ZYX)
    voxel = places(TOMOGRAM_ZYX, size, count).astype(np.float64)
    for workers in dict.fromkeys((1, 2, options.threads)):
        on_voxels = Extraction(tomogram, voxel, size, folder / "on-voxels", workers)
        between = Extraction(tomogram, voxel[: count // 4] + 0.3, size, folder / "between", workers)
        plural = "s" * (workers > 1)
        name = f"extract on voxels, {workers} worker{plural}"
        table.stage(Stage(name, count, on_voxels, wall=True, countable=False))
        name = f"extract between voxels, {workers} worker{plural}"
        table.stage(Stage(name, count // 4, between, wall=True, countable=False))
    reading = Reading(noise_set(folder / "set", count, size), options.batch_size)
    return table.stage(Stage("read", options.batch_size, reading, wall=True, countable=False))


def simulation(table: Table) -> None:
    """Boxes of complexes that do not exist, four of each, as the method `metric` has them simulated."""
    options = table.options
    stream = SyntheticComplexStream(options.batch_size // 4, 4, 0, options.box_size)
    steps = iter(range(10**6))

    def work() -> None:
        if options.threads == 1:
            stream.batch(next(steps))
            return
        torch.set_num_threads(1)
        with ThreadPoolExecutor(options.threads) as pool:
            list(pool.map(stream.batch, [next(steps) for _ in range(options.threads)]))
        torch.set_num_threads(options.threads)

    table.stage(Stage("simulate", 4 * stream.classes * options.threads, work, countable=options.threads == 1))


def training(table: Table, name: str, read: Timing) -> None:
    """Steps of pretraining with their parts, and of fine-tuning."""
    count = table.options.batch_size
    batch = noise_batch(count, table.options.box_size)
    pretraining = Pretraining(name, batch)
    convolutions = pretraining.bare_convolutions()
    works: dict[str, Work] = {"step": pretraining.step, "views": pretraining.views, "inputs": pretraining.inputs}
    if pretraining.learner.encoder.centers:
        works["centers"] = pretraining.centers
    if name != "radial":
        works["convolutions"] = convolutions
    timings = table.together(works)
    step, peak = timings["step"], timings["peak"]
    views = timings["views"]
    learning = less(step, views, timings["inputs"])
    table.add(Stage(f"pretraining step, {name}", count, pretraining.step), step, peak)
    if "centers" in timings:
        centers = timings["centers"]
        table.add(Stage(f"search for middles, {name}", count, pretraining.centers), centers, peak)
        table.say(
            f"Where {name} meets a box for the first time it looks for its middle as well, which adds "
            f"{share_of(centers, step):.0f} % to a step."
        )
    table.add(Stage(f"augment, views for {name}", 2 * count, pretraining.views, "views"), views, peak)
    parts = {
        "augmentation": share_of(views, step),
        "descriptors" if pretraining.learner.encoder.has_fixed_part else "masks": share_of(timings["inputs"], step),
        "network, loss and optimizer": share_of(learning, step),
    }
    most = max(parts, key=parts.__getitem__)
    told = ", ".join(f"{part} {percent:.0f} %" for part, percent in parts.items())
    table.say(f"Pretraining of {name} waits for {most}: {parts[most]:.0f} % of a step ({told}).")
    table.say(
        f"A batch is read in {1000 * read.median:.0f} ms, a step of {name} takes {1000 * step.median:.0f} ms: "
        f"reading is {'not ' if read.median < step.median else ''}the bottleneck."
    )
    if name != "radial":
        bare = timings["convolutions"]
        table.add(Stage(f"bare convolutions, {name}", count, convolutions), bare, peak)
        middle, low, high = (100 * value for value in bare.over(step))
        table.say(
            f"Pretraining of {name} runs at {middle:.0f} % ({low:.0f} to {high:.0f}) of the throughput of its bare "
            f"convolutions, forward and backward; of what follows the views they are "
            f"{share_of(bare, less(step, views)):.0f} %."
        )
    table.stage(Stage(f"supervised step, {name}", count, supervised_step(name, batch)))


def inference(table: Table, name: str) -> None:
    """Embeddings, and for encoders of descriptors the network alone."""
    encoder, count = seeded(name), 64
    batch = noise_batch(count, table.options.box_size)
    embed = embedding(encoder, batch.volume)
    if not encoder.has_fixed_part:
        table.stage(Stage(f"embed, {name}", count, embed))
        return
    with torch.no_grad():
        inputs = encoder.inputs(batch.volume, True)
    layers = linear_layers(encoder, inputs)
    works: dict[str, Work] = {"embed": embed, "layers": lambda: [layers() for _ in range(100)]}
    if encoder.centers:
        works["middles"] = lambda: encoder.middles(batch.volume)
    timings = table.together(works)
    whole = timings["embed"]
    alone = Timing(tuple(seconds / 100 for seconds in timings["layers"].seconds))
    table.add(Stage(f"embed, {name}", count, embed), whole, timings["peak"])
    row = table.rows[-1]
    table.add(Stage(f"embed, {name}, layers alone", count, layers), alone, timings["peak"])
    middles = share_of(timings["middles"], whole) if encoder.centers else 0.0
    places_each = encoder.places if encoder.centers else 1
    table.say(
        f"Inference of {name}: matrix products run at {100 * float(str(row['share_of_peak'])):.0f} % of the peak; "
        f"transforms take {100 * float(str(row['time_in_fft'])):.0f} % and products (with the search) "
        f"{100 * float(str(row['time_in_products'])):.0f} % of the time. Its layers alone run at "
        f"{100 * float(str(table.rows[-1]['share_of_peak'])):.0f} % of the peak and take "
        f"{places_each * share_of(alone, whole):.1f} % of the time, the search for middles {middles:.0f} %."
    )


def scan(table: Table) -> None:
    """Descriptors of all places of a block, and embeddings."""
    options, encoder = table.options, seeded("dense")
    block = torch.randn((options.block,) * 3, generator=torch.Generator().manual_seed(2))

    @torch.no_grad()
    def describe() -> torch.Tensor:
        return compute_block_descriptors(block, options.box_size, options.stride).flatten(0, 2)

    count = len(describe())
    embed = partial(scanned, encoder, block, options.box_size, options.stride)
    table.stage(Stage(f"scan, block of {options.block}, descriptors", count, describe, "places"))
    table.stage(Stage(f"scan, block of {options.block}, with the network", count, embed, "places"))


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Time, print and write."""
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    table = Table(options)
    print(f"{options.batch_size} boxes of {options.box_size}^3, threads: {options.threads}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        read = files(table, Path(folder))
    simulation(table)
    for name in options.encoders:
        training(table, name, read)
    for name in dict.fromkeys((*options.encoders, "dense")):
        inference(table, name)
    scan(table)
    middle, low, high = spread_of(table.peaks)
    table.say(
        f"Float32 product of matrices: {middle:.0f} GFLOP/s ({low:.0f} to {high:.0f}), threads: {options.threads}."
    )
    table.write()


if __name__ == "__main__":
    tyro.cli(main)

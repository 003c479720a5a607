"""Measure the samples per second of every stage, the operations that take its time, and the slowest stage.

    ./dev bench speed [--box-size 32] [--batch-size 96] [--threads 1] [--out FOLDER]

Each stage is timed in turn with a large float32 matrix product, so that the share of the peak is valid on a machine
that others use too. The table is printed and, with --out, written as speed.csv and speed.md. Boxes are white noise, and
files are in the page cache. Stages that read or write files are timed by wall-clock time, all others on one thread by
processor time (`timing.clock`).
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
from timing.clock import Timing, Work, in_turn, matrix_product, median_and_range, peak_memory_gb
from timing.counts import count_operations, measure_time_shares
from timing.stages import (
    Extraction,
    Pretraining,
    Reading,
    Stage,
    build_seeded_encoder,
    draw_positions,
    embed_block,
    make_embedding,
    make_linear_layers,
    make_supervised_step,
    noise_batch,
    noise_set,
    noise_tomogram,
)

from tomosift.malloc import keep_freed_memory
from tomosift.models.descriptors.grid import compute_block_descriptors
from tomosift.models.embedder import Embedder
from tomosift.models.encoder import DescriptorEncoder
from tomosift.models.recentering import Recentering
from tomosift.simulation.synthetic_stream import SyntheticComplexStream

TOMOGRAM_ZYX = (128, 512, 512)


@dataclass(frozen=True)
class Options:
    """What to measure."""

    encoders: tuple[str, ...] = ("radial", "residual")
    """Encoders of pretraining and fine-tuning; inference is timed for `dense` as well."""
    box_size: int = 32
    batch_size: int = 96
    threads: int = 1
    repeats: int = 5
    block: int = 128
    """Edge of the block of the scan, in voxels."""
    stride: int = 2
    """Voxels between grid points of the scan."""
    stored: int = 2048
    """Subtomograms of the set that is read, and particles to extract."""
    out: Path | None = None
    """Folder for the table."""


class Table:
    """The rows of the table, each printed when it is added."""

    def __init__(self, options: Options) -> None:
        self.options, self.rows, self.sentences = options, list[dict[str, object]](), list[str]()
        self.product, self.product_gflop = matrix_product()
        self.peaks: list[float] = []

    def time_in_turn(self, works: dict[str, Work], wall: bool = False) -> dict[str, Timing]:
        """Time these in turn with the matrix product, whose timing is named ``peak``."""
        timings = in_turn({**works, "peak": self.product}, self.options.repeats, wall)
        self.peaks += [self.product_gflop / seconds for seconds in timings["peak"].seconds]
        return timings

    def measure_stage(self, stage: Stage) -> Timing:
        """Time a stage and add its row."""
        timings = self.time_in_turn({"stage": stage.work}, stage.wall)
        self.add(stage, timings["stage"], timings["peak"])
        return timings["stage"]

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
            counts, shares = count_operations(stage.work), measure_time_shares(stage.work)
            peak_per_s = [self.product_gflop / seconds for seconds in peak.seconds]
            rounds = zip(timing.seconds, peak_per_s, strict=True)
            share = median_and_range([counts.matrix / seconds / rate for seconds, rate in rounds])[0]
            row |= {
                "matrix_gflop_per_s": round(counts.matrix / timing.median, 2),
                "fft_gflop_per_s": round(counts.fft / timing.median, 2),
                "share_of_peak": round(share, 3),
            }
            row |= {"time_in_products": round(shares["matrix"], 3), "time_in_fft": round(shares["fft"], 3)}
        row["peak_memory_gb"] = round(peak_memory_gb(), 2)
        self.rows.append(row)
        print("  ".join(f"{key} {value}" for key, value in row.items() if key not in ("threads", "clock")), flush=True)

    def note(self, sentence: str) -> None:
        """Add a sentence that is printed in the end."""
        self.sentences.append(sentence)

    def write(self) -> None:
        """Print the sentences, and write everything into the folder of --out."""
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


def percent(part: Timing, whole: Timing) -> float:
    """Return the share of a part in percent, the median over rounds."""
    return 100 * part.over(whole)[0]


def subtract(one: Timing, *others: Timing) -> Timing:
    """Return the rest of each round after the other timings."""
    rounds = zip(*(timing.seconds for timing in (one, *others)), strict=True)
    return Timing(tuple(max(first - sum(rest), 1e-9) for first, *rest in rounds))


def measure_files(table: Table, folder: Path) -> Timing:
    """Measure extraction and reading; return the time in which a batch is read."""
    options = table.options
    size, count = options.box_size, options.stored
    tomogram = noise_tomogram(folder, TOMOGRAM_ZYX)
    voxel = draw_positions(TOMOGRAM_ZYX, size, count).astype(np.float64)
    for workers in dict.fromkeys((1, 2, options.threads)):
        on_voxels = Extraction(tomogram, voxel, size, folder / "on-voxels", workers)
        between = Extraction(tomogram, voxel[: count // 4] + 0.3, size, folder / "between", workers)
        plural = "s" * (workers > 1)
        name = f"extract on voxels, {workers} worker{plural}"
        table.measure_stage(Stage(name, count, on_voxels, wall=True, countable=False))
        name = f"extract between voxels, {workers} worker{plural}"
        table.measure_stage(Stage(name, count // 4, between, wall=True, countable=False))
    reading = Reading(noise_set(folder / "set", count, size), options.batch_size)
    return table.measure_stage(Stage("read", options.batch_size, reading, wall=True, countable=False))


def measure_simulation(table: Table) -> None:
    """Measure the simulation of synthetic complexes, four particles of each, as in the method `metric`."""
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

    table.measure_stage(Stage("simulate", 4 * stream.classes * options.threads, work, countable=options.threads == 1))


def measure_training(table: Table, name: str, read: Timing) -> None:
    """Measure steps of pretraining with their parts, and of fine-tuning."""
    count = table.options.batch_size
    batch = noise_batch(count, table.options.box_size)
    pretraining = Pretraining(name, batch)
    convolutions = pretraining.bare_convolutions()
    works: dict[str, Work] = {"step": pretraining.step, "views": pretraining.views, "inputs": pretraining.inputs}
    if pretraining.embedder.encoder.recenters:
        works["centers"] = pretraining.centers
    if name != "radial":
        works["convolutions"] = convolutions
    timings = table.time_in_turn(works)
    step, peak = timings["step"], timings["peak"]
    views = timings["views"]
    network = subtract(step, views, timings["inputs"])
    table.add(Stage(f"pretraining step, {name}", count, pretraining.step), step, peak)
    if "centers" in timings:
        centers = timings["centers"]
        table.add(Stage(f"recentering, {name}", count, pretraining.centers), centers, peak)
        table.note(f"Where boxes are new, recentering adds {percent(centers, step):.0f} % to a step of {name}.")
    table.add(Stage(f"augment, views for {name}", 2 * count, pretraining.views, "views"), views, peak)
    fixed = "descriptors" if isinstance(pretraining.embedder.encoder, DescriptorEncoder) else "masks"
    parts = {
        "augmentation": percent(views, step),
        fixed: percent(timings["inputs"], step),
        "network, loss and optimizer": percent(network, step),
    }
    most = max(parts, key=parts.__getitem__)
    listing = ", ".join(f"{part} {share:.0f} %" for part, share in parts.items())
    table.note(f"Pretraining of {name} is limited by {most}: {parts[most]:.0f} % of a step ({listing}).")
    table.note(
        f"A batch is read in {1000 * read.median:.0f} ms, a step of {name} takes {1000 * step.median:.0f} ms: "
        f"reading is {'not ' if read.median < step.median else ''}the bottleneck."
    )
    if name != "radial":
        bare = timings["convolutions"]
        table.add(Stage(f"bare convolutions, {name}", count, convolutions), bare, peak)
        median, low, high = (100 * value for value in bare.over(step))
        table.note(
            f"Pretraining of {name} runs at {median:.0f} % ({low:.0f} to {high:.0f}) of the throughput of its bare "
            f"convolutions, forward and backward; of what follows the views they are "
            f"{percent(bare, subtract(step, views)):.0f} %."
        )
    table.measure_stage(Stage(f"supervised step, {name}", count, make_supervised_step(name, batch)))


def measure_inference(table: Table, name: str) -> None:
    """Measure embedding, and for encoders on descriptors the network alone."""
    encoder, count = build_seeded_encoder(name), 64
    batch = noise_batch(count, table.options.box_size)
    recentering = Recentering()
    embed = make_embedding(Embedder(encoder, recentering), batch.volume)
    if not isinstance(encoder, DescriptorEncoder):
        table.measure_stage(Stage(f"embed, {name}", count, embed))
        return
    with torch.no_grad():
        inputs = encoder.prepare_input(batch.volume)
    layers = make_linear_layers(encoder, inputs)
    works: dict[str, Work] = {"embed": embed, "layers": lambda: [layers() for _ in range(100)]}
    candidates = encoder.center_candidates if encoder.recenters else 1
    if encoder.recenters:
        works["recentering"] = lambda: recentering.find_candidates(batch.volume, candidates)
    timings = table.time_in_turn(works)
    whole = timings["embed"]
    alone = Timing(tuple(seconds / 100 for seconds in timings["layers"].seconds))
    table.add(Stage(f"embed, {name}", count, embed), whole, timings["peak"])
    row = table.rows[-1]
    table.add(Stage(f"embed, {name}, layers alone", count, layers), alone, timings["peak"])
    of_recentering = percent(timings["recentering"], whole) if encoder.recenters else 0.0
    table.note(
        f"Inference of {name}: matrix products run at {100 * float(str(row['share_of_peak'])):.0f} % of the peak; "
        f"transforms take {100 * float(str(row['time_in_fft'])):.0f} % and products (recentering included) "
        f"{100 * float(str(row['time_in_products'])):.0f} % of the time. Its layers alone run at "
        f"{100 * float(str(table.rows[-1]['share_of_peak'])):.0f} % of the peak and take "
        f"{candidates * percent(alone, whole):.1f} % of the time, recentering {of_recentering:.0f} %."
    )


def measure_scan(table: Table) -> None:
    """Measure descriptors and embeddings at all grid points of a block."""
    options, encoder = table.options, build_seeded_encoder("dense")
    block = torch.randn((options.block,) * 3, generator=torch.Generator().manual_seed(2))

    @torch.no_grad()
    def describe() -> torch.Tensor:
        return compute_block_descriptors(block, options.box_size, options.stride).flatten(0, 2)

    count = len(describe())
    embed = partial(embed_block, encoder, block, options.box_size, options.stride)
    table.measure_stage(Stage(f"scan, block of {options.block}, descriptors", count, describe, "grid points"))
    table.measure_stage(Stage(f"scan, block of {options.block}, with the network", count, embed, "grid points"))


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Measure, print and write."""
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    table = Table(options)
    print(f"{options.batch_size} boxes of {options.box_size}^3, threads: {options.threads}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        read = measure_files(table, Path(folder))
    measure_simulation(table)
    for name in options.encoders:
        measure_training(table, name, read)
    for name in dict.fromkeys((*options.encoders, "dense")):
        measure_inference(table, name)
    measure_scan(table)
    median, low, high = median_and_range(table.peaks)
    table.note(f"Float32 matrix product: {median:.0f} GFLOP/s ({low:.0f} to {high:.0f}), threads: {options.threads}.")
    table.write()


if __name__ == "__main__":
    tyro.cli(main)

"""Measure other libraries and plain loops at the same work.

    ./dev bench peers [--threads 1] [--out FOLDER]

Augmentation is compared with TorchIO, MONAI and scipy; extraction with a loop over an MRC file; the contrastive loss
with lightly; embedding at all grid points of a scan with single boxes, and with template matching. What is compared is
timed in turn (`timing.clock`). Ratios are taken within rounds; a ratio of 2 means that tomosift is twice as fast. A
missing package is skipped. TorchIO and MONAI come with `pip install tomosift[bench]`; lightly needs the torchvision
that fits the installed torch.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import tyro
from timing.clock import Timing, Work, format_range, in_turn
from timing.peers import (
    VIEWS,
    Augment,
    TemplateMatching,
    count_orientations,
    describe_missing,
    lightly_loss,
    monai_views,
    plain_extraction,
    scipy_views,
    textbook_loss,
    torchio_views,
)
from timing.stages import (
    SPACING_ANGSTROM,
    Extraction,
    build_seeded_encoder,
    draw_positions,
    embed_block,
    noise_batch,
    noise_tomogram,
)
from torch import Tensor, nn

from tomosift.data.normalization import normalize_volumes
from tomosift.malloc import keep_freed_memory
from tomosift.methods.contrastive import CONTRASTED
from tomosift.models.descriptors.grid import first_center_voxel
from tomosift.models.losses import nt_xent
from tomosift.physics.augmentation import view

TOMOGRAM_ZYX = (128, 512, 512)
TEMPERATURE = 0.2
OURS = "tomosift"


@dataclass(frozen=True)
class Options:
    """What to compare."""

    parts: tuple[str, ...] = ("augmentation", "extraction", "loss", "scan")
    box_size: int = 32
    count: int = 96
    """Boxes of a batch."""
    threads: int = 1
    repeats: int = 7
    extracted: int = 2048
    block: int = 128
    """Edge of the block of the scan, in voxels."""
    stride: int = 2
    single_boxes: int = 512
    """Grid points at which single boxes are extracted and embedded."""
    templates: int = 8
    angular_step_deg: float = 7.0
    """Step between orientations of templates: sufficient for structures of 160 A at 20 A, the best resolution of 10 A
    voxels."""
    out: Path | None = None
    """Folder for the table."""


class Table:
    """The rows of the table, each printed when it is added."""

    def __init__(self, options: Options) -> None:
        self.options, self.rows = options, list[dict[str, object]]()

    def compare(
        self, what: str, works: dict[str, tuple[Work, float]], unit: str, wall: bool = False
    ) -> dict[str, Timing]:
        """Time all of these, each with its number of samples in a call, and add their ratios to ours, the first."""
        timings = in_turn({name: work for name, (work, _) in works.items()}, self.options.repeats, wall)
        ours, done = timings[OURS], works[OURS][1]
        for name, timing in timings.items():
            mine = works[name][1]
            ratio = Timing(tuple(seconds * done / mine for seconds in timing.seconds)).over(ours)
            self.add(what, name, unit, timing.per_second(mine), None if name == OURS else ratio, wall)
        return timings

    def add(
        self,
        what: str,
        name: str,
        unit: str,
        rate: tuple[float, float, float],
        ratio: tuple[float, float, float] | None,
        wall: bool = False,
        note: str = "",
    ) -> None:
        row: dict[str, object] = {"comparison": what, "name": name, "unit": unit, "threads": self.options.threads}
        row["clock"] = "wall" if wall or self.options.threads > 1 else "processor"
        row |= dict(zip(("per_second", "lowest", "highest"), (float(f"{one:.4g}") for one in rate), strict=True))
        if ratio is not None:
            names = ("tomosift_is_faster_by", "ratio_lowest", "ratio_highest")
            row |= dict(zip(names, (float(f"{one:.3g}") for one in ratio), strict=True))
        row["note"] = note
        self.rows.append(row)
        beside = "" if ratio is None else f", tomosift is faster by {format_range(ratio)}"
        print(f"{what}: {name}: {format_range(rate)} {unit}/s{beside}{'; ' * bool(note)}{note}", flush=True)

    def skip(self, what: str, name: str, missing: ImportError) -> None:
        note = describe_missing(missing)
        self.rows.append({"comparison": what, "name": name, "note": note})
        print(f"{what}: {name}: {note}", flush=True)

    def write(self) -> None:
        """Write the table into the folder of --out."""
        if self.options.out is not None:
            self.options.out.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(self.rows).to_csv(self.options.out / "peers.csv", index=False)


def compare_augmentation(table: Table) -> None:
    """Compare views of the same boxes."""
    options = table.options
    batch = noise_batch(options.count, options.box_size)
    generator = torch.Generator().manual_seed(0)

    def ours(ranges: object = VIEWS, rotated: str = "box") -> Tensor:
        drawn = ranges.sample(options.count, generator)  # type: ignore[attr-defined]
        return view(batch.volume, batch.tilt_range_deg, drawn, SPACING_ANGSTROM, rotated)  # type: ignore[arg-type]

    works: dict[str, tuple[Work, float]] = {OURS: (ours, options.count)}
    default = "tomosift, views of pretraining, wedge rotated"
    works[default] = (partial(ours, CONTRASTED, "wedge"), options.count)
    works["tomosift, views of pretraining, box rotated"] = (partial(ours, CONTRASTED), options.count)
    peers: dict[str, Callable[[], Augment]] = {
        "TorchIO": lambda: torchio_views(options.threads),
        "MONAI": lambda: monai_views(options.box_size),
        "scipy, linear": lambda: scipy_views(1),
        "scipy, cubic": lambda: scipy_views(3),
    }
    if options.threads > 1:
        loaded = f"by {options.threads} workers of a loader"
        peers[f"TorchIO, {loaded}"] = lambda: torchio_views(1, options.threads)
        peers[f"MONAI, {loaded}"] = lambda: monai_views(options.box_size, options.threads)
    for name, made in peers.items():
        try:
            works[name] = (partial(made(), batch.volume), options.count)
        except ImportError as missing:
            table.skip("augmentation", name, missing)
    for name, (work, _) in works.items():
        found = work()
        assert isinstance(found, Tensor)
        if tuple(found.shape) != tuple(batch.volume.shape) or abs(float(found.std()) - 1) > 0.1:
            raise ValueError(f"{name} gave {tuple(found.shape)}, deviation {float(found.std()):.2f}, expected 1")
    timings = table.compare("augmentation", works, "views")
    for row in table.rows:
        if row["name"] in peers and row["name"] in timings:
            row["note"] = f"{default}, is faster by {format_range(timings[str(row['name'])].over(timings[default]))}"
            print(f"{row['name']}: {row['note']}")


def compare_extraction(table: Table) -> None:
    """Compare the extraction of the same boxes of one tomogram, at whole voxels."""
    options = table.options
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tomogram = noise_tomogram(folder, TOMOGRAM_ZYX)
        voxel = draw_positions(TOMOGRAM_ZYX, options.box_size, options.extracted)
        size, count = options.box_size, options.extracted
        ours = Extraction(tomogram, voxel.astype(np.float64), size, folder, options.threads)
        loop = partial(plain_extraction, tomogram.path, voxel, size, folder / "plain.npy")
        loop()
        boxes, plain = ours(), np.load(folder / "plain.npy", mmap_mode="r")
        rows = np.arange(min(64, count))
        off = float(np.abs(boxes.volumes(rows) - plain[rows].astype(np.float32)).max())
        works: dict[str, tuple[Work, float]] = {OURS: (ours, count), "plain loop over mrcfile": (loop, count)}
        table.compare("extraction", works, "boxes", wall=True)
        table.rows[-1]["note"] = f"largest difference of a voxel {off:.1g}, float16 rounding"
        print(f"extraction: {table.rows[-1]['note']}")


def compare_losses(table: Table) -> None:
    """Compare the loss of two views alone, and with the network before it."""
    options, size = table.options, 128
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(options.count, size, generator=generator, requires_grad=True) for _ in range(2))
    encoder = build_seeded_encoder("radial").train()
    projection = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, size))
    both = noise_batch(2 * options.count, options.box_size).volume
    mine = partial(nt_xent, temperature=TEMPERATURE)
    pairs: dict[str, Callable[[Tensor, Tensor], Tensor]] = {OURS: mine, "textbook": partial(textbook_loss, TEMPERATURE)}
    try:
        pairs["lightly"] = lightly_loss(TEMPERATURE)
    except ImportError as missing:
        table.skip("loss", "lightly", missing)
    except RuntimeError as broken:
        table.skip("loss", "lightly", ImportError(f"torchvision ({broken})", name="torchvision"))
    off = max(float((mine(first, second) - other(first, second)).abs().detach()) for other in pairs.values())

    def alone(between: Callable[[Tensor, Tensor], Tensor]) -> None:
        for _ in range(20):
            torch.autograd.grad(between(first, second), (first, second))

    def step(between: Callable[[Tensor, Tensor], Tensor]) -> None:
        projected = projection(encoder(both))
        between(projected[: options.count], projected[options.count :]).backward()

    table.compare("loss, forward and backward", {k: (partial(alone, v), 20.0) for k, v in pairs.items()}, "losses")
    table.compare("step on given views", {k: (partial(step, v), options.count) for k, v in pairs.items()}, "boxes")
    table.rows[-1]["note"] = f"losses differ by {off:.1g} at most"
    print(f"loss: {table.rows[-1]['note']}")


def compare_scan(table: Table) -> None:
    """Compare embeddings at all grid points of a block with single boxes there, and with template matching."""
    options, encoder = table.options, build_seeded_encoder("dense")
    size, stride = options.box_size, options.stride
    block = torch.randn((options.block,) * 3, generator=torch.Generator().manual_seed(2))

    embed_all = partial(embed_block, encoder, block, size, stride)
    found = embed_all()
    counts = np.asarray(found.shape[:3])
    chosen = np.random.default_rng(0).integers(0, counts, size=(options.single_boxes, 3))
    corners = first_center_voxel(size, stride) - size // 2 + stride * chosen

    @torch.no_grad()
    def embed_single_boxes() -> Tensor:
        parts = []
        for start in range(0, options.single_boxes, 64):
            boxes = [block[z : z + size, y : y + size, x : x + size] for z, y, x in corners[start : start + 64]]
            parts.append(encoder(torch.from_numpy(normalize_volumes(torch.stack(boxes).numpy()))))
        return torch.cat(parts)

    single = embed_single_boxes()
    off = float((found[tuple(chosen.T)] - single).abs().max())
    note = f"embeddings differ by {off:.1g} at most, of a deviation of {float(single.std()):.2g}"
    works: dict[str, tuple[Work, float]] = {
        OURS: (embed_all, float(counts.prod())),
        "boxes one by one": (embed_single_boxes, float(options.single_boxes)),
    }
    matching = TemplateMatching(block, size)
    orientations = count_orientations(options.angular_step_deg) * options.templates
    timed = {**{name: work for name, (work, _) in works.items()}, "matching": matching.match_orientation}
    timings = in_turn(timed, options.repeats)
    grid_points = float(counts.prod())
    ours = timings[OURS]
    table.add("scan", OURS, "grid points", ours.per_second(grid_points), None)
    factor = grid_points / options.single_boxes
    each = Timing(tuple(seconds * factor for seconds in timings["boxes one by one"].seconds))
    table.add("scan", "boxes one by one", "grid points", each.per_second(grid_points), each.over(ours), note=note)
    whole = Timing(tuple(seconds * orientations for seconds in timings["matching"].seconds))
    extrapolation = (
        f"one orientation takes {1000 * timings['matching'].median:.1f} ms; {orientations} of them, "
        f"{options.templates} templates every {options.angular_step_deg:g} degrees, are extrapolated; grid points are "
        "those of the scan, between which templates score as well"
    )
    rate, ratio = whole.per_second(grid_points), whole.over(ours)
    table.add("scan", "template matching", "grid points", rate, ratio, note=extrapolation)


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Compare, print and write."""
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    table = Table(options)
    parts = {
        "augmentation": compare_augmentation,
        "extraction": compare_extraction,
        "loss": compare_losses,
        "scan": compare_scan,
    }
    for name in options.parts:
        if name not in parts:
            raise ValueError(f"part is {name!r}, expected one of {', '.join(parts)}")
        parts[name](table)
    table.write()


if __name__ == "__main__":
    tyro.cli(main)

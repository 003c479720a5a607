"""Train the network that finds where in its box a particle lies, and put it where the program looks for it.

    ./dev bench center_finder --work FOLDER              simulate, train, measure, write the weights
    ./dev bench center_finder --work FOLDER --measure    measure the weights that come with the program again

It learns from complexes that do not exist (`tomosift.simulation.structures.synthetic_complexes`), crowded and off center, under widely
varied imaging; it is measured on the real structures of the atlas, none of which it has seen. Simulated sets and the
run are kept below --work, so an interrupted training goes on.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from safetensors.torch import save_file
from torch import Tensor, nn

from tomosift.data.subtomogram_set import Subtomograms
from tomosift.files import write_json, written_then_renamed
from tomosift.models.center_finder import (
    CENTER_GRID,
    SMOOTHING,
    CenterFinder,
    finder_digest,
    fourier_crop,
    weights_path,
)
from tomosift.models.recentering import estimate_centers, estimate_picking_error
from tomosift.physics.imaging import ImagingRanges, lab_protocol
from tomosift.simulation.structures.atlas import atlas_names
from tomosift.simulation.subtomograms import (
    SubtomogramSetConfig,
    simulate_subtomograms,
    simulate_synthetic_complexes,
)
from tomosift.train.loop import Training, fit
from tomosift.train.run import Run


@dataclass(frozen=True)
class Options:
    """How much to simulate and how long to train."""

    work: Path
    """Folder for simulated sets and the run."""
    sets: int = 10
    classes: int = 120
    per_class: int = 50
    steps: int = 6000
    batch_size: int = 32
    learning_rate: float = 3e-3
    seed: int = 100
    measure: bool = False
    """Only measure."""


def conditions(number: int) -> ImagingRanges:
    """Imaging of one of the sets: every other one without CTF, as after a perfect correction."""
    return replace(
        lab_protocol(),
        snr=(0.02, 1.0),
        max_tilt_deg=(45.0, 70.0),
        defocus_um=(2.0, 7.0),
        noise_before_ctf=(0.0, 1.0),
        noise_cutoff_nyquist=(0.4, 2.0),
        envelope_nyquist=(0.3, 2.0),
        cutoff_nyquist=(0.4, 2.0),
        shifts_whole_voxels=False,
        scale=(0.8, 1.25),
        amplitude_contrast=(0.05, 0.12),
        has_ctf=number % 2 == 0,
    )


def simulated_set(options: Options, number: int) -> Subtomograms:
    """Boxes of complexes that no other set has."""
    return simulate_synthetic_complexes(
        options.classes,
        options.per_class,
        conditions(number),
        options.seed + number,
        options.work / "sets" / f"{number:02d}",
    )


def true_shift(boxes: Subtomograms) -> Tensor:
    """(n, 3) offsets (zyx, voxels) of the particles from the middle of their boxes."""
    columns = boxes.particles.columns
    shift = np.column_stack([columns[f"simulatedShift{axis}Voxels"].to_numpy(np.float32) for axis in "ZYX"])
    return torch.from_numpy(shift)


class Stream:
    """Coarse boxes and true places, mirrored at random. All are kept in memory: 8 kB a box."""

    def __init__(self, sets: list[Subtomograms], batch_size: int, seed: int) -> None:
        rows = [
            (boxes, part) for boxes in sets for part in np.array_split(np.arange(len(boxes)), len(boxes) // 250 + 1)
        ]
        self.small = torch.cat([fourier_crop(torch.from_numpy(boxes.volumes(part))).half() for boxes, part in rows])
        # In shares of the edge, so that one target serves any box size.
        self.place = torch.cat([true_shift(boxes) / boxes.box_size for boxes in sets])
        self.batch_size, self.seed = batch_size, seed

    def batch(self, step: int) -> "Boxes":
        rng = np.random.default_rng([self.seed, step])
        rows = torch.from_numpy(rng.integers(len(self.small), size=self.batch_size))
        small, place = self.small[rows].float(), self.place[rows].clone()
        for axis in range(3):
            mirrored = torch.from_numpy(rng.random(len(rows)) < 0.5)
            # Voxel 0 has no mirror image; a roll by one keeps the middle where it is.
            flipped = small.flip(axis + 1).roll(1, axis + 1)
            small = torch.where(mirrored[:, None, None, None], flipped, small)
            place[:, axis] = torch.where(mirrored, -place[:, axis], place[:, axis])
        return Boxes(small, place)


@dataclass(frozen=True)
class Boxes:
    """A batch."""

    small: Tensor
    place: Tensor

    def shard(self, rank: int, count: int) -> "Boxes":
        return Boxes(self.small[rank::count], self.place[rank::count])

    def to(self, device: torch.device) -> "Boxes":
        return Boxes(self.small.to(device), self.place.to(device))


class Learner(nn.Module):
    """Cross-entropy between the network's places and a small Gaussian about the true one."""

    def __init__(self) -> None:
        super().__init__()
        self.finder = CenterFinder()

    def forward(self, batch: Boxes, generator: torch.Generator) -> dict[str, Tensor]:
        axis = torch.arange(CENTER_GRID, device=batch.place.device) - CENTER_GRID / 2
        distance = (axis / CENTER_GRID - batch.place[:, :, None]) / SMOOTHING
        z, y, x = torch.softmax(-distance.square() / 2, dim=2).unbind(1)
        wanted = z[:, :, None, None] * y[:, None, :, None] * x[:, None, None, :]
        told = torch.log_softmax(self.finder(batch.small).flatten(1), dim=1)
        return {"loss": -(wanted.flatten(1) * told).sum(1).mean()}


def measure(work: Path) -> list[dict[str, float | str]]:
    """Errors on real structures: all of the atlas, in crowded boxes, up to 8 voxels off center."""
    rows: list[dict[str, float | str]] = []
    for snr in (0.3, 0.1, 0.03):
        ranges = replace(lab_protocol(), snr=(snr, snr))
        config = SubtomogramSetConfig(atlas_names(), 40, ranges=ranges, seed=7)
        boxes = simulate_subtomograms(config, work / f"atlas-{snr:g}")
        volume = torch.from_numpy(boxes.volumes(np.arange(len(boxes))))
        error = estimate_centers(volume, estimate_picking_error(volume)) - true_shift(boxes)
        distance = error.norm(dim=1)
        rows.append(
            {
                "snr": snr,
                "error_per_axis_voxels": round(float(error.square().mean().sqrt()), 2),
                "median_distance_voxels": round(float(distance.median()), 2),
                "share_beyond_4_voxels": round(float((distance > 4).float().mean()), 3),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Simulate, train, write and measure."""
    card_path = weights_path().with_suffix(".json")
    if not options.measure:
        sets = [simulated_set(options, number) for number in range(options.sets)]
        training = Training(options.steps, options.batch_size, options.learning_rate, checkpoint_every=200)
        asked = {**asdict(options), "work": "", "training": asdict(training)}
        run = Run.open(options.work / "run", asked)
        torch.manual_seed(options.seed)
        learner = Learner()
        stream = Stream(sets, options.batch_size, options.seed)
        fit(learner, stream, training, run, options.seed)
        with written_then_renamed(weights_path()) as temporary:
            # Half precision halves the package and moves no center.
            save_file({name: value.half() for name, value in learner.finder.state_dict().items()}, temporary)
        card = {
            "what": "Places of particles in their boxes, learned from complexes that do not exist.",
            "made_by": "./dev bench center_finder --work FOLDER",
            "options": {key: value for key, value in asdict(options).items() if key not in ("work", "measure")},
            "imaging": [asdict(conditions(number)) for number in range(2)],
            "license": "BSD-3-Clause, as the program",
            "sha256": finder_digest(),
        }
        write_json(card_path, card)
    card = json.loads(card_path.read_text())
    write_json(card_path, {**card, "errors_on_the_atlas": measure(options.work)})


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

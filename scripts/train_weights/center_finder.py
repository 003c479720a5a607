"""Train the network that estimates the center of a particle in its box, and write its weights into the package.

    ./dev weights center_finder --work FOLDER              simulate, train, write the weights and measure
    ./dev weights center_finder --work FOLDER --measure    measure the weights of the package again

It is trained on synthetic complexes (`tomosift.simulation.structures.synthetic_complexes`), crowded and off center,
under widely varied imaging conditions. It is measured on the real structures of the atlas, none of which it was trained
on. Simulated sets and the run are kept below --work, so an interrupted training resumes.
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
from tomosift.models.recentering import Recentering
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


def imaging_of_set(number: int) -> ImagingRanges:
    """Return the imaging conditions of one set: every other one without CTF, as after a perfect correction."""
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


def simulate_set(options: Options, number: int) -> Subtomograms:
    """Simulate a set of complexes that no other set has."""
    return simulate_synthetic_complexes(
        options.classes,
        options.per_class,
        imaging_of_set(number),
        options.seed + number,
        options.work / "sets" / f"{number:02d}",
    )


def read_true_shift(subtomograms: Subtomograms) -> Tensor:
    """Return (n, 3) offsets (zyx, voxels) of the particles from the centers of their boxes."""
    columns = subtomograms.particles.columns
    shift = np.column_stack([columns[f"simulatedShift{axis}Voxels"].to_numpy(np.float32) for axis in "ZYX"])
    return torch.from_numpy(shift)


class CenterStream:
    """Batches of coarse volumes and true centers, mirrored at random. All stay in memory: 8 kB per subtomogram."""

    def __init__(self, sets: list[Subtomograms], batch_size: int, seed: int) -> None:
        parts = [(one, rows) for one in sets for rows in np.array_split(np.arange(len(one)), len(one) // 250 + 1)]
        self.small = torch.cat([fourier_crop(torch.from_numpy(one.volumes(rows))).half() for one, rows in parts])
        # In box edges, so that one target is valid for any box size.
        self.center = torch.cat([read_true_shift(one) / one.box_size for one in sets])
        self.batch_size, self.seed = batch_size, seed

    def batch(self, step: int) -> "CenterBatch":
        rng = np.random.default_rng([self.seed, step])
        rows = torch.from_numpy(rng.integers(len(self.small), size=self.batch_size))
        small, center = self.small[rows].float(), self.center[rows].clone()
        for axis in range(3):
            mirrored = torch.from_numpy(rng.random(len(rows)) < 0.5)
            # Voxel 0 has no mirror image; a roll by one keeps the center voxel in place.
            flipped = small.flip(axis + 1).roll(1, axis + 1)
            small = torch.where(mirrored[:, None, None, None], flipped, small)
            center[:, axis] = torch.where(mirrored, -center[:, axis], center[:, axis])
        return CenterBatch(small, center)


@dataclass(frozen=True)
class CenterBatch:
    """Coarse volumes (b, g, g, g), and true centers (b, 3) in box edges."""

    small: Tensor
    center: Tensor

    def shard(self, rank: int, count: int) -> "CenterBatch":
        return CenterBatch(self.small[rank::count], self.center[rank::count])

    def to(self, device: torch.device) -> "CenterBatch":
        return CenterBatch(self.small.to(device), self.center.to(device))


class CenterObjective(nn.Module):
    """Cross-entropy between the posterior of the network and a narrow Gaussian about the true center."""

    def __init__(self) -> None:
        super().__init__()
        self.finder = CenterFinder()

    def forward(self, batch: CenterBatch, generator: torch.Generator) -> dict[str, Tensor]:
        axis = torch.arange(CENTER_GRID, device=batch.center.device) - CENTER_GRID / 2
        distance = (axis / CENTER_GRID - batch.center[:, :, None]) / SMOOTHING
        z, y, x = torch.softmax(-distance.square() / 2, dim=2).unbind(1)
        target = z[:, :, None, None] * y[:, None, :, None] * x[:, None, None, :]
        log_posterior = torch.log_softmax(self.finder(batch.small).flatten(1), dim=1)
        return {"loss": -(target.flatten(1) * log_posterior).sum(1).mean()}


def measure(work: Path) -> list[dict[str, float | str]]:
    """Measure errors on all structures of the atlas, in crowded boxes, up to 8 voxels off center."""
    rows: list[dict[str, float | str]] = []
    for snr in (0.3, 0.1, 0.03):
        ranges = replace(lab_protocol(), snr=(snr, snr))
        config = SubtomogramSetConfig(atlas_names(), 40, ranges=ranges, seed=7)
        subtomograms = simulate_subtomograms(config, work / f"atlas-{snr:g}")
        volume = torch.from_numpy(subtomograms.volumes(np.arange(len(subtomograms))))
        error = Recentering.fit(volume).estimate_offsets(volume) - read_true_shift(subtomograms)
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
        sets = [simulate_set(options, number) for number in range(options.sets)]
        training = Training(options.steps, options.batch_size, options.learning_rate, checkpoint_every=200)
        settings = {**asdict(options), "work": "", "training": asdict(training)}
        run = Run.open(options.work / "run", settings)
        torch.manual_seed(options.seed)
        objective = CenterObjective()
        stream = CenterStream(sets, options.batch_size, options.seed)
        fit(objective, stream, training, run, options.seed)
        with written_then_renamed(weights_path()) as temporary:
            # Half precision halves the file and changes no center.
            save_file({name: value.half() for name, value in objective.finder.state_dict().items()}, temporary)
        card = {
            "what": "A network that estimates the center of a particle in its box, trained on synthetic complexes.",
            "made_by": "./dev weights center_finder --work FOLDER",
            "options": {key: value for key, value in asdict(options).items() if key not in ("work", "measure")},
            "imaging": [asdict(imaging_of_set(number)) for number in range(2)],
            "license": "BSD-3-Clause, as the program",
            "sha256": finder_digest(),
        }
        write_json(card_path, card)
    card = json.loads(card_path.read_text())
    write_json(card_path, {**card, "errors_on_the_atlas": measure(options.work)})


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

"""Measure how many real ribosomes a model trained on simulations classifies as 70S, before and after adaptation.

    ./dev bench real_shift --data ../shared/data --work FOLDER

The subtomograms are ten particles of one cell, so the shares are of ten. Adaptation uses five of them without labels
and is evaluated on the other five, and vice versa. All are of one class, so embeddings are not standardized by the mean
of the target.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray

from tomosift import methods
from tomosift.data.extraction.import_subtomograms import import_subtomograms
from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.prediction import predict
from tomosift.io.subtomogram_files import open_subtomogram_files
from tomosift.methods.domain_adversarial import Config
from tomosift.simulation.subtomograms import SubtomogramSetConfig, simulate_subtomograms
from tomosift.simulation.synthetic_stream import RANDOMIZED_RANGES

EXPECTED = "ribosome-70s"
SPACING_ANGSTROM, BOX_SIZE, EACH = 10.0, 32, 150
FAR_VOXELS = (11.0, 16.0)  # with such a shift along each axis, a neighbor or nothing is in the center


@dataclass(frozen=True)
class Options:
    """Input, output and number of seeds."""

    data: Path
    """Folder of the real files that the tests use."""
    work: Path
    """Folder for sets and runs."""
    seeds: int = 3


def simulate_source(options: Options, seed: int) -> Subtomograms:
    """Simulate a labeled set of six structures, and of background without a particle in the center."""
    maps = options.data / "maps" / "polnet_5A"
    structures = (EXPECTED, str(maps / "4v4r_50S.mrc.gz"), "ribosome-30s", str(maps / "4v7r.mrc.gz"), "groel")
    config = SubtomogramSetConfig(
        (*structures, "proteasome-20s"), EACH, BOX_SIZE, RANDOMIZED_RANGES, SPACING_ANGSTROM, seed=seed
    )
    parts = [simulate_subtomograms(config, options.work / f"structures-{seed}")]
    beside = replace(
        config, per_class=EACH // 6, ranges=replace(RANDOMIZED_RANGES, shift_voxels=FAR_VOXELS), seed=seed + 50
    )
    parts.append(simulate_subtomograms(beside, options.work / f"beside-{seed}"))
    names = (*config.class_names, "background")
    folder = options.work / f"source-{seed}"
    writer = SubtomogramWriter(folder, BOX_SIZE, SPACING_ANGSTROM, class_names=names)
    for number, part in enumerate(parts):
        volumes = part.volumes(np.arange(len(part)))
        particles = part.particles
        if number:
            # The shift is always toward the same corner of the box; mirrors distribute it over all eight.
            signs = np.random.default_rng(seed).integers(0, 2, (len(part), 3)).astype(bool)
            volumes = np.stack(
                [np.flip(box, tuple(np.flatnonzero(sign))) for box, sign in zip(volumes, signs, strict=True)]
            )
            particles = replace(particles, class_name=np.full(len(part), "background", dtype=object))
        writer.append(volumes, particles, part.tilt_range_deg)
    writer.close()
    return open_subtomograms(folder)


def predict_names(
    run_folder: Path, config: Config, data: TrainingSets, subtomograms: Subtomograms, seed: int
) -> NDArray[np.str_]:
    """Train a model on these sets and return the classes that it predicts."""
    model = methods.train("domain_adversarial", config, data, run_folder, seed)
    row = predict(model, subtomograms).probabilities.argmax(axis=1)
    return np.asarray(np.array(model.card.class_names)[row])


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Simulate, train, adapt, predict and print."""
    real = import_subtomograms(
        open_subtomogram_files(options.data / "subtomograms" / "derived_real_ribosomes"),
        options.work / "real",
        voxel_spacing_angstrom=SPACING_ANGSTROM,
        box_size=BOX_SIZE,
    )
    halves = [np.arange(len(real)) % 2 == k for k in range(2)]
    alone = Config(features="none", warps=False, standardize_per_domain=False)
    for seed in range(options.seeds):
        known = simulate_source(options, seed)
        work = options.work / f"runs-{seed}"
        before = predict_names(work / "before", alone, TrainingSets.from_domains(known, real), real, seed)
        after = np.empty(len(real), dtype=before.dtype)
        for k, half in enumerate(halves):
            data = TrainingSets.from_domains(known, real.select(~half))
            config = Config(standardize_per_domain=False)
            after[half] = predict_names(work / f"after-{k}", config, data, real.select(half), seed)
        for name, predicted in (("before", before), ("after", after)):
            names, counts = np.unique(predicted, return_counts=True)
            share = ", ".join(f"{one} {count}" for one, count in zip(names, counts, strict=True))
            correct = int((predicted == EXPECTED).sum())
            print(f"seed {seed} {name}: {correct} of {len(predicted)} as {EXPECTED} ({share})", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

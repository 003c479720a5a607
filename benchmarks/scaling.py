"""Measure how accuracy depends on the number of complexes in training: the curve of the documentation.

    ./dev bench scaling --work FOLDER

For each number of complexes and each seed an encoder is trained on other complexes. They are drawn from the feature
cache of the run that `./dev weights general_model` keeps in the same --work. The encoder is evaluated in the episodes
of `few-shot-all`, on structures of the atlas, none of which it was trained on. Two more seeds vary noise, poses and
particles. The table is experiments/scaling.csv; the figure is docs/scaling.svg.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated

import numpy as np
import torch
import tyro
from matplotlib import pyplot as plt
from matplotlib import rcParams

from tomosift.data.batches import FeatureBatch
from tomosift.evaluation.benchmark.datasets import build_data
from tomosift.evaluation.benchmark.protocols import PROTOCOLS
from tomosift.evaluation.metrics.few_shot import score_episodes
from tomosift.evaluation.report.figures import STYLE
from tomosift.files import written_then_renamed
from tomosift.inference.classifier import Classifier
from tomosift.inference.heads import PLDAHead
from tomosift.inference.plda_model import fit_plda_model
from tomosift.methods.metric import BLOCK_COMPLEXES, CACHE_FOLDER, Config
from tomosift.models.encoders import build_encoder
from tomosift.objectives.metric import MetricObjective
from tomosift.simulation.feature_cache import FeatureCache, compute_features
from tomosift.simulation.held_out_complexes import simulate_held_out_groups
from tomosift.simulation.synthetic_stream import SyntheticComplexStream
from tomosift.train.loop import Training, fit
from tomosift.train.run import Run

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "experiments" / "scaling.csv"
FIGURE = ROOT / "docs" / "scaling.svg"
SNRS, SHOTS = (0.1, 0.03), (1, 5)
PAGE_COLORS = dict.fromkeys(
    ("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color"), "#8a8a8a"
)
PAGE_COLORS["grid.color"] = "#8a8a8a55"
"""Colors of the figure, which are visible on light and on dark pages."""

EvaluationInput = dict[tuple[float, int], tuple[torch.Tensor, np.ndarray]]
"""Features and labels of real structures, by SNR and seed."""


@dataclass(frozen=True)
class Options:
    """What to train."""

    work: Path
    """Folder of the run whose feature cache is used; new runs are created beside it."""
    numbers: tuple[int, ...] = (5, 10, 20, 40, 160, 640, 2560, 8192)
    seeds: int = 3
    steps: int = 3000
    training_seed: int = 700
    """Seed of that run."""
    draw: bool = False
    """Only draw the figure of the kept table."""


@dataclass(frozen=True, eq=False)
class CachedSubset:
    """Batches of the feature cache from a subset of its complexes."""

    cache: FeatureCache
    complexes: np.ndarray
    seed: int

    def batch(self, step: int) -> FeatureBatch:
        rng = np.random.default_rng([self.seed, step])
        chosen = rng.permutation(self.complexes)[: self.cache.classes_per_batch]
        return self.cache.batch_of(chosen, rng)


def compute_evaluation_input(work: Path, seeds: int) -> EvaluationInput:
    """Compute features and labels of real structures, by SNR and seed."""
    result = {}
    for snr in SNRS:
        for seed in range(seeds):
            test = build_data(PROTOCOLS["few-shot-all"], snr, seed, work / f"test-{snr:g}-{seed}").test
            volume = torch.from_numpy(test.volumes(np.arange(len(test))))
            result[snr, seed] = compute_features(build_encoder("radial"), volume, volume[:, None])[:, 0], test.label
    return result


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Train, evaluate and write."""
    if options.draw:
        with TABLE.open(newline="") as file:
            draw([{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)])
        return
    config = Config()
    stream = SyntheticComplexStream(BLOCK_COMPLEXES, config.particles_per_complex, options.training_seed)
    most = max(options.numbers)
    cache = FeatureCache(
        options.work / "run" / CACHE_FOLDER,
        stream,
        most,
        config.classes_per_batch,
        config.per_class,
        options.training_seed,
    )
    evaluation = compute_evaluation_input(options.work, options.seeds)
    # Features at the most probable center alone, here and above: those of all candidates would be six times as many.
    held_out = [
        (compute_features(build_encoder("radial"), batch.volume, batch.volume[:, None])[:, 0], batch.label.numpy())
        for batch in simulate_held_out_groups(
            config.plda_complexes, options.training_seed, config.box_size, config.voxel_spacing_angstrom
        )
    ]
    rows: list[dict[str, float]] = []
    for number in options.numbers:
        for seed in range(options.seeds):
            training = Training(options.steps, learning_rate=2e-3, checkpoint_every=options.steps)
            run = Run.open(options.work / f"scaling-{number}-{seed}", {"complexes": number, "steps": options.steps})
            torch.manual_seed(seed)
            encoder = build_encoder("radial")
            objective = MetricObjective(encoder, config, number, cache.scale)
            drawn = np.random.default_rng([seed, number]).permutation(most)[:number]
            fit(objective, CachedSubset(cache, drawn, seed), training, run, seed)
            encoder.absorb_standardization(objective.mean, objective.deviation)
            with torch.inference_mode():
                embeddings = [(encoder.eval().embed(x.clone()).numpy(), label) for x, label in held_out]
            model = fit_plda_model(encoder, config.voxel_spacing_angstrom, config.box_size, embeddings)
            rows += score_model(model, evaluation, number, seed)
    with written_then_renamed(TABLE) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    draw(rows)


@torch.inference_mode()
def score_model(model: Classifier, evaluation: EvaluationInput, number: int, seed: int) -> list[dict[str, float]]:
    """Return the accuracy in episodes of five classes for each SNR and number of examples."""
    head, rows = model.head, []
    assert isinstance(head, PLDAHead)
    for snr in SNRS:
        x, label = evaluation[snr, seed]
        embeddings = model.encoder.embed(x.clone())
        head.standardize(embeddings)
        for shots in SHOTS:
            accuracy = score_episodes(embeddings.numpy(), label, head, ways=5, shots=shots).accuracy
            rows.append(
                {"complexes": number, "seed": seed, "snr": snr, "examples": shots, "accuracy": round(accuracy.value, 4)}
            )
            print(rows[-1], flush=True)
    return rows


def draw(rows: list[dict[str, float]]) -> None:
    """Draw mean and range over seeds against the number of complexes."""
    rcParams["svg.hashsalt"] = "tomosift"  # the same table gives the same file
    with plt.rc_context(STYLE | PAGE_COLORS):
        figure, axes = plt.subplots(figsize=(7, 4))
        for snr in SNRS:
            for shots in SHOTS:
                mine = [row for row in rows if row["snr"] == snr and row["examples"] == shots]
                numbers = sorted({row["complexes"] for row in mine})
                found = [[row["accuracy"] for row in mine if row["complexes"] == number] for number in numbers]
                name = f"SNR {snr:g}, {shots} example{'s' if shots > 1 else ''}"
                line = axes.plot(numbers, [mean(same) for same in found], marker="o", label=name)[0]
                lows, highs = [min(same) for same in found], [max(same) for same in found]
                axes.fill_between(numbers, lows, highs, color=line.get_color(), alpha=0.2)
        axes.set_xscale("log")
        axes.set_xlabel("complexes in training")
        axes.set_ylabel("accuracy among five unseen classes")
        axes.minorticks_off()
        axes.set_xticks(numbers, [f"{number:,.0f}" for number in numbers])
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
        figure.savefig(FIGURE, transparent=True, metadata={"Date": None}, bbox_inches="tight")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

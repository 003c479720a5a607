"""Measure the quality of clusters without labels, and of the names that `tomosift explore` suggests for them.

    ./dev bench explore --work FOLDER

Constants of `tomosift.evaluation.cluster_matches` are fitted to synthetic complexes: groups of 10 to 40 particles of
one complex, which may or may not be among the known ones. Clusters and their names are then measured on the real
structures of the protocols `few-shot` and `few-shot-all`, whose complexes no training has used, against their true
classes. Sets and embeddings are kept below --work.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from tomosift.evaluation.benchmark.datasets import build_data
from tomosift.evaluation.benchmark.protocols import PROTOCOLS
from tomosift.evaluation.cluster_matches import match_clusters
from tomosift.evaluation.known_structures import embed_known_structures, imaging_of_set
from tomosift.inference.classifier import Classifier
from tomosift.inference.model_files import load_classifier
from tomosift.inference.prediction import embed
from tomosift.learning.clustering import find_clusters, standardize_for_clustering
from tomosift.physics.imaging import ImagingRanges
from tomosift.simulation.structures.atlas import atlas_names
from tomosift.simulation.subtomograms import simulate_synthetic_complexes

COMPLEXES, EACH, REFERENCES = 60, 40, 30
TRIALS = 150
SHARPNESSES, NONES = (0.03, 0.04, 0.05, 0.06, 0.08, 0.1), (0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)


@dataclass(frozen=True)
class Options:
    """Where to keep simulations, and what to measure."""

    work: Path
    """Folder for sets and embeddings."""
    seeds: int = 3
    snrs: tuple[float, ...] = (0.1, 0.03)
    seed: int = 600


@dataclass(frozen=True)
class Trial:
    """Cosines of one group with known complexes, and which of them it is, -1 for none."""

    cosine: NDArray[np.float64]
    answer: int


def _imagings() -> dict[str, ImagingRanges]:
    at = PROTOCOLS["centered-ten"].imaging
    return {
        "0.1": at(0.1),
        "0.1-without-ctf": replace(at(0.1), has_ctf=False),
        "0.03": at(0.03),
        "0.3": replace(at(0.3), defocus_um=(3.0, 3.0)),
    }


def _embed_trial_set(
    model: Classifier, name: str, imaging: ImagingRanges, options: Options
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Embeddings and labels of particles, and mean embeddings of all complexes in both kinds of references."""
    kept = options.work / f"{name}.npz"
    if not kept.exists():
        made = simulate_synthetic_complexes(
            COMPLEXES, EACH, imaging, options.seed, options.work / name, seed_of_particles=options.seed + 1
        )
        adapted = model.adapt_to(made)
        embeddings = standardize_for_clustering(embed(adapted.embedder, made), model.plda)
        means = []
        for number, has_ctf in enumerate((True, False)):
            folder = options.work / f"{name}-{'with' if has_ctf else 'without'}"
            others = simulate_synthetic_complexes(
                COMPLEXES,
                REFERENCES,
                imaging_of_set(made, has_ctf),
                options.seed,
                folder,
                seed_of_particles=options.seed + 2 + number,
            )
            references = standardize_for_clustering(embed(adapted.embedder, others), model.plda)
            means.append(np.stack([references[others.label == k].mean(axis=0) for k in range(COMPLEXES)]))
        np.savez(kept, embeddings=embeddings, label=made.label, means=np.stack(means))
    with np.load(kept) as stored:
        return stored["embeddings"], stored["label"], stored["means"]


def _draw_trials(
    embeddings: NDArray[np.float64], label: NDArray[np.int64], means: NDArray[np.float64]
) -> Iterator[Trial]:
    rng = np.random.default_rng(0)
    for _ in range(TRIALS):
        count, members, known = int(rng.integers(4, 17)), int(rng.choice([10, 20, 40])), int(rng.choice([8, 16, 30]))
        present = rng.permutation(COMPLEXES)[:count]
        absent = rng.permutation(np.setdiff1d(np.arange(COMPLEXES), present))
        references = np.concatenate([present[: count // 2], absent])[:known]
        groups = [embeddings[rng.permutation(np.flatnonzero(label == k))[:members]].mean(axis=0) for k in present]
        mean = (means[:, references] - means[:, references].mean(axis=1, keepdims=True)).mean(axis=0)
        cosine = _unit(np.stack(groups) - np.mean(groups, axis=0)) @ _unit(mean).T
        for row, k in zip(cosine, present, strict=True):
            column = np.flatnonzero(references == k)
            yield Trial(row, int(column[0]) if len(column) else -1)


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _probability(trial: Trial, sharpness: float, none: float) -> NDArray[np.float64]:
    logits = np.append(trial.cosine, none) / sharpness
    odds = np.exp(logits - logits.max())
    return np.asarray(odds / odds.sum())


def fit(model: Classifier, options: Options) -> None:
    """Print the constants under which the true complexes are most likely, and the accuracy of the matches."""
    trials = {
        name: list(_draw_trials(*_embed_trial_set(model, name, imaging, options)))
        for name, imaging in _imagings().items()
    }
    everything = [one for part in trials.values() for one in part]

    def surprise(pair: tuple[float, float]) -> float:
        return -float(np.mean([np.log(_probability(one, *pair)[one.answer]) for one in everything]))

    best = min(itertools.product(SHARPNESSES, NONES), key=surprise)
    print(f"sharpness {best[0]:g}, none {best[1]:g}, mean surprise {surprise(best):.3f}", flush=True)
    for name, part in trials.items():
        predicted = [_probability(one, *best) for one in part]
        right = np.array([p.argmax() == one.answer % len(p) for p, one in zip(predicted, part, strict=True)])
        is_confident = np.array([p.max() >= 0.8 for p in predicted])
        known = [one for one in part if one.answer >= 0]
        first = np.mean([one.cosine.argmax() == one.answer for one in known])
        print(f"SNR {name}: right {right.mean():.3f}, of those above 0.8 {right[is_confident].mean():.3f}; "
              f"known ones first among known {first:.3f}", flush=True)  # fmt: skip


def measure(model: Classifier, options: Options) -> None:
    """Print how clusters of real structures agree with their classes, and how many suggested names are right."""
    for name, snr, seed in itertools.product(("few-shot", "few-shot-all"), options.snrs, range(options.seeds)):
        test = build_data(PROTOCOLS[name], snr, seed, options.work / f"{name}-{snr:g}-{seed}").test
        adapted = model.adapt_to(test)
        embeddings = standardize_for_clustering(embed(adapted.embedder, test), model.plda)
        found = find_clusters(embeddings)
        count = found.probability.shape[1]
        members = [np.flatnonzero(found.label == c) for c in range(count)]
        most = [np.bincount(test.label[rows]).argmax() for rows in members]
        purity = np.array([np.mean(test.label[rows] == k) for rows, k in zip(members, most, strict=True)])
        known = embed_known_structures(adapted, atlas_names(), test, options.work / f"known-{test.box_size}")
        matches = match_clusters(embeddings, found.label, count, known)
        names = np.array([(*known.names, "")[k] for k in matches.argmax(axis=1)])
        true = np.array([test.class_names[k] for k in most])
        named = names != ""
        size = np.array([len(rows) for rows in members])
        stable = found.stability >= 0.5
        index = adjusted_rand_score(test.label, found.label)
        whole, steady = (np.average(purity[rows], weights=size[rows]) for rows in (size > 0, stable))
        print(f"{name}, SNR {snr:g}, seed {seed}: {count} clusters of {len(test.class_names)} classes, adjusted Rand "
              f"index {index:.3f}; purity {whole:.3f}, of those with stability above 0.5 {steady:.3f}; "
              f"named {named.sum()}, right {(names == true)[named].sum()}", flush=True)  # fmt: skip


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Fit and measure."""
    model = load_classifier(Path("general"))
    with torch.inference_mode():
        fit(model, options)
        measure(model, options)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

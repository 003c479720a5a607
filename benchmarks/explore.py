"""How good are clusters without labels, and the names that `tomosift explore` suggests for them?

    ./dev bench explore --work FOLDER

Constants of `tomosift.evaluation.cluster_matches` are fitted to synthetic complexes: groups of 10 to 40 particles of
one of them, some of which are among the known ones. Clusters and their names are then measured on the real structures
of the protocols `few-shot` and `few-shot-all`, whose complexes no training has used, against their true classes. Sets
and embeddings are kept below --work.
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
    """Where to keep what was simulated."""

    work: Path
    """Folder for sets and embeddings."""
    seeds: int = 3
    snrs: tuple[float, ...] = (0.1, 0.03)
    seed: int = 600


@dataclass(frozen=True)
class Asked:
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


def _places(model: Classifier, name: str, imaging: ImagingRanges, options: Options) -> tuple[NDArray[np.float64], ...]:
    """Places and labels of particles to be named, and mean places of all complexes in both kinds of references."""
    kept = options.work / f"{name}.npz"
    if not kept.exists():
        made = simulate_synthetic_complexes(
            COMPLEXES, EACH, imaging, options.seed, options.work / name, seed_of_particles=options.seed + 1
        )
        adapted = model.adapt_to(made)
        places = standardize_for_clustering(embed(adapted.embedder, made), model.plda)
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
            shown = standardize_for_clustering(embed(adapted.embedder, others), model.plda)
            means.append(np.stack([shown[others.label == k].mean(axis=0) for k in range(COMPLEXES)]))
        np.savez(kept, places=places, label=made.label, means=np.stack(means))
    with np.load(kept) as stored:
        return stored["places"], stored["label"], stored["means"]


def _trials(places: NDArray[np.float64], label: NDArray[np.int64], means: NDArray[np.float64]) -> Iterator[Asked]:
    rng = np.random.default_rng(0)
    for _ in range(TRIALS):
        count, members, known = int(rng.integers(4, 17)), int(rng.choice([10, 20, 40])), int(rng.choice([8, 16, 30]))
        there = rng.permutation(COMPLEXES)[:count]
        strangers = rng.permutation(np.setdiff1d(np.arange(COMPLEXES), there))
        references = np.concatenate([there[: count // 2], strangers])[:known]
        groups = [places[rng.permutation(np.flatnonzero(label == k))[:members]].mean(axis=0) for k in there]
        mean = (means[:, references] - means[:, references].mean(axis=1, keepdims=True)).mean(axis=0)
        cosine = _unit(np.stack(groups) - np.mean(groups, axis=0)) @ _unit(mean).T
        for row, k in zip(cosine, there, strict=True):
            place = np.flatnonzero(references == k)
            yield Asked(row, int(place[0]) if len(place) else -1)


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _probability(asked: Asked, sharpness: float, none: float) -> NDArray[np.float64]:
    logits = np.append(asked.cosine, none) / sharpness
    odds = np.exp(logits - logits.max())
    return np.asarray(odds / odds.sum())


def fit(model: Classifier, options: Options) -> None:
    """Print the constants under which the answers are likeliest, and how far to trust them."""
    asked = {name: list(_trials(*_places(model, name, imaging, options))) for name, imaging in _imagings().items()}
    everything = [one for part in asked.values() for one in part]

    def surprise(pair: tuple[float, float]) -> float:
        return -float(np.mean([np.log(_probability(one, *pair)[one.answer]) for one in everything]))

    best = min(itertools.product(SHARPNESSES, NONES), key=surprise)
    print(f"sharpness {best[0]:g}, none {best[1]:g}, mean surprise {surprise(best):.3f}", flush=True)
    for name, part in asked.items():
        told = [_probability(one, *best) for one in part]
        right = np.array([p.argmax() == one.answer % len(p) for p, one in zip(told, part, strict=True)])
        sure = np.array([p.max() >= 0.8 for p in told])
        known = [one for one in part if one.answer >= 0]
        first = np.mean([one.cosine.argmax() == one.answer for one in known])
        print(f"SNR {name}: right {right.mean():.3f}, of those above 0.8 {right[sure].mean():.3f}; "
              f"known ones first among known {first:.3f}", flush=True)  # fmt: skip


def measure(model: Classifier, options: Options) -> None:
    """Print how clusters of real structures fit their classes, and how many of them are named right."""
    for name, snr, seed in itertools.product(("few-shot", "few-shot-all"), options.snrs, range(options.seeds)):
        boxes = build_data(PROTOCOLS[name], snr, seed, options.work / f"{name}-{snr:g}-{seed}").test
        adapted = model.adapt_to(boxes)
        places = standardize_for_clustering(embed(adapted.embedder, boxes), model.plda)
        found = find_clusters(places)
        count = found.probability.shape[1]
        members = [np.flatnonzero(found.label == c) for c in range(count)]
        most = [np.bincount(boxes.label[rows]).argmax() for rows in members]
        purity = np.array([np.mean(boxes.label[rows] == k) for rows, k in zip(members, most, strict=True)])
        known = embed_known_structures(adapted, atlas_names(), boxes, options.work / f"known-{boxes.box_size}")
        told = match_clusters(places, found.label, count, known)
        names = np.array([(*known.names, "")[k] for k in told.argmax(axis=1)])
        true = np.array([boxes.class_names[k] for k in most])
        named = names != ""
        size = np.array([len(rows) for rows in members])
        stable = found.stability >= 0.5
        index = adjusted_rand_score(boxes.label, found.label)
        whole, steady = (np.average(purity[rows], weights=size[rows]) for rows in (size > 0, stable))
        print(f"{name}, SNR {snr:g}, seed {seed}: {count} clusters of {len(boxes.class_names)} classes, adjusted Rand "
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

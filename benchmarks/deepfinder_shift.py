"""Measure on another simulator: do embeddings of one class cluster in DeepFinder's tomograms?

    ./dev bench deepfinder_shift --data ../shared/data --work FOLDER

Subtomograms are extracted at the listed positions: six particles of each of nine unnamed classes in two tomograms. No
label is used. There are as many clusters as classes (k-means, mean of 20 starts). Their purity is the share of
particles of the most frequent class of their cluster. With so few particles it is far above zero for random labels,
whose purity is printed as well. A second number is the share of particles whose nearest embedding is of the same class.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from scan import deepfinder_tomograms
from sklearn.cluster import KMeans

from tomosift import methods
from tomosift.data.extraction.extract import extract
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.model_files import load_classifier
from tomosift.inference.prediction import embed_volumes
from tomosift.methods.contrastive import Config
from tomosift.models.embedder import Embedder
from tomosift.models.encoders import build_encoder
from tomosift.train.loop import Training

SPACING_ANGSTROM, BOX_SIZE, STARTS = 10.0, 32, 20


@dataclass(frozen=True)
class Options:
    """Input, output and number of steps."""

    data: Path
    """Folder of the real files that the tests use."""
    work: Path
    """Folder for tomograms, sets and the run."""
    steps: int = 200
    """Of pretraining on these particles."""


def compute_purity(cluster: NDArray[np.int64], true: NDArray[np.int64]) -> float:
    """Return the share of particles of the most frequent class of their cluster."""
    return sum(int(np.bincount(true[cluster == k]).max()) for k in np.unique(cluster)) / len(true)


def report(name: str, embeddings: NDArray[np.float32], true: NDArray[np.int64]) -> None:
    """Print purity and agreement of nearest neighbors."""
    standardized = (embeddings - embeddings.mean(0)) / np.maximum(embeddings.std(0), 1e-6)
    standardized /= np.maximum(np.linalg.norm(standardized, axis=1, keepdims=True), 1e-9)
    count, rng = len(np.unique(true)), np.random.default_rng(0)
    clusters = [KMeans(count, n_init=1, random_state=seed).fit_predict(standardized) for seed in range(STARTS)]
    by_chance = np.mean([compute_purity(labels, rng.permutation(true)) for labels in clusters])
    cosine = standardized @ standardized.T
    np.fill_diagonal(cosine, -np.inf)
    nearest = (true[cosine.argmax(1)] == true).mean()
    mean = np.mean([compute_purity(labels, true) for labels in clusters])
    print(f"{name}: purity {mean:.2f} (by chance {by_chance:.2f}), nearest of the same class {nearest:.2f}", flush=True)


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Extract, embed and print."""
    tomograms, lists = deepfinder_tomograms(options.data, options.work / "tomograms")
    parts = [
        extract(
            lists[number],
            tomograms,
            options.work / f"boxes-{number}",
            voxel_spacing_angstrom=SPACING_ANGSTROM,
            box_size=BOX_SIZE,
        )
        for number in lists
    ]
    volume = np.concatenate([part.volumes(np.arange(len(part))) for part in parts])
    names = np.concatenate([part.particles.class_name.astype(str) for part in parts])
    true = np.unique(names, return_inverse=True)[1]
    print(f"{len(volume)} particles of {true.max() + 1} classes")

    def embed_all(embedder: Embedder) -> NDArray[np.float32]:
        return np.asarray(embed_volumes(embedder, lambda rows: volume[rows], len(volume)))

    tensor = torch.from_numpy(volume)
    report("general", embed_all(Embedder.fit(load_classifier(Path("general")).encoder.eval(), tensor)), true)
    torch.manual_seed(0)
    report("random weights", embed_all(Embedder.fit(build_encoder("radial").eval(), tensor)), true)
    folder = options.work / "pretrained"
    _pretrain(parts[0], folder, options.steps)
    report("general, pretrained on the first tomogram's", embed_all(load_classifier(folder).embedder), true)


def _pretrain(subtomograms: Subtomograms, folder: Path, steps: int) -> None:
    config = Config(training=Training(steps=steps, batch_size=len(subtomograms)))
    methods.train("contrastive", config, TrainingSets(subtomograms, subtomograms, subtomograms), folder, 0)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

"""Somebody else's simulator: do particles of one kind lie together in DeepFinder's tomograms?

    ./dev bench deepfinder_shift --data ../shared/data --work FOLDER

Six particles of each of nine unnamed classes in two tomograms, boxes cut at the listed places; no label is given to
anything. Clusters are as many as classes (k-means, mean of 20 starts). Their purity is the share of particles that are
of the class most met in their cluster; among so few that is far above zero for labels drawn at random, which are
printed as well. Beside it, how often the particle nearest in embedding is of the same class.
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
from tomosift.inference.prediction import embed
from tomosift.methods.contrastive import Config
from tomosift.models.encoder import Encoder
from tomosift.train.loop import Training

SPACING_ANGSTROM, BOX_SIZE, STARTS = 10.0, 32, 20


@dataclass(frozen=True)
class Options:
    """Where things are."""

    data: Path
    """Folder of the real files, as for the tests."""
    work: Path
    """Folder for tomograms, sets and the run."""
    steps: int = 200
    """Of pretraining on these particles."""


def purity(found: NDArray[np.int64], true: NDArray[np.int64]) -> float:
    """Share of particles that are of the class most met in their cluster."""
    return sum(int(np.bincount(true[found == k]).max()) for k in np.unique(found)) / len(true)


def show(name: str, embeddings: NDArray[np.float32], true: NDArray[np.int64]) -> None:
    """Print purity and agreement of nearest neighbors."""
    places = (embeddings - embeddings.mean(0)) / np.maximum(embeddings.std(0), 1e-6)
    places /= np.maximum(np.linalg.norm(places, axis=1, keepdims=True), 1e-9)
    count, rng = len(np.unique(true)), np.random.default_rng(0)
    found = [KMeans(count, n_init=1, random_state=seed).fit_predict(places) for seed in range(STARTS)]
    by_chance = np.mean([purity(labels, rng.permutation(true)) for labels in found])
    alike = places @ places.T
    np.fill_diagonal(alike, -np.inf)
    nearest = (true[alike.argmax(1)] == true).mean()
    mean = np.mean([purity(labels, true) for labels in found])
    print(f"{name}: purity {mean:.2f} (by chance {by_chance:.2f}), nearest of the same class {nearest:.2f}", flush=True)


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Cut, embed, print."""
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

    def embedded(encoder: Encoder) -> NDArray[np.float32]:
        return np.asarray(embed(encoder.eval(), lambda rows: volume[rows], len(volume)))

    plain = torch.from_numpy(volume)
    show("general", embedded(starting_encoder(Path("general"), "radial", plain)[1]), true)
    torch.manual_seed(0)
    show("random weights", embedded(starting_encoder(None, "radial", plain)[1]), true)
    folder = options.work / "pretrained"
    _pretrain(parts[0], folder, options.steps)
    encoder = load_classifier(folder).encoder
    show("general, pretrained on the first tomogram's", embedded(encoder), true)


def _pretrain(boxes: Subtomograms, folder: Path, steps: int) -> None:
    config = Config(training=Training(steps=steps, batch_size=len(boxes)))
    methods.train("contrastive", config, TrainingSets(boxes, boxes, boxes), folder, 0)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

"""Smoke test on real subtomograms: ribosomes, microtubule and background from one example each.

    ./dev bench real_boxes --data ../shared/data --work FOLDER

Ribosomes come from one instrument; microtubule and background come from one tomogram of another, and their boxes
overlap. Noise alone separates the ribosomes from the rest. The number for three classes shows that real files can be
read, and nothing about accuracy. Microtubule against background, in one tomogram, is the fairer test. `averages` is
what `tomosift identify` does, with an assumed tilt range of -60 to 60 degrees. Ten ribosomes less an example give no
average.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray

from tomosift.averaging.alignment_input import AlignmentInput, prepare_alignment
from tomosift.averaging.multireference_alignment import refine_labels
from tomosift.data.extraction.import_subtomograms import import_subtomograms
from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.inference.classifier import fit_embedder
from tomosift.inference.model_files import load_classifier, shipped_decoder
from tomosift.inference.prediction import classify_embeddings, embed
from tomosift.inference.prototypes import enroll_classes
from tomosift.io.subtomogram_files import open_subtomogram_files
from tomosift.particles import Particles

NAMES = ("ribosome", "microtubule", "background")
SPACING_ANGSTROM, BOX_SIZE, DRAWS = 12.0, 28, 20
DRAWS_OF_AVERAGES = 5
TILTS = np.array([[-60.0, 60.0]])


@dataclass(frozen=True)
class Options:
    """Input, output and model."""

    data: Path
    """Folder of the real files that the tests use."""
    work: Path
    """Folder for the sets."""
    model: Path = Path("general")


def import_real_set(options: Options) -> Subtomograms:
    """Import the subtomograms of both instruments into one set with classes."""
    folder = options.work / "all"
    if (folder / "set.json").exists():
        return open_subtomograms(folder)
    volumes, names = [], list[str]()
    for source in ("derived_real_ribosomes", "derived_real_microtubule"):
        part = import_subtomograms(
            open_subtomogram_files(options.data / "subtomograms" / source),
            options.work / source,
            voxel_spacing_angstrom=SPACING_ANGSTROM,
            box_size=BOX_SIZE,
        )
        volumes.append(part.volumes(np.arange(len(part))))
        names += ["ribosome" if one.startswith("ribosome") else str(one) for one in part.particles.class_name]
    particles = Particles.create(["real"] * len(names), np.zeros((len(names), 3)), class_name=names)
    with SubtomogramWriter(folder, BOX_SIZE, SPACING_ANGSTROM, class_names=NAMES) as writer:
        writer.append(np.concatenate(volumes), particles, TILTS.repeat(len(names), axis=0))
    return open_subtomograms(folder)


def report_accuracies(options: Options, class_names: tuple[str, ...], subtomograms: Subtomograms) -> None:
    """Print mean and range of the accuracy over draws of one example each."""
    model = load_classifier(options.model)
    embedder = fit_embedder(model.encoder, subtomograms)
    embeddings = embed(embedder, subtomograms)
    label = np.array([class_names.index(one) for one in subtomograms.particles.class_name])
    by_embeddings, by_averages = [], []
    alignment = prepare_alignment(embedder, subtomograms)
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        support = np.array([rng.choice(np.flatnonzero(label == k)) for k in range(len(class_names))])
        queries = np.setdiff1d(np.arange(len(label)), support)
        classifier = enroll_classes(model, class_names, embeddings[support], label[support], embeddings)
        probability = classify_embeddings(classifier, embeddings).probabilities
        predicted = probability[queries].argmax(1)
        by_embeddings.append([(predicted[label[queries] == k] == k).mean() for k in range(len(class_names))])
        if draw < DRAWS_OF_AVERAGES:
            predicted = _classify_by_averages(subtomograms, alignment, probability, support, label[support])[queries]
            by_averages.append([(predicted[label[queries] == k] == k).mean() for k in range(len(class_names))])
    first = by_embeddings[:DRAWS_OF_AVERAGES]
    for row, each in (("embeddings", by_embeddings), ("the first draws", first), ("averages", by_averages)):
        shares = np.array(each)
        for k, one in enumerate(class_names):
            low, high = shares[:, k].min(), shares[:, k].max()
            print(f"  {row}, {one}: {shares[:, k].mean():.2f} ({low:.2f} to {high:.2f}) right")
        print(f"  {row}, mean over classes: {shares.mean():.3f}", flush=True)


def _classify_by_averages(
    subtomograms: Subtomograms,
    alignment: AlignmentInput,
    probability: NDArray[np.float64],
    support: NDArray[np.int64],
    support_label: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Classify all particles by the class averages that follow from a support set."""
    label, log_probability = probability.argmax(1), np.log(np.maximum(probability, 1e-12))
    label[support] = support_label
    is_labeled = np.isin(np.arange(len(subtomograms)), support)
    averages = refine_labels(subtomograms, alignment, label, is_labeled, log_probability, shipped_decoder()).averages
    return np.asarray(averages.update_posterior(log_probability, alignment.spectra).argmax(1))


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Import the subtomograms, enroll one example of each class, classify and print."""
    subtomograms = import_real_set(options)
    count = len(subtomograms)
    print(f"{DRAWS} draws of one example each, {count} boxes of {BOX_SIZE}^3 at {SPACING_ANGSTROM:g} A")
    for class_names in (NAMES, NAMES[1:]):
        print(", ".join(class_names))
        rows = np.flatnonzero(np.isin(subtomograms.particles.class_name.astype(str), class_names))
        report_accuracies(options, class_names, subtomograms.select(rows))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

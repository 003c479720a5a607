"""A smoke test on real boxes: one example each names real ribosomes, microtubule and background.

    ./dev bench real_boxes --data ../shared/data --work FOLDER

Ribosomes come from one instrument, microtubule and background from one tomogram of another, and its boxes overlap:
noise alone tells the ribosomes from the rest; the three-way number says that real files go through, and nothing about
accuracy. Microtubule against background is the fairer half, of one tomogram. `averages` is what `tomosift identify`
does, with tilts to 60 degrees taken for granted; ten ribosomes less an example make no average.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from tomosift.averaging.alignment_input import AlignmentInput, prepare_alignment
from tomosift.averaging.multireference_alignment import refine_labels
from tomosift.data.extraction.import_subtomograms import import_subtomograms
from tomosift.inference.model_files import load_classifier, shipped_decoder
from tomosift.inference.prediction import classify_embeddings, embed
from tomosift.inference.prototypes import enroll_classes
from tomosift.io.subtomogram_files import open_subtomogram_files
from tomosift.models.encoder import BOXES_TO_PREPARE

NAMES = ("ribosome", "microtubule", "background")
SPACING_ANGSTROM, BOX_SIZE, DRAWS = 12.0, 28, 20
DRAWS_OF_AVERAGES = 5
TILTS = np.array([[-60.0, 60.0]])


@dataclass(frozen=True)
class Options:
    """Where things are."""

    data: Path
    """Folder of the real files, as for the tests."""
    work: Path
    """Folder for the sets."""
    model: Path = Path("general")


def accuracies(options: Options, wanted: tuple[str, ...], volume: NDArray[np.float32], name: NDArray[np.str_]) -> None:
    """Print mean and range over draws of one example each."""
    model = load_classifier(options.model)
    kept = np.isin(name, wanted)
    volume, name = volume[kept], name[kept]
    model.encoder.prepare(torch.from_numpy(volume[:BOXES_TO_PREPARE]))
    embeddings = embed(model.encoder, lambda rows: volume[rows], len(volume))
    label = np.array([wanted.index(one) for one in name])
    found, compared = [], []
    seen = prepare_alignment(lambda rows: volume[rows], TILTS.repeat(len(volume), axis=0), model.encoder)
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        shown = np.array([rng.choice(np.flatnonzero(label == k)) for k in range(len(wanted))])
        asked = np.setdiff1d(np.arange(len(label)), shown)
        classifier = enroll_classes(model, wanted, embeddings[shown], label[shown], embeddings)
        probability = classify_embeddings(classifier, embeddings).probabilities
        said = probability[asked].argmax(1)
        found.append([(said[label[asked] == k] == k).mean() for k in range(len(wanted))])
        if draw < DRAWS_OF_AVERAGES:
            said = _by_averages(volume, seen, probability, shown, label[shown])[asked]
            compared.append([(said[label[asked] == k] == k).mean() for k in range(len(wanted))])
    for row, each in (("embeddings", found), ("the first draws", found[:DRAWS_OF_AVERAGES]), ("averages", compared)):
        shares = np.array(each)
        for k, one in enumerate(wanted):
            low, high = shares[:, k].min(), shares[:, k].max()
            print(f"  {row}, {one}: {shares[:, k].mean():.2f} ({low:.2f} to {high:.2f}) named right")
        print(f"  {row}, mean over classes: {shares.mean():.3f}", flush=True)


def _by_averages(
    volume: NDArray[np.float32],
    seen: AlignmentInput,
    probability: NDArray[np.float64],
    shown: NDArray[np.int64],
    label: NDArray[np.int64],
) -> NDArray[np.int64]:
    first, said = probability.argmax(1), np.log(np.maximum(probability, 1e-12))
    first[shown] = label
    is_given = np.isin(np.arange(len(volume)), shown)
    tilts = TILTS.repeat(len(volume), axis=0)
    given = (first, is_given, said, shipped_decoder())
    averages = refine_labels(lambda rows: volume[rows], tilts, seen, *given).averages
    return np.asarray(averages.reconsidered(said, seen.spectra).argmax(1))


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Bring the boxes in, enrol one of each, print."""
    volumes, names = [], []
    for source in ("derived_real_ribosomes", "derived_real_microtubule"):
        boxes = import_subtomograms(
            open_subtomogram_files(options.data / "subtomograms" / source),
            options.work / source,
            voxel_spacing_angstrom=SPACING_ANGSTROM,
            box_size=BOX_SIZE,
        )
        volumes.append(boxes.volumes(np.arange(len(boxes))))
        names += ["ribosome" if one.startswith("ribosome") else str(one) for one in boxes.particles.class_name]
    volume, name = np.concatenate(volumes), np.array(names)
    print(f"{DRAWS} draws of one example each, {len(volume)} boxes of {BOX_SIZE}^3 at {SPACING_ANGSTROM:g} A")
    for wanted in (NAMES, NAMES[1:]):
        print(", ".join(wanted))
        accuracies(options, wanted, volume, name)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

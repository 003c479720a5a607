"""Train what makes masks in the shipped model ``general``, and measure masks of classes that no training has seen.

    ./dev bench masks --work FOLDER               simulate, train, put the decoder into the model, measure
    ./dev bench masks --work FOLDER --measure     measure the model that comes with the program again
    ./dev bench masks --work FOLDER --measure --model RUN

It learns from complexes that do not exist, crowded, under widely varied imaging; the encoder of ``general`` is left as
it is. It is measured on all structures of the atlas (unseen) and on other particles of some complexes that it learned
from (seen), under the conditions of the protocol `centered-ten`, and compared with what needs no training: a low-passed
box above a threshold, whose width and share of voxels are those that are best for complexes that do not exist. Masks
by averages of the classes are measured with the classes that one example each gives, of five structures or of all, and
with the true ones. Sets and runs are kept below --work, the table is written to FOLDER/masks.csv.
"""

import csv
import itertools
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from center_finder import conditions
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from tomosift.averaging.alignment_input import prepare_alignment
from tomosift.averaging.multireference_alignment import refine_labels
from tomosift.data.batches import Batch, read_batch
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.evaluation.benchmark.protocols import PROTOCOLS
from tomosift.files import write_json, written_then_renamed
from tomosift.inference.classifier import Classifier
from tomosift.inference.dense_crf import PUBLISHED, CrfConfig
from tomosift.inference.model_files import load_classifier, model_digest, save_classifier, shipped_decoder
from tomosift.inference.prediction import MASK_THRESHOLD, ClassPosterior, classify_embeddings, embed, predict_masks
from tomosift.inference.prototypes import enroll_classes
from tomosift.models.center_finder import weights_path
from tomosift.models.decoders import UNet, shift_back
from tomosift.models.encoder import BOXES_TO_PREPARE, Encoder
from tomosift.models.losses import soft_dice_loss
from tomosift.models.recentering import recenter
from tomosift.physics.imaging import ImagingRanges
from tomosift.simulation.structures.atlas import atlas_names
from tomosift.simulation.subtomograms import (
    SubtomogramSetConfig,
    simulate_subtomograms,
    simulate_synthetic_complexes,
)
from tomosift.train.loop import Training, fit
from tomosift.train.run import Run

FOLDER = weights_path().parent / "shipped" / "general"
WAYS = 5
WIDTHS, SHARES = (1.0, 1.5, 2.0, 3.0), (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15)


@dataclass(frozen=True)
class Options:
    """How much to simulate and how long to train."""

    work: Path
    """Folder for simulated sets and the run."""
    sets: int = 6
    complexes: int = 120
    per_class: int = 50
    training: Training = field(default_factory=lambda: Training(5000, 24, 2e-3))
    snrs: tuple[float, ...] = (0.1, 0.03)
    asked_per_class: int = 100
    draws: int = 8
    """Of five classes and an example of each."""
    crf: bool = False
    """Also refine masks by dense random fields, which is slow."""
    seed: int = 300
    model: Path = Path("general")
    measure: bool = False
    """Only measure."""


def random_set(options: Options, seed: int, imaging: ImagingRanges, folder: Path) -> Subtomograms:
    """Boxes with masks of complexes that no other set has."""
    return simulate_synthetic_complexes(options.complexes, options.per_class, imaging, seed, folder, masks=True)


def dice(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Dice coefficient of each of n masks."""
    axes = (1, 2, 3)
    return np.asarray(2 * (found & true).sum(axes) / np.maximum(found.sum(axes) + true.sum(axes), 1))


def above_threshold(volume: NDArray[np.float32], width_voxels: float, share: float) -> NDArray[np.bool_]:
    """The densest share of voxels of each low-passed box."""
    blurred = np.stack([gaussian_filter(box, width_voxels) for box in volume])
    return np.asarray(blurred > np.quantile(blurred, 1 - share, axis=(1, 2, 3), keepdims=True))


def masks_by(
    model: Classifier, boxes: Subtomograms, crf: CrfConfig | None = None, named: ClassPosterior | None = None
) -> NDArray[np.bool_]:
    found = predict_masks(model, boxes.volumes, len(boxes), crf=crf, named=named)
    return np.concatenate([part > MASK_THRESHOLD for part in found])


def masks_by_averages(
    model: Classifier, boxes: Subtomograms, rng: np.random.Generator, is_told: bool
) -> tuple[NDArray[np.bool_], float]:
    """Masks by averages of classes that one example each names, or of the true ones; and the share named right."""
    examples = np.array([rng.choice(np.flatnonzero(boxes.label == k)) for k in range(len(boxes.class_names))])
    embeddings, count = embed(model.encoder, boxes.volumes, len(boxes)), len(boxes.class_names)
    known = enroll_classes(model, boxes.class_names, embeddings[examples], boxes.label[examples], embeddings)
    probability = classify_embeddings(known, embeddings).probabilities
    is_given = np.full(len(boxes), is_told)
    is_given[examples] = True
    label = np.where(is_given, boxes.label, probability.argmax(axis=1))
    said = np.log(np.maximum(np.eye(count)[boxes.label] if is_told else probability, 1e-12))
    seen = prepare_alignment(boxes.volumes, boxes.tilt_range_deg, known.encoder)
    given = (label, is_given, said, shipped_decoder())
    averages = refine_labels(boxes.volumes, boxes.tilt_range_deg, seen, *given).averages
    known.keep(averages)
    said = np.exp(said if is_told else averages.reconsidered(said, seen.spectra))
    made = masks_by(known, boxes, named=ClassPosterior(said, boxes.tilt_range_deg))
    asked = np.setdiff1d(np.arange(len(boxes)), examples)
    return made, float((said.argmax(axis=1) == boxes.label)[asked].mean())


def asked_of(options: Options, snr: float) -> dict[str, Subtomograms]:
    """Particles of classes that were not learned from, and others of classes that were."""
    imaging, count = PROTOCOLS["centered-ten"].imaging(snr), len(atlas_names())
    unseen = SubtomogramSetConfig(atlas_names(), options.asked_per_class, ranges=imaging, seed=7)
    return {
        "unseen": simulate_subtomograms(unseen, options.work / f"atlas-{snr:g}", masks=True),
        "seen": simulate_synthetic_complexes(
            count,
            options.asked_per_class,
            imaging,
            options.seed,
            options.work / f"seen-{snr:g}",
            masks=True,
            seed_of_particles=7,
        ),
    }


def measure(model: Classifier, options: Options) -> list[dict[str, str | float]]:
    """Mean and standard deviation of Dice per class and row."""
    table: list[dict[str, str | float]] = []
    few = replace(options, per_class=2)
    for snr in options.snrs:
        imaging = PROTOCOLS["centered-ten"].imaging(snr)
        others = random_set(few, options.seed + 50, imaging, options.work / f"threshold-{snr:g}")
        known, wanted = others.volumes(np.arange(len(others))), others.masks(np.arange(len(others)))
        best = max(
            itertools.product(WIDTHS, SHARES), key=lambda pair: dice(above_threshold(known, *pair), wanted).mean()
        )
        for group, asked in asked_of(options, snr).items():
            volume, true = asked.volumes(np.arange(len(asked))), asked.masks(np.arange(len(asked)))
            # As `tomosift identify` does: it tells how far off the middle particles lie.
            model.encoder.prepare(torch.from_numpy(asked.volumes(asked.spaced_rows(BOXES_TO_PREPARE))))
            rows = {
                "decoder": masks_by(model, asked),
                f"low-pass of {best[0]:g} voxels, densest {best[1]:.0%}": above_threshold(volume, *best),
            }
            if options.crf:
                rows["decoder, published CRF"] = masks_by(model, asked, PUBLISHED)
                rows["decoder, CRF"] = masks_by(model, asked, CrfConfig())
            scored = {row: dice(found, true) for row, found in rows.items()}
            if group == "unseen":
                scored |= by_averages(model, asked, true, options.draws)
            for row, scores in scored.items():
                classes = [("all", scores)] + [(n, scores[asked.label == k]) for k, n in enumerate(asked.class_names)]
                for name, mine in classes:
                    numbers = {"dice": round(float(np.nanmean(mine)), 3), "deviation": round(float(np.nanstd(mine)), 3)}
                    table.append({"snr": snr, "classes": group, "row": row, "class": name, **numbers})
                print(f"SNR {snr:g}, {group}, {row}: {np.nanmean(scores):.3f}", flush=True)
    with written_then_renamed(options.work / "masks.csv") as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, table[0])
        writer.writeheader()
        writer.writerows(table)
    return table


def by_averages(
    model: Classifier, asked: Subtomograms, true: NDArray[np.bool_], draws: int
) -> dict[str, NDArray[np.float64]]:
    """Dice of each mask by averages: five classes at a time, all at once, and with the true classes.

    Examples count as well, as their masks are not told. A particle whose class was never drawn is NaN.
    """
    count, everything = len(asked.class_names), np.arange(len(asked))
    few = np.full((draws, len(asked)), np.nan)
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        rows = np.flatnonzero(np.isin(asked.label, rng.choice(count, WAYS, replace=False)))
        made, right = masks_by_averages(model, _alone(asked, rows), rng, is_told=False)
        few[draw, rows] = dice(made, true[rows])
        print(f"{WAYS} classes, draw {draw}: {right:.3f} named right, Dice {np.nanmean(few[draw]):.3f}", flush=True)
    made, right = masks_by_averages(model, asked, np.random.default_rng(0), is_told=False)
    print(f"{count} classes: {right:.3f} named right", flush=True)
    told, _ = masks_by_averages(model, _alone(asked, everything), np.random.default_rng(0), is_told=True)
    seldom = np.isnan(few).all(axis=0)
    few[0, seldom] = 0
    return {
        f"averages, one example of {WAYS} classes": np.where(seldom, np.nan, np.nanmean(few, axis=0)),
        f"averages, one example of {count} classes": dice(made, true),
        "averages, true classes": dice(told, true),
    }


def _alone(boxes: Subtomograms, rows: NDArray[np.int64]) -> Subtomograms:
    """These particles with no class but their own."""
    part = boxes.select(rows)
    return part.with_labels(part.particles.class_name)


@dataclass(frozen=True)
class Mirrored:
    """Batches of several sets in turn; boxes and masks are mirrored at random, which leaves every wedge what it is."""

    sets: tuple[Subtomograms, ...]
    batch_size: int
    seed: int

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        boxes = self.sets[step % len(self.sets)]
        drawn = read_batch(boxes, rng.choice(len(boxes), self.batch_size, replace=False), masks=True)
        volume, mask = drawn.volume, drawn.mask
        assert mask is not None
        for axis in (1, 2, 3):
            if rng.random() < 0.5:
                # Voxel 0 has no mirror image; a roll by one keeps the middle where it is.
                volume, mask = (part.flip(axis).roll(1, axis) for part in (volume, mask))
        return replace(drawn, volume=volume, mask=mask)


class Learner(nn.Module):
    """Soft Dice of the masks of each box, small particles as heavy as large ones; the encoder only finds the middle."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder.requires_grad_(False), UNet()

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        offset = self.encoder.offset(batch.volume)
        logits = shift_back(self.decoder.decode_centered(recenter(batch.volume, offset)), offset)
        assert batch.mask is not None
        return {"loss": soft_dice_loss(logits.float(), batch.mask, each_box=True)}


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Simulate, train, write and measure."""
    if options.measure:
        measure(load_classifier(options.model), options)
        return
    sets = [
        random_set(options, options.seed + number, conditions(number), options.work / "sets" / f"{number:02d}")
        for number in range(options.sets)
    ]
    base = load_classifier(Path("general"))
    asked = {
        key: value
        for key, value in asdict(options).items()
        if key not in ("work", "measure", "model", "snrs", "draws", "crf")
    }
    run = Run.open(options.work / "run", {**asked, "starts_from": model_digest(Path("general"))})
    torch.manual_seed(options.seed)
    learner = Learner(base.encoder)
    fit(learner, Mirrored(tuple(sets), options.training.batch_size, options.seed), options.training, run, options.seed)
    made = Classifier(base.encoder.requires_grad_(True), replace(base.card, decoder="unet"))
    made.head = base.head
    # Half precision halves the package and moves no mask.
    made.decoder = learner.decoder.half()
    save_classifier(FOLDER, made)
    table = measure(load_classifier(Path("general")), options)
    about = json.loads((FOLDER / "about.json").read_text())
    about["masks"] = {
        "made_by": "./dev bench masks --work FOLDER",
        "options": asked,
        "dice_on_the_atlas": {
            f"SNR {line['snr']:g}, {line['row']}": line["dice"]
            for line in table
            if line["class"] == "all" and line["classes"] == "unseen"
        },
    }
    write_json(FOLDER / "about.json", about)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

"""Train the decoder of the shipped model ``general``, and measure masks of classes that no training has used.

    ./dev weights masks --work FOLDER               simulate, train, put the decoder into the model, measure
    ./dev weights masks --work FOLDER --measure     measure the model of the package again
    ./dev weights masks --work FOLDER --measure --model RUN

The decoder is trained on synthetic complexes, crowded, under widely varied imaging conditions; the encoder of
``general`` is not changed. It is measured on all structures of the atlas (unseen) and on other particles of some of the
training complexes (seen), under the conditions of the protocol `centered-ten`. The baseline needs no training: a
low-passed volume above a threshold, with the width and share of voxels that are best for synthetic complexes. Masks by
class averages are measured with the classes from one example each, of five structures or of all, and with the true
classes. Sets and runs are kept below --work; the table is written to FOLDER/masks.csv.
"""

import csv
import itertools
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from center_finder import imaging_of_set
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
from tomosift.inference.masks import MASK_THRESHOLD, predict_masks
from tomosift.inference.model_files import load_classifier, model_digest, save_classifier, shipped_decoder
from tomosift.inference.prediction import classify_embeddings, embed
from tomosift.inference.prototypes import enroll_classes
from tomosift.models.center_finder import weights_path
from tomosift.models.decoders import UNet, shift_back
from tomosift.models.embedder import Embedder
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

FOLDER = weights_path().parent / "general"
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
    test_per_class: int = 100
    draws: int = 8
    """Draws of five classes with one example of each."""
    crf: bool = False
    """Also refine masks by dense random fields, which is slow."""
    seed: int = 300
    model: Path = Path("general")
    measure: bool = False
    """Only measure."""


def simulate_masked_set(options: Options, seed: int, imaging: ImagingRanges, folder: Path) -> Subtomograms:
    """Simulate subtomograms with masks of complexes that no other set has."""
    return simulate_synthetic_complexes(options.complexes, options.per_class, imaging, seed, folder, masks=True)


def compute_dice(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the Dice coefficient of each of n masks."""
    axes = (1, 2, 3)
    return np.asarray(2 * (predicted & true).sum(axes) / np.maximum(predicted.sum(axes) + true.sum(axes), 1))


def apply_threshold(volume: NDArray[np.float32], width_voxels: float, share: float) -> NDArray[np.bool_]:
    """Return the densest share of voxels of each low-passed volume."""
    blurred = np.stack([gaussian_filter(box, width_voxels) for box in volume])
    return np.asarray(blurred > np.quantile(blurred, 1 - share, axis=(1, 2, 3), keepdims=True))


def predict_all_masks(
    model: Classifier,
    subtomograms: Subtomograms,
    crf: CrfConfig | None = None,
    posterior: NDArray[np.float64] | None = None,
) -> NDArray[np.bool_]:
    """Predict the masks of a set."""
    parts = predict_masks(model, subtomograms, posterior, crf)
    return np.concatenate([part > MASK_THRESHOLD for part in parts])


def predict_masks_by_averages(
    model: Classifier, subtomograms: Subtomograms, rng: np.random.Generator, has_true_classes: bool
) -> tuple[NDArray[np.bool_], float]:
    """Predict masks by class averages, of classes from one example each or of the true classes.

    The second result is the share of the other particles that is classified right.
    """
    true, count = subtomograms.label, len(subtomograms.class_names)
    support = np.array([rng.choice(np.flatnonzero(true == k)) for k in range(count)])
    embeddings = embed(model.embedder, subtomograms)
    classifier = enroll_classes(model, subtomograms.class_names, embeddings[support], true[support], embeddings)
    probability = classify_embeddings(classifier, embeddings).probabilities
    is_labeled = np.full(len(subtomograms), has_true_classes)
    is_labeled[support] = True
    label = np.where(is_labeled, true, probability.argmax(axis=1))
    log_probability = np.log(np.maximum(np.eye(count)[true] if has_true_classes else probability, 1e-12))
    alignment = prepare_alignment(classifier.embedder, subtomograms)
    averages = refine_labels(subtomograms, alignment, label, is_labeled, log_probability, shipped_decoder()).averages
    if not has_true_classes:
        log_probability = averages.update_posterior(log_probability, alignment.spectra)
    posterior = np.exp(log_probability)
    masks = predict_all_masks(classifier.with_class_averages(averages), subtomograms, posterior=posterior)
    queries = np.setdiff1d(np.arange(len(subtomograms)), support)
    return masks, float((posterior.argmax(axis=1) == true)[queries].mean())


def simulate_test_sets(options: Options, snr: float) -> dict[str, Subtomograms]:
    """Simulate particles of classes that were not trained on, and other particles of classes that were."""
    imaging, count = PROTOCOLS["centered-ten"].imaging(snr), len(atlas_names())
    unseen = SubtomogramSetConfig(atlas_names(), options.test_per_class, ranges=imaging, seed=7)
    return {
        "unseen": simulate_subtomograms(unseen, options.work / f"atlas-{snr:g}", masks=True),
        "seen": simulate_synthetic_complexes(
            count,
            options.test_per_class,
            imaging,
            options.seed,
            options.work / f"seen-{snr:g}",
            masks=True,
            seed_of_particles=7,
        ),
    }


def measure(model: Classifier, options: Options) -> list[dict[str, str | float]]:
    """Measure mean and standard deviation of the Dice coefficient per class and row."""
    table: list[dict[str, str | float]] = []
    few = replace(options, per_class=2)
    for snr in options.snrs:
        imaging = PROTOCOLS["centered-ten"].imaging(snr)
        others = simulate_masked_set(few, options.seed + 50, imaging, options.work / f"threshold-{snr:g}")
        known, expected = others.volumes(np.arange(len(others))), others.masks(np.arange(len(others)))

        def score(pair: tuple[float, float], known: Any = known, expected: Any = expected) -> float:
            return float(compute_dice(apply_threshold(known, *pair), expected).mean())

        best = max(itertools.product(WIDTHS, SHARES), key=score)
        for group, test in simulate_test_sets(options, snr).items():
            volume, true = test.volumes(np.arange(len(test))), test.masks(np.arange(len(test)))
            # To the picking error of the set, as `tomosift identify` does.
            adapted = model if model.card.class_names else model.adapt_to(test)
            rows = {
                "decoder": predict_all_masks(adapted, test),
                f"low-pass of {best[0]:g} voxels, densest {best[1]:.0%}": apply_threshold(volume, *best),
            }
            if options.crf:
                rows["decoder, published CRF"] = predict_all_masks(adapted, test, PUBLISHED)
                rows["decoder, CRF"] = predict_all_masks(adapted, test, CrfConfig())
            scored = {row: compute_dice(masks, true) for row, masks in rows.items()}
            if group == "unseen":
                scored |= measure_averages(adapted, test, true, options.draws)
            for row, scores in scored.items():
                classes = [("all", scores)] + [(n, scores[test.label == k]) for k, n in enumerate(test.class_names)]
                for name, mine in classes:
                    numbers = {"dice": round(float(np.nanmean(mine)), 3), "deviation": round(float(np.nanstd(mine)), 3)}
                    table.append({"snr": snr, "classes": group, "row": row, "class": name, **numbers})
                print(f"SNR {snr:g}, {group}, {row}: {np.nanmean(scores):.3f}", flush=True)
    with written_then_renamed(options.work / "masks.csv") as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, table[0])
        writer.writeheader()
        writer.writerows(table)
    return table


def measure_averages(
    model: Classifier, test: Subtomograms, true: NDArray[np.bool_], draws: int
) -> dict[str, NDArray[np.float64]]:
    """Measure the Dice coefficient of each mask by averages: five classes at a time, all at once, and the true classes.

    Examples count as well, since their masks are not given. A particle whose class was never drawn is NaN.
    """
    count = len(test.class_names)
    few = np.full((draws, len(test)), np.nan)
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        rows = np.flatnonzero(np.isin(test.label, rng.choice(count, WAYS, replace=False)))
        masks, right = predict_masks_by_averages(model, _select_classes(test, rows), rng, False)
        few[draw, rows] = compute_dice(masks, true[rows])
        print(f"{WAYS} classes, draw {draw}: {right:.3f} right, Dice {np.nanmean(few[draw]):.3f}", flush=True)
    masks, right = predict_masks_by_averages(model, test, np.random.default_rng(0), False)
    print(f"{count} classes: {right:.3f} right", flush=True)
    everything = _select_classes(test, np.arange(len(test)))
    by_true_classes, _ = predict_masks_by_averages(model, everything, np.random.default_rng(0), True)
    is_never_drawn = np.isnan(few).all(axis=0)
    few[0, is_never_drawn] = 0
    return {
        f"averages, one example of {WAYS} classes": np.where(is_never_drawn, np.nan, np.nanmean(few, axis=0)),
        f"averages, one example of {count} classes": compute_dice(masks, true),
        "averages, true classes": compute_dice(by_true_classes, true),
    }


def _select_classes(subtomograms: Subtomograms, rows: NDArray[np.int64]) -> Subtomograms:
    """Select particles; the set has their classes alone."""
    part = subtomograms.select(rows)
    return part.with_labels(part.particles.class_name)


@dataclass(frozen=True)
class MirroredStream:
    """Batches of several sets in turn; volumes and masks are mirrored at random, which changes no missing wedge."""

    sets: tuple[Subtomograms, ...]
    batch_size: int
    seed: int

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        one = self.sets[step % len(self.sets)]
        drawn = read_batch(one, rng.choice(len(one), self.batch_size, replace=False), masks=True)
        volume, mask = drawn.volume, drawn.mask
        assert mask is not None
        for axis in (1, 2, 3):
            if rng.random() < 0.5:
                # Voxel 0 has no mirror image; a roll by one keeps the center voxel in place.
                volume, mask = (part.flip(axis).roll(1, axis) for part in (volume, mask))
        return replace(drawn, volume=volume, mask=mask)


class MaskObjective(nn.Module):
    """Soft Dice loss of each mask, with equal weight for small and large particles; the embedder only recenters."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.encoder, self.recentering = embedder.encoder.requires_grad_(False), embedder.recentering
        self.decoder = UNet()

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        offset = Embedder(self.encoder, self.recentering).estimate_offsets(batch.volume)
        logits = shift_back(self.decoder.decode_centered(recenter(batch.volume, offset)), offset)
        assert batch.mask is not None
        return {"loss": soft_dice_loss(logits.float(), batch.mask, each_box=True)}


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Simulate, train, write and measure."""
    if options.measure:
        measure(load_classifier(options.model), options)
        return
    sets = [
        simulate_masked_set(
            options, options.seed + number, imaging_of_set(number), options.work / "sets" / f"{number:02d}"
        )
        for number in range(options.sets)
    ]
    base = load_classifier(Path("general"))
    settings = {
        key: value
        for key, value in asdict(options).items()
        if key not in ("work", "measure", "model", "snrs", "draws", "crf")
    }
    run = Run.open(options.work / "run", {**settings, "starts_from": model_digest(Path("general"))})
    torch.manual_seed(options.seed)
    objective = MaskObjective(base.embedder)
    stream = MirroredStream(tuple(sets), options.training.batch_size, options.seed)
    fit(objective, stream, options.training, run, options.seed)
    base.encoder.requires_grad_(True)
    # Half precision halves the file and changes no mask.
    save_classifier(FOLDER, base.replace(replace(base.card, decoder="unet"), decoder=objective.decoder.half()))
    table = measure(load_classifier(Path("general")), options)
    about = json.loads((FOLDER / "about.json").read_text())
    about["masks"] = {
        "made_by": "./dev weights masks --work FOLDER",
        "options": settings,
        "dice_on_the_atlas": {
            f"SNR {line['snr']:g}, {line['row']}": line["dice"]
            for line in table
            if line["class"] == "all" and line["classes"] == "unseen"
        },
    }
    write_json(FOLDER / "about.json", about)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

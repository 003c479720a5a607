"""Measure picking in whole tomograms: detectors from many and from few picks, beside template matching.

    ./dev bench scan --work FOLDER                       simulated tomograms of eight classes at SNR 0.1
    ./dev bench scan --work FOLDER --data ../shared/data also DeepFinder's second tomogram, after its first

Simulated tomograms are crowded, with membranes and gold; some are for training, others for the score. The score is that
of `tomosift.evaluation.metrics.detection` against true positions. Picks for training lie 16 A from the true centers on
average. Template matching is an oracle: it uses the true structures, their tilt range and defocus, and for each class
the threshold that is best on one of the training tomograms. Results are written to FOLDER/scan.csv.
"""

import csv
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from torch import Tensor

from tomosift.data.extraction.tomogram_sources import collect_grids, open_tomograms
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.evaluation.benchmark.template_matching import template_bank
from tomosift.evaluation.metrics.detection import DetectionScores, score_detections
from tomosift.io.particles import read_particles
from tomosift.io.particles.deepfinder import read_particles as read_object_list
from tomosift.io.volumes import write_volume
from tomosift.particles import Particles
from tomosift.physics.imaging import lab_protocol
from tomosift.picking.config import Config
from tomosift.picking.detection import detect, extract_picks
from tomosift.picking.detector import read_radii, train_detector
from tomosift.picking.self_training import concatenate_picks
from tomosift.simulation.dataset import simulate_dataset
from tomosift.simulation.dataset_config import TomogramDatasetConfig
from tomosift.train.run import Run

DIAMETER = {
    "ribosome-70s": 260.0,
    "groel": 191.0,
    "proteasome-20s": 180.0,
    "rubisco": 150.0,
    "apoferritin": 134.0,
    "clpb": 236.0,
    "stnv-capsid": 190.0,
    "cav1-1": 244.0,
}
"""Diameters in Angstrom, as in `tomosift atlas list`; those of the capsid and the ribosome are rounded."""
RADIUS = {name: diameter / 2 for name, diameter in DIAMETER.items()}


@dataclass(frozen=True)
class Options:
    """What to measure."""

    work: Path
    """Folder for tomograms, detectors and results."""
    data: Path | None = None
    """Folder with DeepFinder's tomograms; without it they are left out."""
    tomograms: int = 6
    """Tomograms for training, and as many others for the score."""
    examples: tuple[int, ...] = (0, 5, 1)
    """Picks of each class for training, all in one tomogram; 0 takes all picks of all tomograms."""
    seeds: int = 3
    poses: int = 200
    """Poses of each template."""
    methods: tuple[str, ...] = ("detector", "scratch", "one-round", "templates")


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Simulate, train, pick and score."""
    training, test = (_simulate_world(options, seed) for seed in (77, 78))
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        for each in options.examples:
            if each == 0 and seed:
                continue
            picks = _draw_picks(training, each, seed)
            for method in options.methods:
                if method != "templates" and not (method == "one-round" and each == 0):
                    folder = options.work / f"{method}-{each or 'all'}-{seed}"
                    found, seconds = _pick_by_detector(method, picks, training, test, folder, seed)
                    score = score_detections(found, test.truth, RADIUS)
                    rows.append(_row("simulated", method, each, seed, score, seconds))
                    _write(options.work, rows)
    if "templates" in options.methods:
        found, seconds = _pick_by_templates(training, test, options)
        rows.append(_row("simulated", "templates", 0, 0, score_detections(found, test.truth, RADIUS), seconds))
        _write(options.work, rows)
    if options.data is not None:
        rows.append(_deepfinder(options))
        _write(options.work, rows)


@dataclass(frozen=True, eq=False)
class World:
    """Simulated tomograms, their picks and their true particles."""

    tomograms: dict[str, Tomogram]
    picks: Particles
    truth: Particles


def _simulate_world(options: Options, seed: int) -> World:
    config = TomogramDatasetConfig(
        classes=tuple(DIAMETER),
        particles_per_class=14,
        tomograms=options.tomograms,
        shape_zyx=(48, 220, 220),
        halves=False,
        labels=False,
        seed=seed,
    )
    paths = simulate_dataset(config, options.work / f"tomograms-{seed}")
    tomograms = open_tomograms(paths.tomograms)
    grids = collect_grids(tomograms)
    truth = read_particles(paths.particles_truth, grids=grids)
    picks = read_particles(paths.particles, grids=grids)
    return World(tomograms, replace(picks, class_name=truth.class_name), truth)


def _draw_picks(training: World, each: int, seed: int) -> Particles:
    picks = training.picks
    if not each:
        return picks
    rng = np.random.default_rng(seed)
    here = picks.tomogram == sorted(training.tomograms)[seed % len(learned.tomograms)]
    rows = [rng.permutation(np.flatnonzero(here & (picks.class_name == name)))[:each] for name in DIAMETER]
    return picks.select(np.sort(np.concatenate(rows)))


def _pick_by_detector(
    method: str, picks: Particles, training: World, test: World, folder: Path, seed: int
) -> tuple[Particles, float]:
    """Train a detector on these picks; return its picks in other tomograms, and the seconds for each tomogram."""
    config = Config(init=None) if method == "scratch" else Config()
    if method == "one-round":
        config = replace(config, self_training_rounds=0)
    run = Run.open(folder, {"method": method, "picks": list(map(str, picks.particle_id)), "seed": seed})
    model = train_detector(config, picks, training.tomograms, run, seed)
    started, radii = time.perf_counter(), read_radii(folder)
    parts = [extract_picks(detect(model, each), name, radii, 0.5) for name, each in test.tomograms.items()]
    return concatenate_picks(parts), (time.perf_counter() - started) / len(parts)


def _pick_by_templates(training: World, test: World, options: Options) -> tuple[Particles, float]:
    """Return the picks of template matching, and the seconds for each tomogram."""
    ranges = replace(lab_protocol(), max_tilt_deg=(60.0, 60.0), defocus_um=(3.75, 3.75))
    bank = template_bank(tuple(DIAMETER), ranges, 10.0, 32, options.poses)
    size = 16
    templates = torch.fft.irfftn(bank.reshape(*bank.shape[:2], size, size, size // 2 + 1), s=(size,) * 3, dim=(2, 3, 4))
    one = sorted(training.tomograms)[0]
    known = _candidates(training.tomograms[one], templates, one)
    true = training.truth.select(np.flatnonzero(training.truth.tomogram == one))
    started = time.perf_counter()
    everything = concatenate_picks([_candidates(each, templates, name) for name, each in test.tomograms.items()])
    seconds = (time.perf_counter() - started) / len(test.tomograms)
    best = {}
    for kind in DIAMETER:
        mine = known.select(np.flatnonzero(known.class_name == kind))
        levels = np.unique(np.quantile(mine.score, np.linspace(0, 1, 200)))
        scores = [
            score_detections(mine.select(np.flatnonzero(mine.score >= level)), true, {kind: RADIUS[kind]}).f1.value
            for level in levels
        ]
        best[kind] = levels[int(np.argmax(scores))]
    least = np.array([best[str(kind)] for kind in everything.class_name])
    return everything.select(np.flatnonzero(everything.score >= least)), seconds


@torch.inference_mode()
def _candidates(tomogram: Tomogram, templates: Tensor, name: str) -> Particles:
    """Peaks of the locally normalized correlation with the best pose of each class, at twice the voxel spacing; of two
    closer than 60 A the higher one of any class is kept."""
    volume = torch.from_numpy(np.array(tomogram.open().data, dtype=np.float32))
    spectrum = torch.fft.fftn(volume)
    half = [edge // 2 for edge in volume.shape]
    for axis, edge in enumerate(half):
        kept = torch.fft.fftfreq(edge, 1 / edge).long()
        spectrum = spectrum.index_select(axis, kept % volume.shape[axis])
    small = torch.fft.ifftn(spectrum).real
    size = templates.shape[-1]
    shape = tuple(edge + size for edge in half)
    padded = torch.zeros(shape)
    padded[: half[0], : half[1], : half[2]] = small - small.mean()
    spectrum = torch.fft.rfftn(padded)
    box = torch.ones(size, size, size) / size**3
    mean, square = (_correlated(torch.fft.rfftn(part), box, shape, half) for part in (padded, padded.square()))
    deviation = (square - mean.square()).clamp(min=1e-8).sqrt()
    best = torch.full((len(templates), *half), -torch.inf)
    for kind, posed in enumerate(templates):
        for template in posed:
            torch.maximum(best[kind], _correlated(spectrum, template, shape, half), out=best[kind])
    score = (best / deviation).numpy()
    return _peaks(score, name)


def _correlated(spectrum: Tensor, kernel: Tensor, shape: tuple[int, ...], half: list[int]) -> Tensor:
    size = kernel.shape[-1]
    grid = torch.zeros(shape)
    grid[:size, :size, :size] = kernel
    grid = grid.roll((-(size // 2),) * 3, (0, 1, 2))
    found: Tensor = torch.fft.irfftn(spectrum * torch.fft.rfftn(grid).conj(), s=shape)
    return found[: half[0], : half[1], : half[2]]


def _peaks(score: NDArray[np.float32], name: str) -> Particles:
    # Correlations of classes are not of one scale: each is measured by its own deviation over the tomogram.
    score = (score - score.mean(axis=(1, 2, 3), keepdims=True)) / score.std(axis=(1, 2, 3), keepdims=True)
    highest, kind = score.max(axis=0), score.argmax(axis=0)
    index = np.argwhere((maximum_filter(highest, 5) == highest) & (highest > 2))
    value = highest[tuple(index.T)]
    order = np.argsort(-value)
    names = np.array(list(DIAMETER), dtype=object)[kind[tuple(index.T)]]
    return Particles.create([name] * len(index), index[order] * 20.0, class_name=names[order], score=value[order])


def _deepfinder(options: Options) -> dict[str, Any]:
    """Measure a detector of DeepFinder's first tomogram on its second: nine classes, three particles of each."""
    assert options.data is not None
    work = options.work / "deepfinder"
    tomograms, lists = deepfinder_tomograms(options.data, work)
    run = Run.open(work / "detector", {"of": "tomo1"})
    model = train_detector(Config(), lists[1], tomograms, run, 0)
    started = time.perf_counter()
    radii = read_radii(run.folder)
    found = extract_picks(detect(model, tomograms["tomo2"]), "tomo2", radii, 0.5)
    seconds = time.perf_counter() - started
    return _row("deepfinder", "detector", 3, 0, score_detections(found, lists[2], dict.fromkeys(radii, 100.0)), seconds)


def deepfinder_tomograms(data: Path, work: Path) -> tuple[dict[str, Tomogram], dict[int, Particles]]:
    """Write DeepFinder's two simulated tomograms as files that tomosift reads; return them and their particles."""
    import h5py  # type: ignore[import-untyped]

    folder = data / "tomograms" / "deepfinder_synth"
    work.mkdir(parents=True, exist_ok=True)
    lists = {}
    for number in (1, 2):
        path = work / f"tomo{number}.mrc"
        with h5py.File(folder / f"tomo{number}_data.h5") as file:
            # Stored x first: the particles, which are dark, lie at the listed positions only in this order.
            write_volume(path, np.asarray(file["dataset"]).transpose(2, 1, 0), 10.0)
        particles = read_object_list(folder / f"tomo{number}_objlist.xml", voxel_spacing_angstrom=10.0)
        lists[number] = replace(particles, tomogram=np.full(len(particles), f"tomo{number}", dtype=object))
    return open_tomograms(work, is_inverted=True), lists


def _row(world: str, method: str, each: int, seed: int, found: DetectionScores, seconds: float) -> dict[str, Any]:
    classes = {name: round(one.f_score(4.0), 3) for name, one in found.classes.items()}
    row = {
        "tomograms": world,
        "method": method,
        "picks_per_class": each or "all",
        "seed": seed,
        "f4": round(found.f_beta.value, 4),
        "f4_low": round(found.f_beta.low, 4),
        "f4_high": round(found.f_beta.high, 4),
        "f1": round(found.f1.value, 4),
        "precision": round(found.precision, 4),
        "recall": round(found.recall, 4),
        "error_angstrom": round(float(np.nanmedian([one.error_angstrom for one in found.classes.values()])), 1),
        "seconds": round(seconds, 1),
        "classes": " ".join(f"{name}={value}" for name, value in classes.items()),
    }
    print(row, flush=True)
    return row


def _write(work: Path, rows: list[dict[str, Any]]) -> None:
    with (work / "scan.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

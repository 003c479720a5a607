"""Pick and classify particles in whole tomograms, from labeled examples or by a detector trained before."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from tomosift.compute.engine import Engine, for_each
from tomosift.data.extraction.tomogram_sources import collect_grids, open_tomograms
from tomosift.data.extraction.tomograms import Tomogram, match_tomograms
from tomosift.data.labels import read_labels
from tomosift.data.predictions import CLASS, CONFIDENCE, NUMBER
from tomosift.evaluation.report.picking_report import write_picking_report
from tomosift.inference.model_files import load_classifier, model_digest
from tomosift.io.particles import format_to_write, write_particles
from tomosift.io.particles.class_values import number_classes
from tomosift.particles import Particles
from tomosift.picking.config import RENAMED, Config
from tomosift.picking.detection import BACKGROUND, check_background, open_blocks
from tomosift.picking.detector import group_picks_by_tomogram, read_radii, train_detector
from tomosift.picking.self_training import concatenate_picks
from tomosift.picking.tomogram_task import PickingTask, read_result, run_task
from tomosift.progress import Monitor
from tomosift.train.run import Run
from tomosift.workflows.inputs import Inputs, InputSettings, check_inputs, open_sources


@dataclass(frozen=True, eq=False)
class PickResult:
    """The outcome of `pick`."""

    particles: Particles
    """Picked particles with class, class number and confidence."""
    class_names: tuple[str, ...]
    table: Path
    """File of the particles."""
    report: Path
    """HTML file."""


def pick(
    tomograms: Path | str | Sequence[Path | str],
    out: Path | str,
    *,
    labels: Path | str | None = None,
    label_tomograms: Sequence[Path | str] = (),
    model: Path | str | None = None,
    label_column: str | None = None,
    masks: Path | str | None = None,
    radius_angstrom: float | None = None,
    radii_angstrom: Mapping[str, float] | None = None,
    min_confidence: float = 0.5,
    stride: int | None = None,
    maps: bool = False,
    table: str = "particles.star",
    inputs: InputSettings = InputSettings(),
    detector: Config = Config(),
    engine: Engine | None = None,
    seed: int = 0,
    monitor: Monitor | None = None,
) -> PickResult:
    """Pick the particles of whole tomograms and classify them.

    With labels a detector is trained first, in a minute, from picks of each class: a handful in one tomogram is a
    start, all picks of a few tomograms are better. ``out`` then holds ``detector/`` (a run, for ``model`` of another
    call), the table, ``found/`` (one file for each tomogram, which a repeated call keeps) and ``report.html``.

    Parameters
    ----------
    tomograms
        Tomogram files, or a folder, a RELION tomograms.star or a copick configuration.
    out
        Folder for everything that is made; an interrupted call resumes.
    labels
        Particle table with classes, in any known format.
    label_tomograms
        Tomograms of the labels, where these are not among ``tomograms``.
    model
        Detector of an earlier call, instead of labels.
    label_column
        Column of the class in the label table.
    masks
        Folder of volumes with the names of the tomograms, zero where nothing is to be picked.
    radius_angstrom, radii_angstrom
        Particle radius of all classes, and of single ones; by default as measured on the labels. Of two picks closer
        than three quarters of their radii together, the less confident one is dropped.
    min_confidence
        Picks of lower confidence are left out.
    stride
        Voxels of the detector between grid points; by default as small as it allows.
    maps
        Also write the probability at every grid point, as OME-Zarr in ``maps/``.
    table
        Name of the particle table; its suffix names the format.
    inputs
        What labels and tomograms do not state.
    detector
        Settings of the training of a detector.
    engine
        Where tomograms are processed; None processes one after another in this process.
    seed
        Seed of the detector.
    monitor
        Shows stages and messages.

    Returns
    -------
    PickResult
        Picked particles and the files.

    Raises
    ------
    ValueError
        Labels and model are both given or both missing, the check of the labels finds an error, a radius or confidence
        is out of range, or nothing is picked.

    Examples
    --------
    ::

        result = tomosift.pick("tomograms.star", "picked", labels="labels.star")
        result.particles.class_name
    """
    out, engine, monitor = Path(out), engine or Engine(), monitor or Monitor()
    if (labels is None) == (model is None):
        raise ValueError("give either --labels to learn from, or --model, the detector of an earlier scan")
    if not 0 < min_confidence < 1:
        raise ValueError(f"min_confidence is {min_confidence:g}, expected a number between 0 and 1")
    format_to_write(out / table, has_classes=True)  # an unknown suffix is refused before the work
    opened = open_sources(tomograms, inputs, monitor)
    mask_of = {} if masks is None else _open_masks(Path(masks), opened)
    radii = dict(radii_angstrom or {})
    if labels is not None:
        where = open_sources(list(label_tomograms), inputs, monitor) if label_tomograms else opened
        checked = _open_labels(Path(labels), label_column, where, inputs, detector, monitor)
        # Tomograms without labels are of the same making as those with labels.
        is_inverted = any(tomogram.is_inverted for tomogram in checked.tomograms.values())
        opened = {name: replace(tomogram, is_inverted=is_inverted) for name, tomogram in opened.items()}
        classes = sorted({str(name) for name in checked.particles.class_name} - {""})
        _check_radii(classes, radius_angstrom, radii)
        model = out / "detector"
        _train_detector(checked.particles, checked.tomograms, detector, model, seed, monitor)
    assert model is not None
    names, radius_of = _prepare_detector(Path(model), opened, stride, radius_angstrom, radii)
    tasks = [
        PickingTask(tomogram, Path(model), out, radius_of, min_confidence, stride, mask_of.get(name), maps)
        for name, tomogram in opened.items()
    ]
    _run_tasks(tasks, engine, monitor)
    particles = _write_table(tasks, names, out / table, opened)
    report = out / "report.html"
    write_picking_report(report, particles, opened, names, tasks[0].request)
    monitor.message(f"{report}: the report; open it in a browser")
    return PickResult(particles, tuple(names), out / table, report)


def _open_labels(
    labels: Path,
    column: str | None,
    tomograms: dict[str, Tomogram],
    settings: InputSettings,
    detector: Config,
    monitor: Monitor,
) -> Inputs:
    """Labels with their tomograms, checked as picks are."""
    picks = read_labels(labels, column, settings.picks_spacing, collect_grids(tomograms), monitor.message)
    labeled = picks.select(np.flatnonzero(picks.class_name.astype(str) != ""))
    checked = check_inputs(
        labeled,
        tomograms,
        settings,
        monitor,
        box_size=detector.box_size,
        voxel_spacing_angstrom=detector.voxel_spacing_angstrom,
    )
    checked.stop_at_errors(settings, monitor)
    return checked


def _prepare_detector(
    model: Path,
    tomograms: Mapping[str, Tomogram],
    stride: int | None,
    radius_angstrom: float | None,
    radii_angstrom: Mapping[str, float],
) -> tuple[list[str], dict[str, float]]:
    """Class names and particle radii of a detector that can process these tomograms."""
    classifier = load_classifier(model)
    check_background(classifier)
    for tomogram in tomograms.values():
        open_blocks(classifier, tomogram, stride)
    names = [name for name in classifier.card.class_names if name != BACKGROUND]
    _check_radii(names, radius_angstrom, radii_angstrom)
    usual = read_radii(model) if radius_angstrom is None else dict.fromkeys(names, radius_angstrom)
    return names, {name: float(radii_angstrom.get(name, usual[name])) for name in names}


def _train_detector(
    picks: Particles, tomograms: dict[str, Tomogram], config: Config, out: Path, seed: int, monitor: Monitor
) -> None:
    groups = group_picks_by_tomogram(config, picks, tomograms)  # refuses wrong picks before a folder is made
    request = {
        "detector": json.loads(json.dumps(asdict(config), default=os.fspath)),
        "starts_from": None if config.init is None else model_digest(config.init),
        "picks": [
            [key, list(map(str, group.class_name)), np.round(group.position_zyx_angstrom, 3).tolist()]
            for key, group in groups.items()
        ],
        "tomograms": [
            [
                key,
                *tomograms[key].grid.shape_zyx,
                tomograms[key].grid.voxel_spacing_angstrom,
                tomograms[key].is_inverted,
            ]
            for key in groups
        ],
        "seed": seed,
    }
    run = Run.open(out, request, {f"detector.{old}": f"detector.{new}" for old, new in RENAMED.items()})
    if (run.result / "model.json").exists():
        monitor.message(f"{out}: trained before, used as it is")
        return
    with monitor.stage("describe", "tomograms") as description, monitor.stage("train", "steps") as training:
        train_detector(config, picks, tomograms, run, seed, description, training)


def _open_masks(folder: Path, tomograms: Mapping[str, Tomogram]) -> dict[str, Path]:
    masks = open_tomograms(folder, voxel_spacing_angstrom=1.0)
    try:
        key_of = match_tomograms(list(tomograms), masks)
    except ValueError:
        raise ValueError(
            f"{folder} holds masks of {', '.join(masks)}, expected one for each of {', '.join(tomograms)}"
        ) from None
    return {name: masks[key].path for name, key in key_of.items()}


def _check_radii(names: Sequence[str], radius: float | None, radii: Mapping[str, float]) -> None:
    if unknown := sorted(set(radii) - set(names)):
        raise ValueError(f"radii name {', '.join(unknown)}, expected classes of the detector: {', '.join(names)}")
    for name, value in {"every class": 1.0 if radius is None else radius, **radii}.items():
        if not value > 0:
            raise ValueError(f"the radius of {name} is {value:g} A, expected more than 0")


def _run_tasks(tasks: list[PickingTask], engine: Engine, monitor: Monitor) -> None:
    with monitor.stage("scan", "tomograms") as progress:
        if engine.is_shared or len(tasks) > 1:
            for_each(run_task, tasks, engine, progress)
        else:
            run_task(tasks[0], lambda done, total, note="": progress(done, total, note or "blocks"))


def _write_table(
    tasks: list[PickingTask], names: Sequence[str], path: Path, tomograms: dict[str, Tomogram]
) -> Particles:
    particles = concatenate_picks([read_result(task) for task in tasks])
    if not len(particles):
        raise ValueError(
            f"nothing was picked in {len(tasks)} tomograms; lower --min-confidence, and check --inverted and --masks"
        )
    number_of = number_classes(names)
    number = np.array([number_of[str(name)] for name in particles.class_name])
    columns = {NUMBER: number, CLASS: particles.class_name, CONFIDENCE: np.round(particles.score, 6)}
    particles = particles.with_columns(columns)
    write_particles(path, particles, grids=collect_grids(tomograms))
    return particles

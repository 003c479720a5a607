"""Find and classify particles in whole tomograms, without picks: from examples, or by a detector made before."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from tomosift.cli.terminal import print_message, print_table, progress_bar
from tomosift.compute.engine import Engine, for_each
from tomosift.data.extraction.tomogram_sources import collect_grids, open_tomograms
from tomosift.data.extraction.tomograms import Tomogram, match_tomograms
from tomosift.data.labels import read_labels
from tomosift.data.predictions import CLASS, CONFIDENCE, NUMBER
from tomosift.evaluation.report.picking_report import write_scan_report
from tomosift.inference.model_files import load_classifier, model_digest
from tomosift.io.particles import format_to_write, write_particles
from tomosift.particles import Particles
from tomosift.picking.config import RENAMED, Config
from tomosift.picking.detection import BACKGROUND, check_background, open_blocks
from tomosift.picking.detector import group_picks_by_tomogram, read_radii, train_detector
from tomosift.picking.self_training import concatenate_picks
from tomosift.picking.tomogram_task import PickingTask, read_result, run_task
from tomosift.train.run import Run


def command(
    tomograms: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    out: Path,
    examples: Path | None = None,
    example_tomograms: tuple[Path, ...] = (),
    model: Path | None = None,
    label_column: str | None = None,
    masks: Path | None = None,
    radius: float | None = None,
    radii: dict[str, float] | None = None,
    least_probability: float = 0.5,
    stride: int | None = None,
    maps: bool = False,
    table: str = "particles.star",
    inverted: bool = False,
    tomogram_spacing: float | None = None,
    picks_spacing: float | None = None,
    detector: Config = Config(),
    engine: Annotated[Engine, tyro.conf.arg(name="")] = Engine(),
    seed: int = 0,
) -> None:
    """Find the particles of whole tomograms, and what each is.

    With --examples a detector learns first, in a minute, from picks of each class: a handful in one tomogram is a
    start, all of a few tomograms are better. Then every tomogram is looked at, place by place. OUT holds
    ``detector/`` (a run, for --model of another scan), ``particles.star``, ``found/`` (one file for each tomogram,
    which a repeated command does not make again) and ``report.html``.

    Args:
        tomograms: Tomogram files, or a folder, a RELION tomograms.star or a copick configuration.
        out: Folder for everything that is made; an interrupted scan is continued.
        examples: Particle table with classes, in any known format.
        example_tomograms: Where the examples lie, when not in the tomograms to be scanned.
        model: Folder of the detector of an earlier scan, instead of examples.
        label_column: Column of the examples to take the class from.
        masks: Folder of volumes with the names of the tomograms, zero where nothing is to be found.
        radius: Of a particle in Angstrom: of two that lie closer than three quarters of their radii together one is
            dropped. By default as measured on the examples of each class.
        radii: The same for single classes: --radii ribosome 130 ferritin 65.
        least_probability: Particles that are less probable are left out.
        stride: Voxels of the detector between places; by default as near as it can.
        maps: Also write the probability of every place, as OME-Zarr in ``maps/``.
        table: Name of the particle table; its suffix says the format.
        inverted: Protein is dark in these files.
        tomogram_spacing: Voxel edge of the tomograms in Angstrom, where their headers are wrong or silent.
        picks_spacing: Pixel edge of the examples in Angstrom, where a table in pixels does not say.
        detector: How a detector learns.
        engine: Where tomograms are scanned.
        seed: Seed of the detector.
    """
    if (examples is None) == (model is None):
        raise ValueError("give either --examples to learn from, or --model, the detector of an earlier scan")
    if not 0 < least_probability < 1:
        raise ValueError(f"least_probability is {least_probability:g}, expected a number between 0 and 1")
    format_to_write(out / table)  # an unknown suffix is better said before the work than after it
    found = open_tomograms(tomograms, tomogram_spacing, inverted, report=print_message)
    mask_of = {} if masks is None else _masks(masks, found)
    if examples is not None:
        where = found
        if example_tomograms:
            where = open_tomograms(example_tomograms, tomogram_spacing, inverted, report=print_message)
        picks = read_labels(examples, label_column, picks_spacing, collect_grids(where))
        _check_radii(sorted({str(name) for name in picks.class_name} - {""}), radius, radii or {})
        model = out / "detector"
        _learned(picks, where, detector, model, seed)
    assert model is not None
    classifier = load_classifier(model)
    check_background(classifier)
    for tomogram in found.values():
        open_blocks(classifier, tomogram, stride)
    names = [name for name in classifier.card.class_names if name != BACKGROUND]
    _check_radii(names, radius, radii or {})
    usual = read_radii(model) if radius is None else dict.fromkeys(names, radius)
    chosen = {name: float((radii or {}).get(name, usual[name])) for name in names}
    tasks = [
        PickingTask(tomogram, model, out, chosen, least_probability, stride, mask_of.get(name), maps)
        for name, tomogram in found.items()
    ]
    _scanned(tasks, engine)
    particles = _written(tasks, names, out / table, found)
    rows = [[name, str(int((particles.class_name == name).sum()))] for name in names]
    print_table(f"{out / table}: {len(particles)} particles in {len(found)} tomograms", ["class", "particles"], rows)
    report = out / "report.html"
    write_scan_report(report, particles, found, names, tasks[0].request)
    print_message(f"{report}: the report; open it in a browser")


def _learned(picks: Particles, tomograms: dict[str, Tomogram], config: Config, out: Path, seed: int) -> None:
    given = group_picks_by_tomogram(config, picks, tomograms)  # what is wrong with them is said before a folder is made
    grids = {key: tomograms[key].grid for key in given}
    asked = {
        "detector": json.loads(json.dumps(asdict(config), default=os.fspath)),
        "starts_from": None if config.init is None else model_digest(config.init),
        "picks": [
            [key, list(map(str, mine.class_name)), np.round(mine.position_zyx_angstrom, 3).tolist()]
            for key, mine in given.items()
        ],
        "tomograms": [
            [key, *grid.shape_zyx, grid.voxel_spacing_angstrom, tomograms[key].is_inverted]
            for key, grid in grids.items()
        ],
        "seed": seed,
    }
    run = Run.open(out, asked, {f"detector.{old}": f"detector.{new}" for old, new in RENAMED.items()})
    if (run.result / "model.json").exists():
        print_message(f"{out}: finished before, used as it is")
        return
    with progress_bar("look", "tomograms") as looking, progress_bar("learn", "steps") as learning:
        train_detector(
            config,
            picks,
            tomograms,
            run,
            seed,
            lambda done, total: looking(done, total, ""),
            learning,
        )


def _masks(folder: Path, tomograms: dict[str, Tomogram]) -> dict[str, Path]:
    masks = open_tomograms(folder, voxel_spacing_angstrom=1.0)
    try:
        key_of = match_tomograms(list(tomograms), masks)
    except ValueError:
        raise ValueError(
            f"{folder} holds masks of {', '.join(masks)}, expected one for each of {', '.join(tomograms)}"
        ) from None
    return {name: masks[key].path for name, key in key_of.items()}


def _check_radii(names: list[str], radius: float | None, radii: dict[str, float]) -> None:
    if unknown := sorted(set(radii) - set(names)):
        raise ValueError(f"radii name {', '.join(unknown)}, expected classes of the detector: {', '.join(names)}")
    for name, value in {"every class": 1.0 if radius is None else radius, **radii}.items():
        if not value > 0:
            raise ValueError(f"the radius of {name} is {value:g} A, expected more than 0")


def _scanned(tasks: list[PickingTask], engine: Engine) -> None:
    with progress_bar("scan", "tomograms") as update:
        count = len(tasks)
        if engine.is_shared or count > 1:
            for_each(run_task, tasks, engine, update)
        else:
            run_task(tasks[0], lambda done, total: update(done, total, "blocks"))


def _written(tasks: list[PickingTask], names: list[str], path: Path, tomograms: dict[str, Tomogram]) -> Particles:
    particles = concatenate_picks([read_result(task) for task in tasks])
    if not len(particles):
        raise ValueError(
            f"nothing was found in {len(tasks)} tomograms; lower --least-probability, and check --inverted and --masks"
        )
    number = np.array([names.index(str(name)) + 1 for name in particles.class_name])
    columns = {NUMBER: number, CLASS: particles.class_name, CONFIDENCE: np.round(particles.score, 6)}
    particles = particles.with_columns(columns)
    grids = collect_grids(tomograms)
    spacing = next(iter(grids.values())).voxel_spacing_angstrom
    write_particles(path, particles, voxel_spacing_angstrom=spacing, grids=grids)
    return particles

"""From picks, tomograms and a few labels to a class for every particle: the whole job in one call."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tomosift import methods
from tomosift.conventions import is_same_spacing
from tomosift.data.extraction.extraction_plan import check_settings
from tomosift.data.extraction.tomogram_sources import collect_grids
from tomosift.data.labels import label_subtomograms, read_labels, transfer_labels
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.evaluation.report import write_report
from tomosift.inference.classifier import Classifier
from tomosift.inference.model_files import GENERAL, load_card, load_classifier
from tomosift.io.particles import format_to_write
from tomosift.methods.contrastive import Config as ContrastiveConfig
from tomosift.methods.supervised import Config as SupervisedConfig
from tomosift.particles import Particles
from tomosift.progress import Monitor
from tomosift.workflows.classify import Classification, predict_with_progress, tabulate, write_classification
from tomosift.workflows.evaluate import report_on_run
from tomosift.workflows.extract import ExtractionSettings, describe_set, extract_in_threads
from tomosift.workflows.inputs import open_inputs

Pretraining = Literal["auto", "always", "never"]


@dataclass(frozen=True, eq=False)
class SortResult:
    """The outcome of `sort`."""

    classification: Classification
    """Particles with their classes, the prediction, and the file."""
    subtomograms: Subtomograms
    classifier: Classifier
    report: Path
    """HTML file."""


def sort(
    picks: Path | str,
    tomograms: Path | str | Sequence[Path | str],
    labels: Path | str,
    out: Path | str,
    *,
    extraction: ExtractionSettings = ExtractionSettings(),
    label_column: str | None = None,
    label_tolerance_angstrom: float = 30.0,
    truth: Path | str | None = None,
    min_confidence: float = 0.0,
    min_similarity: float = -1.0,
    pretraining: Pretraining = "auto",
    pretrain: ContrastiveConfig = ContrastiveConfig(),
    finetune: SupervisedConfig = SupervisedConfig(),
    compare_scratch: bool = False,
    seed: int = 0,
    monitor: Monitor | None = None,
) -> SortResult:
    """Check, extract, pretrain where that helps, fine-tune, classify and report.

    Every stage is kept in ``out``, and an interrupted call resumes: ``subtomograms/`` (the set), ``classifier/`` and,
    after pretraining, ``pretrained/`` (runs), ``classified.star`` (or the format of the picks; all columns survive) and
    ``report.html``.

    Parameters
    ----------
    picks
        Particle table of any known format.
    tomograms
        Tomogram files, or a folder, a RELION tomograms.star or a copick configuration.
    labels
        Particle table with a class for a few of the picks; about five of every class are a start.
    out
        Folder for everything that is made.
    extraction
        Voxel spacing, box size, contrast and tilt range.
    label_column, label_tolerance_angstrom
        Column of the class in the label table, and largest distance between a label and its particle.
    truth
        Particle table with the true classes, if they are known, for the report.
    min_confidence, min_similarity
        Particles below either are classified as "unknown".
    pretraining
        Contrastive pretraining on all particles first. Auto does so where the voxel spacing is not that of the model to
        start from, without class averages, or where ``pretrain`` has settings of its own.
    pretrain, finetune
        Settings of pretraining and fine-tuning.
    compare_scratch
        Also train from scratch on the same labels, and show both in the report.
    seed
        Seed of all random numbers.
    monitor
        Shows stages and messages.

    Returns
    -------
    SortResult
        Particles with their classes, the set, the model and the report.

    Raises
    ------
    ValueError
        The check finds an error, labels name fewer than two classes, or labels match no pick.

    Examples
    --------
    ::

        result = tomosift.sort("picks.star", "tomograms.star", "labels.star", "sorted")
        result.classification.particles.class_name
    """
    picks, labels, out, monitor = Path(picks), Path(labels), Path(out), monitor or Monitor()
    check_settings(extraction.box_size, extraction.voxel_spacing)
    table = out / f"classified{_table_suffix(picks)}"
    opened = open_inputs(
        picks,
        tomograms,
        extraction,
        monitor,
        box_size=extraction.box_size,
        voxel_spacing_angstrom=extraction.voxel_spacing,
    )
    grids = collect_grids(opened.tomograms)
    given = read_labels(labels, label_column, extraction.picks_spacing, grids, monitor.message)
    _check_classes(labels, opened.particles, given, label_tolerance_angstrom)
    opened.stop_at_errors(extraction, monitor)
    subtomograms = extract_in_threads(opened, out / "subtomograms", extraction, "pad", monitor)
    monitor.message(describe_set(subtomograms))
    labeled = label_subtomograms(subtomograms, given, None, label_tolerance_angstrom, report=monitor.message)
    monitor.message(_describe_labels(labeled))
    data = TrainingSets.from_labels(labeled.select(labeled.labeled_rows), subtomograms)
    start = finetune.init or GENERAL
    if _needs_pretraining(pretraining, pretrain, finetune, extraction.voxel_spacing):
        start = out / "pretrained"
        _train("pretrain", "contrastive", pretrain, data, start, seed, monitor)
    finetune = replace(finetune, min_confidence=min_confidence, min_similarity=min_similarity)
    _train("fine-tune", "supervised", replace(finetune, init=start), data, out / "classifier", seed, monitor)
    compare: list[Path] = []
    if compare_scratch:
        scratch = replace(finetune, init=None, tuning="finetune", encoder=pretrain.encoder)
        _train("from scratch", "supervised", scratch, data, out / "from scratch", seed, monitor)
        compare.append(out / "from scratch")
    evaluated = labeled
    if truth is not None:
        evaluated = label_subtomograms(
            subtomograms, Path(truth), label_column, label_tolerance_angstrom, extraction.picks_spacing
        )
    return _classify_and_report(picks, table, subtomograms, evaluated, compare, monitor)


def _classify_and_report(
    picks: Path,
    table: Path,
    subtomograms: Subtomograms,
    evaluated: Subtomograms,
    compare: Sequence[Path],
    monitor: Monitor,
) -> SortResult:
    """One prediction, for the table and for the report."""
    out = table.parent
    classifier = load_classifier(out / "classifier")
    prediction = predict_with_progress(classifier, subtomograms, monitor)
    particles = tabulate(prediction, classifier, subtomograms)
    write_classification(table, particles, prediction, subtomograms, monitor=monitor)
    title = f"{picks.name}: {len(subtomograms)} particles sorted"
    report = report_on_run(out / "classifier", evaluated, prediction, compare, title, monitor)
    write_report(out / "report.html", report)
    monitor.message(f"{table}: a class for every particle\n{out / 'report.html'}: the report; open it in a browser")
    return SortResult(Classification(particles, prediction, table), subtomograms, classifier, out / "report.html")


def _table_suffix(picks: Path) -> str:
    """Suffix of the picks, or .star where their format holds no classes."""
    if picks.is_dir() or picks.suffix == ".json":
        return ".star"
    suffix = picks.name[len(picks.name.split(".")[0]) :].removesuffix(".gz")
    try:
        format_to_write(Path(f"classified{suffix}"), has_classes=True)
    except ValueError:
        return ".star"
    return suffix


def _needs_pretraining(
    mode: Pretraining, pretrain: ContrastiveConfig, finetune: SupervisedConfig, voxel_spacing_angstrom: float
) -> bool:
    if mode != "auto":
        return mode == "always"
    # By embeddings alone it adds up to four points, but class averages were four to eight points worse after it; see
    # experiments/LOG.md.
    known_spacing = load_card(finetune.init or GENERAL).voxel_spacing_angstrom
    is_known = is_same_spacing(voxel_spacing_angstrom, known_spacing)
    return not is_known or finetune.class_averages == "never" or pretrain != ContrastiveConfig()


def _check_classes(path: Path, particles: Particles, labels: Particles, tolerance_angstrom: float) -> None:
    """Refuse labels of fewer than two classes before the subtomograms are extracted."""
    classes = {str(name) for name in transfer_labels(particles, labels, tolerance_angstrom) if name}
    if len(classes) < 2:
        raise ValueError(
            f"{path} names only {', '.join(classes)}, expected at least 2 classes; label particles of another class"
        )


def _describe_labels(labeled: Subtomograms) -> str:
    counts = [f"{name} {int((labeled.label == k).sum())}" for k, name in enumerate(labeled.class_names)]
    return f"labels: {len(labeled.labeled_rows)} of {len(labeled)} particles ({', '.join(counts)})"


def _train(
    stage: str,
    method: str,
    config: ContrastiveConfig | SupervisedConfig,
    data: TrainingSets,
    folder: Path,
    seed: int,
    monitor: Monitor,
) -> None:
    with monitor.stage(stage, "steps") as progress:
        methods.train(method, config, data, folder, seed, progress)

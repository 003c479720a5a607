"""Adapt a model to an unlabeled set: from another labeled set, or from simulations of known structures (Cryo-Shift)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from tomosift import methods
from tomosift.data.batches import Batch
from tomosift.data.labels import label_subtomograms
from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.errors import FormatError
from tomosift.evaluation.report import DomainComparison, write_report
from tomosift.files import read_arrays
from tomosift.inference.classifier import Classifier
from tomosift.inference.model_files import load_classifier, shipped_models
from tomosift.inference.prediction import embed_volumes
from tomosift.methods.domain_adversarial import WARPED, Config, open_source
from tomosift.objectives.domain_adversarial import Features
from tomosift.particles import Particles
from tomosift.progress import Monitor
from tomosift.train.run import read_json
from tomosift.workflows.classify import Classification, predict_with_progress, tabulate, write_classification
from tomosift.workflows.evaluate import report_on_run

_MAX_COMPARED = 400
_SHOWN = 8


def adapt(
    subtomograms: Path | str | Subtomograms,
    model: Path | str,
    out: Path | str,
    *,
    source: Path | str | Subtomograms | None = None,
    labels: Particles | Path | str | None = None,
    label_column: str | None = None,
    label_tolerance_angstrom: float = 30.0,
    picks_spacing_angstrom: float | None = None,
    structures: Sequence[str] = (),
    features: Features = "class-wise",
    warps: bool = True,
    steps: int = 200,
    seed: int = 0,
    monitor: Monitor | None = None,
) -> Classification:
    """Adapt a model to an unlabeled target set, classify the set, and report on both domains.

    ``out`` then holds ``adapted`` (a run), ``classified.star`` and ``report.html``.

    Parameters
    ----------
    subtomograms
        Target set, or its folder; its labels are not used.
    model
        Supervised run, whose labeled set is the source; or a shipped model, with ``source`` or ``structures``.
    out
        Folder for everything that is made; an interrupted call resumes.
    source
        Labeled source set, instead of the one that the run was trained on.
    labels, label_column, label_tolerance_angstrom, picks_spacing_angstrom
        Labels of the source; by default the classes that the set came with. As in
        `tomosift.data.labels.label_subtomograms`.
    structures
        Names of the atlas, structure or map files, from which the source is simulated.
    features
        What makes the embeddings of both domains alike.
    warps
        Also learn from source subtomograms that a network warps to resemble the target.
    steps
        Training steps on both domains together.
    seed
        Seed of all random numbers.
    monitor
        Shows stages and messages.

    Returns
    -------
    Classification
        Classified particles and the file.

    Raises
    ------
    ValueError
        Two sources are given, or none.

    Notes
    -----
    Source: Bandyopadhyay et al. 2022, "Cryo-shift", Bioinformatics 38:977; see `tomosift.methods.domain_adversarial`.
    """
    out, model, monitor = Path(out), Path(model), monitor or Monitor()
    if not isinstance(subtomograms, Subtomograms):
        subtomograms = open_subtomograms(Path(subtomograms))
    if source is not None and structures:
        raise ValueError("--source and --structures are two sources; give one of them")
    if labels is not None and structures:
        raise ValueError("--labels belong to particles of a --source, not to --structures, whose names are the classes")
    labeled = subtomograms.empty()
    if not structures:

        def label(unlabeled: Subtomograms) -> Subtomograms:
            if labels is None:
                return unlabeled
            settings = (label_column, label_tolerance_angstrom, picks_spacing_angstrom)
            return label_subtomograms(unlabeled, labels, *settings, monitor.message)

        labeled = _open_source(model, source, label)
    data = TrainingSets.from_domains(labeled, subtomograms)
    config = Config(init=model, structures=tuple(structures), features=features, warps=warps)
    config = replace(config, training=replace(config.training, steps=steps))
    run = out / "adapted"
    with monitor.stage("adapt", "steps") as progress:
        methods.train("domain_adversarial", config, data, run, seed, progress)
    classifier = load_classifier(run)
    prediction = predict_with_progress(classifier, subtomograms, monitor)
    table = out / "classified.star"
    particles = tabulate(prediction, classifier, subtomograms)
    write_classification(table, particles, prediction, subtomograms, monitor=monitor)
    domains = _compare_domains(config, data, run, classifier, seed)
    title = f"{subtomograms.path.name} adapted"
    report = report_on_run(run, subtomograms, prediction, title=title, monitor=monitor, domains=domains)
    write_report(out / "report.html", report)
    monitor.message(f"{table}: a class for every particle\n{out / 'report.html'}: the report; open it in a browser")
    return Classification(particles, prediction, table)


def _open_source(
    model: Path,
    source: Path | str | Subtomograms | None,
    label: Callable[[Subtomograms], Subtomograms],
) -> Subtomograms:
    """The given source set, or the one that the run was trained on, if it is unchanged; with labels."""
    if source is not None:
        return label(source if isinstance(source, Subtomograms) else open_subtomograms(Path(source)))
    if str(model) in shipped_models():
        raise ValueError(f"{model} was trained on no set of yours; give a labeled one with --source, or --structures")
    path = model / "config.json"
    try:
        described = read_json(path)["data"]["labeled"]
        folder, digest = Path(str(described["path"])), str(described["digest"])
    except (KeyError, TypeError):
        raise FormatError(path, "data", "no labeled set", "that of a supervised run", "give --source") from None
    subtomograms = label(open_subtomograms(folder))
    if methods.set_digest(subtomograms) != digest:
        raise ValueError(
            f"the labels of {folder} are not those that {model} was trained on; give the labeled set with --source, or "
            "the table of labels with --labels"
        )
    return subtomograms


def _compare_domains(config: Config, data: TrainingSets, run: Path, after: Classifier, seed: int) -> DomainComparison:
    """Embeddings of both domains before and after adaptation, and some subtomograms of each."""
    assert config.init is not None
    known = open_source(config, data, seed).examples
    target = data.unlabeled.select(data.unlabeled.spaced_rows(_MAX_COMPARED))
    before = load_classifier(config.init)
    if not before.card.class_names:
        before = before.adapt_to(data.unlabeled)
    with torch.inference_mode():
        volumes = {"source": after.embedder.recenter(known.volume[:_SHOWN]).numpy()}
        if (run / WARPED).exists():
            stored = read_arrays(run / WARPED, "delete the run and adapt again")
            volumes = {"source": stored["source"], "source, warped": stored["warped"]}
        first = torch.from_numpy(target.volumes(np.arange(min(_SHOWN, len(target)))))
        volumes["target"] = after.embedder.recenter(first).numpy()
    pairs = [
        (_embed_batch(model, known), embed_volumes(model.embedder, target.volumes, len(target)))
        for model in (before, after)
    ]
    return DomainComparison(volumes, *pairs)


def _embed_batch(classifier: Classifier, batch: Batch) -> Float[np.ndarray, "n e"]:
    volumes = batch.volume[:_MAX_COMPARED].numpy()
    return embed_volumes(classifier.embedder, lambda rows: volumes[rows], len(volumes))

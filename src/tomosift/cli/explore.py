"""Look at a set without labels: a map, clusters that look alike, and which known complexes they may be."""

import hashlib
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated
from zipfile import BadZipFile

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from tomosift.cli.inputs import check_spacing, set_grids
from tomosift.cli.terminal import print_message, print_table, progress_bar
from tomosift.data.labels import check_class_name
from tomosift.data.predictions import with_predictions
from tomosift.data.subtomograms import Subtomograms, open_subtomograms
from tomosift.errors import FormatError
from tomosift.evaluation.known_structures import embed_known_structures, match_clusters
from tomosift.evaluation.report import write_report
from tomosift.evaluation.report.cluster_section import Suggestions, cluster_section
from tomosift.evaluation.report.report_input import ReportInput
from tomosift.files import written_then_renamed
from tomosift.inference.classifier import Classifier, load_classifier, model_digest
from tomosift.inference.prediction import embed
from tomosift.io.particles import write_particles
from tomosift.learning.clustering import Clusters, check_count, find_clusters, standardize_for_clustering
from tomosift.models.encoder import BOXES_TO_PREPARE
from tomosift.simulate.dataset_config import class_name_of
from tomosift.simulate.structures.atlas import atlas_names
from tomosift.train.run import Run, environment

_KEPT = "clusters.npz"
_BOXES_TO_KNOW = 8
_FEW = 2


def command(
    subtomograms: Annotated[Path, tyro.conf.Positional],
    /,
    out: Path,
    model: Path = Path("general"),
    clusters: int | None = None,
    known: tuple[str, ...] = (),
    suggest: bool = True,
    names: tuple[str, ...] = (),
    sure: float = 0.9,
    seed: int = 0,
) -> None:
    """Find clusters of particles that look alike, with pictures; no label is needed.

    Look at the report, then run the same command again with --names: particles of the clusters that you name become
    labels.star, for `sort --labels` or `train supervised --labels`. Clusters keep their numbers.

    Args:
        subtomograms: Folder of a set.
        out: Folder for clusters.star, report.html and, with --names, labels.star.
        model: Shipped model, or a pretraining run of yours.
        clusters: How many to find; by default the data decide.
        known: Complexes to look for among the clusters: names of the atlas, structure or map files. All of the atlas by
            default.
        suggest: Look for known complexes.
        names: Names for clusters, as 1=ribosome 4=ribosome 7=junk; the same name joins several.
        sure: Least probability of its cluster with which a particle becomes a label.
        seed: Seed of the search for clusters.
    """
    if not 0 <= sure <= 1:
        raise ValueError(f"sure is {sure:g}, expected 0 to 1")
    boxes, loaded = open_subtomograms(subtomograms), load_classifier(model)
    given = _given(names)
    check_count(len(boxes), clusters)
    looks = suggest and not given and loaded.plda is not None
    sources = _sources(known) if looks else ()
    if loaded.card.class_names:
        check_spacing(boxes, model, loaded.card.voxel_spacing_angstrom)
    if given and np.isnan(boxes.particles.position_zyx_angstrom).any():
        raise ValueError(
            f"particles of {subtomograms} have no positions, by which labels would find them again; extract them from "
            "tomograms, or give the boxes a STAR file"
        )
    asked = {
        "path": str(boxes.path.resolve()),
        "particles": _digest(boxes),
        "model": model_digest(model),
        "clusters": clusters,
        "seed": seed,
    }
    run = Run.open(out, asked)
    embeddings, found = _found(loaded, boxes, run, clusters, seed)
    count = found.probability.shape[1]
    if unknown := [number for number in given if not 1 <= number <= count]:
        raise ValueError(f"there is no cluster {unknown[0]}; clusters are 1 to {count}")
    told = tuple(given.get(c + 1, f"cluster-{c + 1}") for c in range(count))
    if given:
        _write_labels(out / "labels.star", boxes, found, given, sure)
        return
    similarity = np.full(len(boxes), np.nan)
    sorted_particles = with_predictions(boxes.particles, found.probability, similarity, told)
    write_particles(
        out / "clusters.star",
        sorted_particles,
        voxel_spacing_angstrom=boxes.voxel_spacing_angstrom,
        grids=set_grids(boxes),
    )
    suggestions = None
    if looks and count > 1:
        with progress_bar("known complexes", "boxes") as update:
            kept = out / "known" / _digest_of_sources(sources)
            complexes = embed_known_structures(loaded, sources, boxes, kept, update)
        wanted = tuple(map(class_name_of, known or sources))
        places = standardize_for_clustering(embeddings, loaded.plda)
        suggestions = Suggestions.of(complexes, match_clusters(places, found.label, count, complexes), wanted)
        if count == _FEW:
            print_message(f"note: with {_FEW} clusters the middle of the set lies between them; do not trust the names")
    elif looks:
        print_message("note: these particles look like one cluster; --clusters asks for more")
    elif suggest:
        print_message(f"note: {model} has no discriminant, so no known complexes are looked for")
    _show(out, found, suggestions)
    report = ReportInput(
        title=f"{boxes.path.name}, explored",
        particles=boxes.particles,
        probabilities=found.probability,
        class_names=told,
        embeddings=embeddings,
        volumes=lambda rows: _centered(loaded, boxes, rows),
        groups=("cluster", "clusters"),
        voxel_spacing_angstrom=boxes.voxel_spacing_angstrom,
        notes=("Particles are shown about the middle that the model found, not where they were picked.",)
        if loaded.encoder.centers
        else (),
        provenance={"command": " ".join(["tomosift", *sys.argv[1:]]), "environment": environment()},
    )
    write_report(out / "report.html", report, clusters=cluster_section(report, found, suggestions))
    print_message(f"{out / 'report.html'}: open it in a browser, then name what you recognize:")
    again: list[object] = ["tomosift", "explore", subtomograms, "--out", out]
    again += ["--model", model] if model != Path("general") else []
    again += ["--clusters", clusters] if clusters is not None else []
    again += ["--seed", seed] if seed else []
    print_message(f"    {shlex.join(map(str, again))} --names 1=NAME 2=NAME ...")


def _sources(known: tuple[str, ...]) -> tuple[str, ...]:
    """What is asked for, and then the atlas: the middle of few complexes lies too near to each of them."""
    for source in known:
        if source not in atlas_names() and not Path(source).is_file():
            raise ValueError(f"{source} is no complex of the atlas and no file; `tomosift atlas list` names them")
    names = set(map(class_name_of, known))
    return (*dict.fromkeys(known), *(name for name in atlas_names() if name not in names))


def _digest(boxes: Subtomograms) -> str:
    """Which particles these are and how they were extracted: some boxes stand for all."""
    about = [boxes.box_size, boxes.voxel_spacing_angstrom, *boxes.particles.particle_id]
    digest = hashlib.sha256("\n".join(map(str, about)).encode())
    digest.update(boxes.volumes(boxes.spaced_rows(_BOXES_TO_KNOW)).tobytes())
    return digest.hexdigest()[:16]


def _digest_of_sources(sources: tuple[str, ...]) -> str:
    """Names, and what files of these names hold."""
    digest = hashlib.sha256("\n".join(sources).encode())
    for path in map(Path, sources):
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()[:12]


def _found(
    model: Classifier, boxes: Subtomograms, run: Run, count: int | None, seed: int
) -> tuple[NDArray[np.float32], Clusters]:
    """Embeddings and clusters, kept in the folder so that a second call is quick and numbers stay what they are."""
    kept = run.folder / _KEPT
    model.encoder.prepare(torch.from_numpy(boxes.volumes(boxes.spaced_rows(BOXES_TO_PREPARE))))
    if kept.exists():
        try:
            with kept.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                return stored["embeddings"], Clusters(stored["probability"], stored["stability"])
        except (ValueError, KeyError, EOFError, BadZipFile) as error:
            advice = "delete the file and run the same command again"
            raise FormatError(
                kept, "content", f"not readable ({error})", "clusters as explore keeps them", advice
            ) from None
    with progress_bar("explore", "boxes") as update:
        embeddings = embed(model.encoder, boxes.volumes, len(boxes), done=update)
    found = find_clusters(standardize_for_clustering(embeddings, model.plda), count, seed)
    with written_then_renamed(kept) as temporary, temporary.open("wb") as target:
        np.savez(target, embeddings=embeddings, probability=found.probability, stability=found.stability)
    return embeddings, found


def _given(names: tuple[str, ...]) -> dict[int, str]:
    """Number -> name."""
    given: dict[int, str] = {}
    for one in names:
        number, _, name = one.partition("=")
        if not (number.isdecimal() and name.strip()):
            raise ValueError(f"{one!r} names no cluster; write NUMBER=NAME, as in 1=ribosome")
        if int(number) in given:
            raise ValueError(f"cluster {number} is named twice")
        name = name.strip()
        check_class_name(name)
        given[int(number)] = name
    return given


def _write_labels(path: Path, boxes: Subtomograms, found: Clusters, given: dict[int, str], sure: float) -> None:
    label, confidence = found.label + 1, found.probability.max(axis=1)
    rows = np.flatnonzero(np.isin(label, list(given)) & (confidence >= sure))
    if not len(rows):
        raise ValueError(f"no particle is of a named cluster with a probability of {sure:g}; lower --sure")
    chosen = boxes.particles.select(rows)
    named = np.array([given[int(number)] for number in label[rows]], dtype=object)
    labeled = replace(chosen, class_name=named, score=confidence[rows])
    write_particles(path, labeled, voxel_spacing_angstrom=boxes.voxel_spacing_angstrom, grids=set_grids(boxes))
    kinds, counts = np.unique(named.astype(str), return_counts=True)
    table = [[str(kind), str(number)] for kind, number in zip(kinds, counts, strict=True)]
    print_table(f"{path}: {len(rows)} labels", ["class", "particles"], table)


def _show(out: Path, found: Clusters, suggestions: Suggestions | None) -> None:
    sizes = np.bincount(found.label, minlength=len(found.stability))
    rows = []
    for c, size in enumerate(sizes):
        name, probability = suggestions.best(c) if suggestions is not None else ("", 0.0)
        looks = f"{name or 'none of the known'} {probability:.2f}" if suggestions is not None else ""
        rows.append([str(c + 1), f"{size:,}", f"{found.stability[c]:.2f}", looks])
    print_table(f"{out}: {len(rows)} clusters", ["cluster", "particles", "stability", "looks like"], rows)


def _centered(model: Classifier, boxes: Subtomograms, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    with torch.inference_mode():
        return model.encoder.centered(torch.from_numpy(boxes.volumes(rows))).numpy()

"""Explore a set without labels: a map, clusters of similar particles, and which known structures they may be."""

import shlex
from pathlib import Path

import numpy as np

from tomosift.cli.options import Seed, Set, Structures
from tomosift.cli.terminal import TerminalMonitor, print_message, print_table
from tomosift.workflows.explore import ExploreResult, explore


def command(
    subtomograms: Set,
    /,
    out: Path,
    model: Path = Path("general"),
    clusters: int | None = None,
    structures: Structures = (),
    suggest: bool = True,
    names: tuple[str, ...] = (),
    min_confidence: float = 0.9,
    seed: Seed = 0,
) -> None:
    """Find clusters of similar particles, with pictures; no label is needed.

    Read the report, then run the same command again with --names: particles of the clusters that you name become
    labels.star, for `sort --labels` or `train supervised --labels`. Clusters keep their numbers.

    Args:
        out: Folder for clusters.star, report.html and, with --names, labels.star.
        model: Shipped model, or a pretraining run of yours.
        clusters: Number of clusters; by default the data decide.
        suggest: Compare clusters with known structures; with all of the atlas unless --structures names some.
        names: Names of clusters, as 1=ribosome 4=ribosome 7=junk; one name joins several.
        min_confidence: Smallest probability of its cluster (0 to 1) with which a particle becomes a label.
    """
    result = explore(
        subtomograms,
        out,
        model=model,
        clusters=clusters,
        structures=structures,
        suggest=suggest,
        names=_parse_names(names),
        min_confidence=min_confidence,
        seed=seed,
        monitor=TerminalMonitor(),
    )
    if result.labels is not None:
        kinds, counts = np.unique(result.labels.class_name.astype(str), return_counts=True)
        rows = [[str(kind), str(count)] for kind, count in zip(kinds, counts, strict=True)]
        print_table(f"{out / 'labels.star'}: {len(result.labels)} labels", ["class", "particles"], rows)
        return
    _print_clusters(out, result)
    print_message(f"{out / 'report.html'}: open it in a browser, then name the clusters that you recognize:")
    again: list[object] = ["tomosift", "explore", subtomograms, "--out", out]
    again += ["--model", model] if model != Path("general") else []
    again += ["--clusters", clusters] if clusters is not None else []
    again += ["--seed", seed] if seed else []
    print_message(f"    {shlex.join(map(str, again))} --names 1=NAME 2=NAME ...")


def _parse_names(names: tuple[str, ...]) -> dict[int, str]:
    parsed: dict[int, str] = {}
    for one in names:
        number, _, name = one.partition("=")
        if not (number.isdecimal() and name.strip()):
            raise ValueError(f"{one!r} names no cluster; write NUMBER=NAME, as in 1=ribosome")
        if int(number) in parsed:
            raise ValueError(f"cluster {number} is named twice")
        parsed[int(number)] = name.strip()
    return parsed


def _print_clusters(out: Path, result: ExploreResult) -> None:
    clusters, matches = result.clusters, result.matches
    sizes = np.bincount(clusters.label, minlength=len(clusters.stability))
    rows = []
    for c, size in enumerate(sizes):
        name, probability = ("", 0.0) if matches is None else matches.best(c)
        match = "" if matches is None else f"{name or 'none of the known'} {probability:.2f}"
        rows.append([str(c + 1), f"{size:,}", f"{clusters.stability[c]:.2f}", match])
    print_table(f"{out}: {len(rows)} clusters", ["cluster", "particles", "stability", "may be"], rows)

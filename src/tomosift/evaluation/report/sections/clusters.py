"""Section: size, stability and likely structures of each cluster."""

import numpy as np

from tomosift.evaluation.cluster_matches import ClusterMatches
from tomosift.evaluation.report.markup import escape, render_section, render_table
from tomosift.evaluation.report.report_input import ReportInput
from tomosift.evaluation.report.section import Section
from tomosift.learning.clustering import Clusters

_STABLE, _UNSTABLE = 0.75, 0.5
_MOST_NAMES = 3
_MIN_PROBABILITY = 0.05


def render(report: ReportInput) -> str:
    """Return the section, one row per cluster; empty where the classes are not clusters."""
    clusters, matches = report.clusters, report.matches
    if clusters is None:
        return ""
    input_class = report.particles.class_name.astype(str)
    has_classes = bool((input_class != "").any())
    rows = []
    for c, name in enumerate(report.class_names):
        is_member = clusters.label == c
        row = [escape(name), f"{is_member.sum():,}", f"{is_member.mean():.1%}", _render_stability(clusters, c)]
        row += [_render_matches(matches, c)] if matches is not None else []
        row += [_count_classes(input_class[is_member])] if has_classes else []
        rows.append(row)
    header = ["Cluster", "Particles", "Share", "Stability"]
    header += ["Looks like"] if matches is not None else []
    header += ["Input classes"] if has_classes else []
    table = render_table("Clusters", header, rows, "scores")
    return render_section("clusters", "Clusters", table, _describe(report, matches is not None))


def _describe(report: ReportInput, has_matches: bool) -> str:
    lead = (
        f"{len(report.class_names)} clusters of {len(report.particles):,} particles with similar embeddings, found "
        "without labels. Stability: mean overlap of a cluster with the most similar cluster of random halves of the "
        f"particles; clusters above {_STABLE} are reliable, those below {_UNSTABLE} are not. Several clusters may be "
        "one complex: give them the same name."
    )
    if has_matches:
        lead += (
            " Looks like: known structures with the most similar simulated particles, and their probabilities. A "
            "complex that is not among them may be similar to one of them, so check the averages."
        )
    return lead


def _render_stability(clusters: Clusters, cluster: int) -> str:
    stability = float(clusters.stability[cluster])
    word = "stable" if stability >= _STABLE else "doubtful" if stability < _UNSTABLE else "fair"
    track = f'<span class="share" aria-hidden="true"><i style="width:{stability * 100:.0f}%"></i></span>'
    return f"{track}{stability:.2f} {word}"


def _render_matches(matches: ClusterMatches, cluster: int) -> str:
    probability = matches.probability[cluster]
    names = (*matches.names, "none of these")
    order = np.argsort(-probability, kind="stable")[:_MOST_NAMES]
    lines = [f"{names[k]} {probability[k]:.2f}" for k in order if probability[k] >= _MIN_PROBABILITY]
    return f"<b>{escape(lines[0])}</b>" + "".join(f"<br>{escape(line)}" for line in lines[1:])


def _count_classes(input_class: np.ndarray) -> str:
    """Return the most frequent classes that the particles had in the input."""
    names, counts = np.unique(input_class[input_class != ""], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_MOST_NAMES]
    return escape(", ".join(f"{names[k]} {counts[k]}" for k in order)) or "–"


SECTION = Section("clusters", "Clusters", render, 10)

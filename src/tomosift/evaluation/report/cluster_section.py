"""The section of a report that says what clusters there are, how stable they are and what they look like."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tomosift.evaluation.known_structures import KnownStructures
from tomosift.evaluation.report.markup import escape, section, table
from tomosift.evaluation.report.report_input import ReportInput
from tomosift.learning.clustering import Clusters

_STABLE, _DOUBTFUL = 0.75, 0.5
_SHOWN = 3
_WORTH_TELLING = 0.05


@dataclass(frozen=True, eq=False)
class Suggestions:
    """What each of c clusters may be."""

    names: tuple[str, ...]
    probability: Float[np.ndarray, "c p"]
    """One column per name, and a last one for none of them."""

    @classmethod
    def of(
        cls, known: KnownStructures, probability: Float[np.ndarray, "c p"], wanted: tuple[str, ...]
    ) -> "Suggestions":
        """For those known complexes that are looked for; like any other is like none of these."""
        columns = [known.names.index(name) for name in wanted]
        chosen = probability[:, columns]
        return cls(wanted, np.column_stack((chosen, 1 - chosen.sum(axis=1))))

    def best(self, cluster: int) -> tuple[str, float]:
        """Name and probability of the likeliest; an empty name where it is none of the known ones."""
        k = int(self.probability[cluster].argmax())
        return (*self.names, "")[k], float(self.probability[cluster, k])


def cluster_section(report: ReportInput, clusters: Clusters, suggestions: Suggestions | None) -> str:
    """One row per cluster: size, stability, known complexes it looks like, classes that particles came with."""
    label, n = clusters.label, len(report.particles)
    came_with = report.particles.class_name.astype(str)
    has_classes = bool((came_with != "").any())
    rows = []
    for c, name in enumerate(report.class_names):
        members = label == c
        stability = float(clusters.stability[c])
        word = "stable" if stability >= _STABLE else "doubtful" if stability < _DOUBTFUL else "fair"
        track = f'<span class="share" aria-hidden="true"><i style="width:{stability * 100:.0f}%"></i></span>'
        row = [escape(name), f"{members.sum():,}", f"{members.mean():.1%}", f"{track}{stability:.2f} {word}"]
        if suggestions is not None:
            row.append(_likely(suggestions, c))
        if has_classes:
            names, counts = np.unique(came_with[members & (came_with != "")], return_counts=True)
            order = np.argsort(-counts, kind="stable")[:_SHOWN]
            row.append(escape(", ".join(f"{names[k]} {counts[k]}" for k in order)) or "–")
        rows.append(row)
    header = ["Cluster", "Particles", "Share", "Stability"]
    header += ["Looks like"] if suggestions is not None else []
    header += ["Came with"] if has_classes else []
    lead = (
        f"Particles that look alike, found without a label: {len(report.class_names)} clusters of {n:,} particles. "
        "Stability: how much of a cluster is found again among random halves of the particles; "
        f"above {_STABLE} trust it, below {_DOUBTFUL} do not. Several clusters may be one complex: give them one name."
    )
    if suggestions is not None:
        lead += (
            " Looks like: known complexes, simulated and embedded alike, with the probability of each; what is not "
            "among them can still be like one of them. A suggestion, not a finding: look at the averages."
        )
    return section("clusters", "Clusters", table("Clusters", header, rows, "scores"), lead)


def _likely(suggestions: Suggestions, cluster: int) -> str:
    probability = suggestions.probability[cluster]
    names = (*suggestions.names, "none of these")
    order = np.argsort(-probability, kind="stable")[:_SHOWN]
    told = [f"{names[k]} {probability[k]:.2f}" for k in order if probability[k] >= _WORTH_TELLING]
    return f"<b>{escape(told[0])}</b>" + "".join(f"<br>{escape(one)}" for one in told[1:])

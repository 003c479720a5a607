"""The report on a generator: examples, similarity to measured subtomograms, and training curves."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.figure import Figure

from tomosift.evaluation.metrics.realism import NEAREST, RealismScores
from tomosift.evaluation.report.figures import DOMAIN_STYLES, STYLE, render_svg, widen
from tomosift.evaluation.report.layout import provenance_json, render_page, write_page
from tomosift.evaluation.report.markup import escape, render_section, render_table
from tomosift.evaluation.report.pictures import render_gallery
from tomosift.simulation.style_transfer import Faithfulness

_CURVES = (
    ("Critics", "measured_critic", "map_critic", "of subtomograms", "of maps"),
    ("Cycles", "measured_cycle", "map_cycle", "subtomograms", "maps"),
    ("Diversity", "diversity", "", "two draws of one map", ""),
)
"""Title, names of two losses in the log, and their labels."""


@dataclass(frozen=True, eq=False)
class TranslationResult:
    """The output of a generator and its comparison with held-out measured subtomograms."""

    volumes: dict[str, Float[np.ndarray, "_ d d d"]]
    """Some subtomograms of each kind, such as maps, translated maps and measured ones."""
    realism: dict[str, RealismScores]
    """Scores of each kind of generated subtomograms."""
    held_out: int
    """Number of held-out measured subtomograms."""
    faithfulness: Faithfulness
    log: list[dict[str, Any]]
    """Lines of the log of the run."""


def write_translation_report(path: Path, title: str, result: TranslationResult, provenance: Mapping[str, Any]) -> None:
    """Write the report to an HTML file, which is complete or absent.

    Parameters
    ----------
    path
        HTML file to write.
    title
        Heading of the report.
    result
        What the report shows.
    provenance
        Everything that is needed to repeat the run.
    """
    sections = [
        ("boxes", "Subtomograms", render_section("boxes", "Subtomograms", render_gallery(result.volumes))),
        ("realism", "Realism", _render_realism(result)),
        ("training", "Training", _render_training(result)),
        provenance_json(provenance),
    ]
    write_page(path, render_page(title, _render_header(result.faithfulness), sections))


def _render_header(scores: Faithfulness) -> str:
    return (
        f'<p class="headline">{scores.class_kept:.0%} of the translated maps are most similar to their own class, '
        "above chance.</p>"
        f'<p class="basis">The mean of several translations of a map correlates with that map by '
        f"{scores.density_kept:.2f}, and with a map of the same class in another orientation by "
        f"{scores.density_elsewhere:.2f} (below a quarter of Nyquist). Equal values would mean that the generator "
        "invents what it shows.</p>"
    )


def _render_realism(result: TranslationResult) -> str:
    header = ["Subtomograms", "Separability (AUROC)", "Precision", "Recall", "Density", "Coverage"]
    header += ["Density, voxels", "Coverage, voxels", "Spectrum", "Autocorrelation"]
    rows = []
    for kind, each in result.realism.items():
        numbers = [each.two_sample_auroc, each.embeddings.precision, each.embeddings.recall]
        numbers += [each.embeddings.density, each.embeddings.coverage, each.voxels.density, each.voxels.coverage]
        numbers += [each.spectrum, each.autocorrelation]
        rows.append([escape(kind), *(f"{number:.2f}" for number in numbers)])
    lead = (
        f"Compared with {result.held_out} held-out measured subtomograms. Separability: how well a linear classifier "
        "of embeddings predicts which subtomograms are measured; 0.5 is chance. Precision and density: generated "
        "subtomograms near measured ones; recall and coverage: measured subtomograms near generated ones. Near is "
        f"within the distance of the {NEAREST}th neighbor. Spectrum: root mean square difference of log10 power "
        "over shells. Autocorrelation: largest difference of the correlation of voxels up to four apart. The decisive "
        "measure is none of these, but the accuracy on measured subtomograms of a classifier trained on generated ones."
    )
    table = render_table("Similarity of generated to measured subtomograms", header, rows, "scores")
    return render_section("realism", "Realism", f'<p class="lead">{lead}</p>{table}')


def _render_training(result: TranslationResult) -> str:
    lead = (
        "The loss of a critic is the negative difference of its scores of both kinds: near zero it cannot separate "
        "them. Diversity is half the mean squared difference of two translations of one map: near zero, the noise has "
        "no effect and the generator has collapsed."
    )
    return render_section("training", "Training", f'<p class="lead">{lead}</p>{_draw_training(result)}')


def _draw_training(result: TranslationResult) -> str:
    with rc_context(STYLE):
        figure = Figure(figsize=(9.2, 3.2))
        panels = figure.subplots(1, len(_CURVES), gridspec_kw={"left": 0.06, "right": 0.99, "bottom": 0.16, "top": 0.9})
        for axes, (title, first, second, first_label, second_label) in zip(panels, _CURVES, strict=True):
            curves = ((first, first_label), (second, second_label))
            for (name, label), (_, color, _) in zip(curves, DOMAIN_STYLES, strict=True):
                points = [(line["step"], line[name]) for line in result.log if name in line]
                if points:
                    axes.plot(*zip(*points, strict=True), "-", color=color, linewidth=1.4, label=label)
            axes.set(title=title, xlabel="Step")
            if axes.lines:
                axes.legend(frameon=False, loc="best", fontsize=9)
        return widen(render_svg(figure, "training", "Losses of critics and cycles, and diversity, over training"))

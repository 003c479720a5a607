"""Adapt a model to an unlabeled set: from another labeled set, or from simulated structures (Cryo-Shift)."""

from pathlib import Path

from tomosift.cli.options import LabelColumn, LabelTolerance, PicksSpacing, Seed, Set, Structures
from tomosift.cli.terminal import TerminalMonitor, print_class_counts
from tomosift.cli.usual import usual_options
from tomosift.objectives.domain_adversarial import Features
from tomosift.workflows.adapt import adapt


@usual_options("source", "labels", "label_column", "structures", "steps", "seed")
def command(
    subtomograms: Set,
    /,
    model: Path,
    out: Path,
    source: Path | None = None,
    labels: Path | None = None,
    label_column: LabelColumn = None,
    label_tolerance: LabelTolerance = 30.0,
    picks_spacing: PicksSpacing = None,
    structures: Structures = (),
    features: Features = "class-wise",
    warps: bool = True,
    steps: int = 200,
    seed: Seed = 0,
) -> None:
    """Adapt a model to a set without labels, the target domain, and classify the set.

    OUT then holds ``adapted`` (a run), ``classified.star`` and ``report.html``. `train domain_adversarial` has all
    settings of the method.

    Args:
        model: Supervised run, whose labeled set is the source; or `general`, with --source or --structures.
        out: Folder for everything that is made; an interrupted job resumes.
        source: Folder of a labeled set, instead of the one that the run was trained on.
        labels: Particle table with a class for some particles of the source, such as `label` writes; by default the
            classes that the set came with.
        features: What makes the embeddings of both domains alike.
        warps: Also learn from source subtomograms that a network warps to resemble the target.
        steps: Training steps on both domains together.
    """
    result = adapt(
        subtomograms,
        model,
        out,
        source=source,
        labels=labels,
        label_column=label_column,
        label_tolerance_angstrom=label_tolerance,
        picks_spacing_angstrom=picks_spacing,
        structures=structures,
        features=features,
        warps=warps,
        steps=steps,
        seed=seed,
        monitor=TerminalMonitor(),
    )
    print_class_counts(result.table, result.particles)

"""Write an HTML report on a trained run: accuracy, confusion, calibration, embedding map, class averages, particles."""

from pathlib import Path

from tomosift.cli.options import LabelColumn, LabelTolerance, PicksSpacing, Set
from tomosift.cli.terminal import TerminalMonitor, print_message
from tomosift.workflows.evaluate import evaluate


def command(
    subtomograms: Set,
    /,
    model: Path,
    out: Path,
    labels: Path | None = None,
    label_column: LabelColumn = None,
    label_tolerance: LabelTolerance = 30.0,
    picks_spacing: PicksSpacing = None,
    compare: tuple[Path, ...] = (),
    title: str = "",
) -> None:
    """Evaluate a run on labeled particles that it did not learn from. Without any, report its predictions.

    Args:
        model: Folder of a run with classes.
        out: HTML file to write; it needs nothing else to be opened.
        labels: Particle table with the true classes; without it the classes that the set came with.
        compare: Further runs, evaluated on the same particles.
        title: Heading of the report.
    """
    report = evaluate(
        subtomograms,
        model,
        out,
        labels=labels,
        label_column=label_column,
        label_tolerance_angstrom=label_tolerance,
        picks_spacing_angstrom=picks_spacing,
        compare=compare,
        title=title,
        monitor=TerminalMonitor(),
    )
    print_message(f"{out}: report on {len(report.particles)} particles; open it in a browser")

"""Label particles on a page in the browser; a model learns from the labels and selects the next queries."""

from pathlib import Path
from typing import Annotated

import tyro

from tomosift.annotation.serve import serve
from tomosift.cli.options import PicksSpacing
from tomosift.cli.terminal import TerminalMonitor
from tomosift.data.subtomogram_set import open_subtomograms


def command(
    subtomograms: Annotated[Path, tyro.conf.Positional],
    /,
    model: Path = Path("general"),
    port: int = 0,
    host: str = "127.0.0.1",
    annotator: str | None = None,
    store: Path | None = None,
    classes: tuple[str, ...] = (),
    labels: Path | None = None,
    picks_spacing: PicksSpacing = None,
    browser: bool = True,
) -> None:
    """Label the subtomograms of a set one after the other on a page in the browser, until Ctrl+C.

    The page queries the particles that improve the model most, and shows how often the model predicts a label
    correctly. Every label is on the disk at once. Several annotators can label at the same time: on one page each, or
    with one command each on the same --store. The exported table is for `sort`, `train` and `identify`.

    Args:
        subtomograms: Folder of a set.
        model: Shipped model or run whose encoder predicts classes and selects queries.
        port: Port to listen at; 0 selects a free one.
        host: Address to listen at. Beyond this machine, everybody with the printed address can label.
        annotator: Name under which labels are stored; by default the user name.
        store: File of the labels; by default SET-labels/labels.sqlite beside the set.
        classes: Names of the initial classes; by default those of the set. The page can add more.
        labels: Particle table whose classes are imported first.
        browser: Open the page in the browser.
    """
    serve(
        open_subtomograms(subtomograms),
        model,
        host,
        port,
        annotator,
        store,
        classes,
        labels,
        picks_spacing,
        browser,
        TerminalMonitor(),
    )

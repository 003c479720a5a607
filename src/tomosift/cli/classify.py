"""Write a class, its probability and an embedding for every particle of a set."""

from pathlib import Path
from typing import Annotated

import tyro

from tomosift.cli.options import Set
from tomosift.cli.terminal import TerminalMonitor, print_class_counts
from tomosift.cli.usual import usual_options
from tomosift.compute.engine import Engine
from tomosift.workflows.classify import classify


@usual_options("min_confidence", "min_similarity", "drop_unknown")
def command(
    subtomograms: Set,
    /,
    model: Path,
    out: Path,
    min_confidence: float | None = None,
    min_similarity: float | None = None,
    drop_unknown: bool = False,
    engine: Annotated[Engine, tyro.conf.arg(name="")] = Engine(),
) -> None:
    """Classify every particle of a set and write the table in the format that the suffix of --out names.

    A table that goes back into the format it came from keeps all its columns. Embeddings are written beside it, as
    NAME_embeddings.npy with one row per particle in the order of the table.

    Args:
        model: Run or folder of a model that has classes.
        out: Particle table to write: .star, .csv, .tbl, a copick configuration (.json) ...
        min_confidence: Classify particles of lower confidence (0 to 1) as "unknown"; by default as the model was
            trained.
        min_similarity: Classify particles as "unknown" whose similarity to every labeled class is lower (-1 to 1); by
            default as the model was trained.
        drop_unknown: Leave out particles that are classified as "unknown".
        engine: Where subtomograms are embedded, 4,096 to a task.
    """
    result = classify(
        subtomograms,
        model,
        out,
        min_confidence=min_confidence,
        min_similarity=min_similarity,
        drop_unknown=drop_unknown,
        engine=engine,
        monitor=TerminalMonitor(),
    )
    print_class_counts(out, result.particles)

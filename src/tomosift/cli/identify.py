"""Classify particles by a few labeled examples of each class, without training."""

from pathlib import Path
from typing import Literal

from tomosift.cli.options import LabelColumn, LabelTolerance, MinConfidence, MinSimilarity, PicksSpacing, Set
from tomosift.cli.terminal import TerminalMonitor, print_class_counts
from tomosift.cli.usual import usual_options
from tomosift.workflows.identify import identify


@usual_options("model", "label_column", "min_confidence", "min_similarity", "masks", "report", "save")
def command(
    subtomograms: Set,
    /,
    labels: Path,
    out: Path,
    model: Path = Path("general"),
    label_column: LabelColumn = None,
    label_tolerance: LabelTolerance = 30.0,
    picks_spacing: PicksSpacing = None,
    min_confidence: MinConfidence = 0.0,
    min_similarity: MinSimilarity = -1.0,
    class_averages: Literal["auto", "never"] = "auto",
    masks: Path | None = None,
    crf: bool = False,
    report: Path | None = None,
    save: Path | None = None,
) -> None:
    """Classify every particle of a set by one to five labeled examples of each class; nothing is trained.

    The model need not know any of the classes. Labeled particles of the set keep their class and are marked. Embeddings
    are written beside the table, one row per particle.

    Args:
        labels: Particle table with a class for a few particles of the set, or another set that came with classes.
        out: Particle table to write: .star, .csv, .tbl, a copick configuration (.json) ...
        model: Shipped model, pretraining run, or a folder that --save wrote, whose classes are kept and added to.
        class_averages: Also align the particles of each class, and classify and outline particles by the class
            averages: more are right, in minutes instead of seconds for 10,000 subtomograms. Auto does so with an
            encoder that recenters, where at least two classes have ten particles.
        masks: Where to write the voxels that belong to each particle: .mrcs, a stack in the order of the table, or
            .zarr, a folder of OME-Zarr volumes in the frame of the tomograms whose voxels hold the number of the class.
        crf: Smooth the masks by a dense random field.
        report: HTML file to write: labeled examples, particles beside the nearest of them with masks, map, class
            averages, and the accuracy where the set came with classes of the same names.
        save: Folder for the model with its classes, for `classify` and for adding more.
    """
    result = identify(
        subtomograms,
        labels,
        out,
        model=model,
        label_column=label_column,
        label_tolerance_angstrom=label_tolerance,
        picks_spacing_angstrom=picks_spacing,
        min_confidence=min_confidence,
        min_similarity=min_similarity,
        class_averages=class_averages,
        masks=masks,
        crf=crf,
        report=report,
        save=save,
        monitor=TerminalMonitor(),
    )
    print_class_counts(out, result.classification.particles)

"""From picks, tomograms and a few labels to a class for every particle: the whole job in one go."""

from pathlib import Path
from typing import Annotated

import tyro

from tomosift.cli.options import LabelColumn, LabelTolerance, MinConfidence, MinSimilarity, Picks, Seed, Tomograms
from tomosift.cli.terminal import TerminalMonitor
from tomosift.cli.usual import usual_options
from tomosift.methods.contrastive import Config as ContrastiveConfig
from tomosift.methods.supervised import Config as SupervisedConfig
from tomosift.workflows.extract import ExtractionSettings
from tomosift.workflows.sort import Pretraining, sort


@usual_options(
    "extraction.voxel_spacing",
    "extraction.box_size",
    "extraction.inverted",
    "label_column",
    "truth",
    "min_confidence",
    "min_similarity",
    "seed",
)
def command(
    picks: Picks,
    /,
    tomograms: Tomograms,
    labels: Path,
    out: Path,
    extraction: Annotated[ExtractionSettings, tyro.conf.arg(name="")] = ExtractionSettings(),
    label_column: LabelColumn = None,
    label_tolerance: LabelTolerance = 30.0,
    truth: Path | None = None,
    min_confidence: MinConfidence = 0.0,
    min_similarity: MinSimilarity = -1.0,
    pretraining: Pretraining = "auto",
    pretrain: ContrastiveConfig = ContrastiveConfig(),
    finetune: SupervisedConfig = SupervisedConfig(),
    compare_scratch: bool = False,
    seed: Seed = 0,
) -> None:
    """Check, extract, pretrain where that helps, fine-tune, classify and report. Every stage is kept, and an
    interrupted job resumes.

    OUT then holds ``subtomograms/`` (the set), ``classifier/`` and, after pretraining, ``pretrained/`` (runs),
    ``classified.star`` (or the format of PICKS; all its columns survive) and ``report.html``.

    Args:
        labels: Particle table with a class for a few of the picks; about five of every class are a start.
        out: Folder for everything that is made.
        truth: Particle table with the true classes, if they are known; the report then states the accuracy.
        pretraining: Contrastive pretraining on all particles first. Auto does so where the voxel spacing is not that of
            the shipped model general, without class averages, or with settings of pretraining.
        pretrain: Settings of contrastive pretraining.
        finetune: Settings of fine-tuning.
        compare_scratch: Also train the same network from scratch on the same labels, and show both in the report.
    """
    sort(
        picks,
        tomograms,
        labels,
        out,
        extraction=extraction,
        label_column=label_column,
        label_tolerance_angstrom=label_tolerance,
        truth=truth,
        min_confidence=min_confidence,
        min_similarity=min_similarity,
        pretraining=pretraining,
        pretrain=pretrain,
        finetune=finetune,
        compare_scratch=compare_scratch,
        seed=seed,
        monitor=TerminalMonitor(),
    )

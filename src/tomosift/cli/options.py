"""Options that several commands share: one name, one meaning, one default."""

from pathlib import Path
from typing import Annotated

import tyro

Set = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SET", help="Folder of a set of subtomograms.")]
Picks = Annotated[
    Path, tyro.conf.Positional, tyro.conf.arg(metavar="PICKS", help="Particle table of any known format.")
]
Tomograms = Annotated[
    tuple[Path, ...],
    tyro.conf.arg(help="Tomogram files, or a folder, a RELION tomograms.star or a copick configuration."),
]
LabelColumn = Annotated[
    str | None, tyro.conf.arg(help="Column of the class in the label table; by default the one of its format.")
]
LabelTolerance = Annotated[float, tyro.conf.arg(help="Largest distance in Angstrom between a label and its particle.")]
MinConfidence = Annotated[float, tyro.conf.arg(help='Classify particles of lower confidence (0 to 1) as "unknown".')]
MinSimilarity = Annotated[
    float,
    tyro.conf.arg(
        help='Classify particles as "unknown" whose similarity to every labeled class is lower (-1 to 1; 0 is that of '
        "a random particle)."
    ),
]
PicksSpacing = Annotated[
    float | None,
    tyro.conf.arg(help="Pixel size of the labels in Angstrom, where a table in pixels does not state it."),
]
Structures = Annotated[
    tuple[str, ...], tyro.conf.arg(help="Names of the atlas, or structure or map files; their names become classes.")
]
Seed = Annotated[int, tyro.conf.arg(help="Seed of all random numbers.")]

OPTION_NAMES = {
    "init": "model",
    "classes": "structures",
    "voxel_spacing_angstrom": "voxel-spacing",
    "tilt_range_deg": "tilt-range",
    "labels": "voxel-labels",
}
"""Option of a field of settings, where the field of a configuration has another name; files keep that of the field."""

"""The labeled source domain of domain adaptation: a set of subtomograms, or particles simulated at every step."""

from dataclasses import dataclass, replace

import numpy as np

from tomosift.data.batches import BalancedStream, Batch, Stream, read_batch
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.simulation.subtomograms import SubtomogramSetConfig
from tomosift.simulation.synthetic_stream import StructureStream

_MAX_EXAMPLES = 480
_HELD_OUT_SEED_OFFSET = 1_000_003  # for simulated subtomograms that are not trained on


@dataclass(frozen=True, eq=False)
class SourceDomain:
    """Labeled subtomograms of the source domain."""

    stream: Stream[Batch]
    """Batches to train on, each class equally often."""
    examples: Batch
    """Subtomograms to fit and calibrate a head on. Simulated ones are held out; those of a set are not."""
    class_names: tuple[str, ...]


def read_source(labeled: Subtomograms, batch_size: int, seed: int) -> SourceDomain:
    """Return a source domain that consists of the labeled subtomograms of a set.

    Raises
    ------
    ValueError
        When fewer than two classes are labeled.
    """
    labeled = labeled.select(labeled.labeled_rows)
    if len(np.unique(labeled.label)) < 2:
        raise ValueError("the source set names fewer than 2 classes; label it, or give structures to simulate from")
    examples = read_batch(labeled, labeled.spaced_rows(_MAX_EXAMPLES))
    return SourceDomain(BalancedStream(labeled, batch_size, seed), examples, labeled.class_names)


def simulate_source(config: SubtomogramSetConfig, batch_size: int) -> SourceDomain:
    """Return a source domain whose subtomograms are simulated anew at every step.

    Parameters
    ----------
    config
        Structures, imaging conditions and seed.
    batch_size
        Subtomograms of a step.

    Raises
    ------
    ValueError
        When there are fewer than two structures.
    """
    if len(config.class_names) < 2:
        raise ValueError(f"structures name only {config.class_names[0]}, expected at least 2")
    held_out = StructureStream(replace(config, seed=config.seed + _HELD_OUT_SEED_OFFSET), _MAX_EXAMPLES)
    return SourceDomain(StructureStream(config, batch_size), held_out.batch(0), config.class_names)

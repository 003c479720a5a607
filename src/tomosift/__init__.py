"""tomosift: what each particle of a cryo-electron tomogram is, from a handful of labels.

The public Python API; every name is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tomosift.data.extraction.extract import extract as extract
    from tomosift.data.extraction.tomogram_sources import open_tomograms as open_tomograms
    from tomosift.data.subtomogram_set import Subtomograms as Subtomograms
    from tomosift.data.subtomogram_set import open_subtomograms as open_subtomograms
    from tomosift.data.training_sets import TrainingSets as TrainingSets
    from tomosift.particles import Particles as Particles
    from tomosift.workflows.cluster import cluster as cluster
    from tomosift.workflows.cluster import embed as embed
    from tomosift.workflows.particle_tables import read_particles as read_particles
    from tomosift.workflows.particle_tables import write_particles as write_particles
    from tomosift.workflows.pick import pick as pick
    from tomosift.workflows.pretrain import pretrain as pretrain
    from tomosift.workflows.simulate import simulate as simulate
    from tomosift.workflows.sort import sort as sort
    from tomosift.workflows.subtomogram_classifier import SubtomogramClassifier as SubtomogramClassifier

__version__ = "0.1.0"

_MODULES = {
    "Particles": "particles",
    "SubtomogramClassifier": "workflows.subtomogram_classifier",
    "Subtomograms": "data.subtomogram_set",
    "TrainingSets": "data.training_sets",
    "cluster": "workflows.cluster",
    "embed": "workflows.cluster",
    "extract": "data.extraction.extract",
    "open_subtomograms": "data.subtomogram_set",
    "open_tomograms": "data.extraction.tomogram_sources",
    "pick": "workflows.pick",
    "pretrain": "workflows.pretrain",
    "read_particles": "workflows.particle_tables",
    "simulate": "workflows.simulate",
    "sort": "workflows.sort",
    "write_particles": "workflows.particle_tables",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    """Import a name of the public API."""
    if name not in _MODULES:
        raise AttributeError(f"module 'tomosift' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(f"tomosift.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]

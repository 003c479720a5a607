"""Rows of the benchmark: the ways to use a few labels that are compared on the same particles with the same seeds."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tomosift.evaluation.benchmark.entries.ablations import ABLATIONS
from tomosift.evaluation.benchmark.entries.baselines import (
    PLAIN_VIEWS,
    principal_components,
    template_matching,
    torchio_views,
    triplet,
)
from tomosift.evaluation.benchmark.entries.domain_shift import SHIFTED
from tomosift.evaluation.benchmark.entries.few_shot import FEW_SHOT
from tomosift.evaluation.benchmark.entries.prototypes import identify
from tomosift.evaluation.benchmark.entries.queries import QUERIED
from tomosift.evaluation.benchmark.protocols import Protocol
from tomosift.evaluation.benchmark.task import BenchmarkTask, EntryResult, from_pretrained, train_supervised
from tomosift.inference.classifier import GENERAL
from tomosift.methods.contrastive import Config as Contrastive
from tomosift.methods.supervised import Config as Supervised
from tomosift.physics.augmentation import NO_VIEWS


def _from_labels(**changes: object) -> Callable[[BenchmarkTask], EntryResult]:
    settings = {"averages": "never", **changes}
    return lambda task: train_supervised(task, replace(Supervised(), **settings))  # type: ignore[arg-type]


ENTRIES: dict[str, tuple[str, Callable[[BenchmarkTask], EntryResult]]] = {
    "cssl-averages": (
        "Contrastive pretraining from the shipped general model, then the default fine-tuning.",
        from_pretrained(Contrastive(), "contrastive", averages="auto"),
    ),
    "general-averages": (
        "The shipped general model, then the default fine-tuning: the default recipe, without pretraining.",
        _from_labels(init=GENERAL, averages="auto"),
    ),
    "cssl": (
        "Contrastive pretraining from the shipped general model, then fine-tuning without averages of classes.",
        from_pretrained(Contrastive(), "contrastive"),
    ),
    "cssl-alone": (
        "Contrastive pretraining from random weights, then fine-tuning without averages of classes.",
        from_pretrained(Contrastive(init=None), "contrastive-alone"),
    ),
    "general": (
        "The shipped general model, then fine-tuning without averages of classes.",
        _from_labels(init=GENERAL),
    ),
    "identify": (
        "The shipped general model as identify uses it without averages: nothing is trained.",
        lambda task: identify(task, False),
    ),
    "identify-averages": (
        "The shipped general model as identify uses it: nothing is trained.",
        lambda task: identify(task, True),
    ),
    "general-probe": (
        "The shipped general model, then logistic regression on frozen embeddings.",
        _from_labels(init=GENERAL, tuning="probe"),
    ),
    "cssl-alone-probe": (
        "Contrastive pretraining from random weights, then logistic regression on frozen embeddings.",
        from_pretrained(Contrastive(init=None), "contrastive-alone", tuning="probe"),
    ),
    "cssl-probe": (
        "Contrastive pretraining, then logistic regression on frozen embeddings.",
        from_pretrained(Contrastive(), "contrastive", tuning="probe"),
    ),
    "cssl-labels-only": (
        "As cssl, but learning from the labeled particles alone.",
        from_pretrained(Contrastive(), "contrastive", spread="never"),
    ),
    "cssl-whole": (
        "Contrastive pretraining, then the whole network at once, as published.",
        from_pretrained(Contrastive(), "contrastive", tuning="finetune"),
    ),
    "scratch": ("The same network, views and steps without pretraining.", _from_labels(tuning="finetune")),
    "scratch-no-views": (
        "The same network from scratch on the labeled boxes as they are, without augmentation.",
        _from_labels(tuning="finetune", views=NO_VIEWS),
    ),
    "random-probe": ("Logistic regression on embeddings of the untrained network.", _from_labels(tuning="probe")),
    "pca": ("Logistic regression on principal components of the descriptors.", principal_components),
    "simclr-plain": (
        "SimCLR from random weights, its views and temperature as for photographs, then fine-tuning as of cssl.",
        from_pretrained(Contrastive(init=None, temperature=0.5, views=PLAIN_VIEWS), "simclr-plain"),
    ),
    "torchio": ("Pretraining on TorchIO's default transforms, then fine-tuning as of cssl.", torchio_views),
    "triplet": ("Triplets of other, simulated structures, then fine-tuning as of cssl.", triplet),
    "templates": ("Correlation with the true structures: told what no label tells.", template_matching),
    "slices-scratch": (
        "A 2-D ConvNeXt on three orthogonal slices, trained on the labels alone.",
        _from_labels(encoder="slices", tuning="finetune"),
    ),
    "rb3d-scratch": ("RB3D trained on the labels alone.", _from_labels(encoder="rb3d", tuning="finetune")),
    "dsrf3d-scratch": ("DSRF3D-v2 trained on the labels alone.", _from_labels(encoder="dsrf3d_v2", tuning="finetune")),
    **ABLATIONS,
}
"""Name of each row, what it is, and how it answers."""


def entries_of(protocol: Protocol) -> Mapping[str, tuple[str, Any]]:
    """Rows that can answer a protocol: name, what it is, and how it answers."""
    if protocol.asks:
        return QUERIED
    return FEW_SHOT if protocol.ways else ENTRIES if protocol.source is None else SHIFTED

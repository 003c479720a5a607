"""Rows of the benchmark: the ways to use a few labels that are compared on the same particles with the same seeds."""

from collections.abc import Callable
from dataclasses import replace

from tomosift.evaluate.ablations import ABLATIONS
from tomosift.evaluate.comparators import (
    PLAIN_VIEWS,
    principal_components,
    template_matching,
    torchio_views,
    triplet,
)
from tomosift.evaluate.task import Answer, Task, from_pretrained, supervised
from tomosift.methods.contrastive import Config as Contrastive
from tomosift.methods.supervised import Config as Supervised
from tomosift.physics.augmentation import NO_VIEWS


def _scratch(**changes: object) -> Callable[[Task], Answer]:
    return lambda task: supervised(task, replace(Supervised(), **changes))  # type: ignore[arg-type]


CONTESTANTS: dict[str, tuple[str, Callable[[Task], Answer]]] = {
    "cssl": (
        "Contrastive pretraining, then the default fine-tuning (the default recipe).",
        from_pretrained(Contrastive(), "contrastive"),
    ),
    "cssl-probe": (
        "Contrastive pretraining, then logistic regression on frozen embeddings.",
        from_pretrained(Contrastive(), "contrastive", tuning="probe"),
    ),
    "cssl-spread": (
        "Contrastive pretraining, labels spread over unlabeled particles, then the default fine-tuning.",
        from_pretrained(Contrastive(), "contrastive", spread=True),
    ),
    "cssl-whole": (
        "Contrastive pretraining, then the whole network at once, as published.",
        from_pretrained(Contrastive(), "contrastive", tuning="finetune"),
    ),
    "scratch": ("The same network, views and steps without pretraining.", _scratch(tuning="finetune")),
    "scratch-no-views": (
        "The same network from scratch on the labeled boxes as they are, without augmentation.",
        _scratch(tuning="finetune", views=NO_VIEWS),
    ),
    "random-probe": ("Logistic regression on embeddings of the untrained network.", _scratch(tuning="probe")),
    "pca": ("Logistic regression on principal components of the descriptors.", principal_components),
    "simclr-plain": (
        "Pretraining with SimCLR's views and temperature as made for photographs, then the default fine-tuning.",
        from_pretrained(Contrastive(temperature=0.5, views=PLAIN_VIEWS), "simclr-plain"),
    ),
    "torchio": ("Pretraining on TorchIO's default transforms, then the default fine-tuning.", torchio_views),
    "triplet": ("Triplets of other, simulated structures, then the default fine-tuning.", triplet),
    "templates": ("Correlation with the true structures: told what no label tells.", template_matching),
    "slices-scratch": (
        "A 2-D ConvNeXt on three orthogonal slices, trained on the labels alone.",
        _scratch(encoder="slices", tuning="finetune"),
    ),
    "rb3d-scratch": ("RB3D trained on the labels alone.", _scratch(encoder="rb3d", tuning="finetune")),
    "dsrf3d-scratch": ("DSRF3D-v2 trained on the labels alone.", _scratch(encoder="dsrf3d_v2", tuning="finetune")),
    **ABLATIONS,
}
"""Name of each row, what it is, and how it answers."""

DEFAULT_CONTESTANTS = ("cssl", "cssl-probe", "scratch", "random-probe", "pca")
"""Rows that two cores get through; the published convolutional shapes take a GPU or patience."""

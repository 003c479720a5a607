"""Entries of the project's own methods: pretraining, the shipped model, fine-tuning, probes and published encoders."""

from functools import partial

from tomosift.evaluation.benchmark.entry import Entry
from tomosift.evaluation.benchmark.training import pretrain_and_train, train_on_labels
from tomosift.inference.model_files import GENERAL
from tomosift.methods.contrastive import Config as Contrastive
from tomosift.physics.augmentation import NO_VIEWS

_PRETRAINED = partial(pretrain_and_train, config=Contrastive(), name="contrastive")
_PRETRAINED_FROM_RANDOM = partial(pretrain_and_train, config=Contrastive(init=None), name="contrastive-alone")

ENTRIES: dict[str, Entry] = {
    "cssl-averages": Entry(
        "Contrastive pretraining from the shipped general model, then the default fine-tuning.",
        partial(_PRETRAINED, class_averages="auto"),
    ),
    "general-averages": Entry(
        "The shipped general model, then the default fine-tuning: the default recipe, without pretraining.",
        partial(train_on_labels, init=GENERAL, class_averages="auto"),
    ),
    "cssl": Entry(
        "Contrastive pretraining from the shipped general model, then fine-tuning without class averages.", _PRETRAINED
    ),
    "cssl-alone": Entry(
        "Contrastive pretraining from random weights, then fine-tuning without class averages.",
        _PRETRAINED_FROM_RANDOM,
    ),
    "general": Entry(
        "The shipped general model, then fine-tuning without class averages.", partial(train_on_labels, init=GENERAL)
    ),
    "general-probe": Entry(
        "The shipped general model, then logistic regression on frozen embeddings.",
        partial(train_on_labels, init=GENERAL, tuning="probe"),
    ),
    "cssl-alone-probe": Entry(
        "Contrastive pretraining from random weights, then logistic regression on frozen embeddings.",
        partial(_PRETRAINED_FROM_RANDOM, tuning="probe"),
    ),
    "cssl-probe": Entry(
        "Contrastive pretraining, then logistic regression on frozen embeddings.", partial(_PRETRAINED, tuning="probe")
    ),
    "cssl-labels-only": Entry(
        "As cssl, but without pseudo-labels of unlabeled particles.", partial(_PRETRAINED, pseudo_labels="never")
    ),
    "cssl-whole": Entry(
        "Contrastive pretraining, then the whole network at once, as published.",
        partial(_PRETRAINED, tuning="finetune"),
    ),
    "scratch": Entry(
        "The same network, views and steps without pretraining.", partial(train_on_labels, tuning="finetune")
    ),
    "scratch-no-views": Entry(
        "The same network from scratch on the labeled subtomograms without augmentation.",
        partial(train_on_labels, tuning="finetune", views=NO_VIEWS),
    ),
    "random-probe": Entry(
        "Logistic regression on embeddings of the untrained network.", partial(train_on_labels, tuning="probe")
    ),
    "slices-scratch": Entry(
        "A 2-D ConvNeXt on three orthogonal slices, trained on the labels alone.",
        partial(train_on_labels, encoder="slices", tuning="finetune"),
    ),
    "rb3d-scratch": Entry(
        "RB3D trained on the labels alone.", partial(train_on_labels, encoder="rb3d", tuning="finetune")
    ),
    "dsrf3d-scratch": Entry(
        "DSRF3D-v2 trained on the labels alone.", partial(train_on_labels, encoder="dsrf3d_v2", tuning="finetune")
    ),
}

"""Rows of the benchmark that train nothing: classes are what their labeled particles show, as `identify` makes them."""

import torch

from tomosift.data.labels import find_rows
from tomosift.evaluation.benchmark.task import BenchmarkTask, EntryResult
from tomosift.inference.class_average_classifier import SupportSet, add_class_averages
from tomosift.inference.classifier import GENERAL, load_classifier
from tomosift.inference.prediction import apply_class_averages, classify_embeddings, embed
from tomosift.inference.prototypes import enroll_classes
from tomosift.models.encoder import BOXES_TO_PREPARE


def identify(task: BenchmarkTask, averages: bool) -> EntryResult:
    """What the shipped model says of the test particles after a look at the labeled and the unlabeled ones."""
    model, train, test, given = load_classifier(GENERAL), task.world.train, task.world.test, task.labeled
    model.encoder.prepare(torch.from_numpy(train.volumes(train.spaced_rows(BOXES_TO_PREPARE))))
    around, asked = (embed(model.encoder, boxes.volumes, len(boxes)) for boxes in (train, test))
    row = find_rows(given, train)
    classifier = enroll_classes(model, given.class_names, around[row], given.label, around)
    if averages:
        add_class_averages(classifier, train, around, SupportSet(given, around[row], given.label, row))
    said = apply_class_averages(classifier, classify_embeddings(classifier, asked), test.volumes, test.tilt_range_deg)
    return EntryResult(said.probabilities, said.similarity)

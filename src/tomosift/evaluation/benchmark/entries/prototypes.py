"""Rows of the benchmark that train nothing: classes are what their labeled particles show, as `identify` makes them."""

import torch

from tomosift.data.labels import rows_among
from tomosift.evaluation.benchmark.task import Answer, Task
from tomosift.inference.class_average_classifier import Examples, keep_averages
from tomosift.inference.classifier import GENERAL, load_classifier
from tomosift.inference.prediction import answers, compared, embed
from tomosift.inference.prototypes import enrolled
from tomosift.models.encoder import BOXES_TO_PREPARE


def identified(task: Task, averages: bool) -> Answer:
    """What the shipped model says of the test particles after a look at the labeled and the unlabeled ones."""
    model, train, test, given = load_classifier(GENERAL), task.world.train, task.world.test, task.labeled
    model.encoder.prepare(torch.from_numpy(train.volumes(train.spaced_rows(BOXES_TO_PREPARE))))
    around, asked = (embed(model.encoder, boxes.volumes, len(boxes)) for boxes in (train, test))
    row = rows_among(given, train)
    classifier = enrolled(model, given.class_names, around[row], given.label, around)
    if averages:
        keep_averages(classifier, train, around, Examples(given, around[row], given.label, row))
    said = compared(classifier, answers(classifier, asked), test.volumes, test.tilt_range_deg)
    return Answer(said.probabilities, said.familiarity)

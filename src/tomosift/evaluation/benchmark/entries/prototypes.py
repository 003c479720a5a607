"""Entries without training: classes are enrolled from the labeled particles, as the command identify does."""

from functools import partial

from tomosift.data.labels import find_rows
from tomosift.evaluation.benchmark.entry import Entry, EntryResult
from tomosift.evaluation.benchmark.task import BenchmarkTask
from tomosift.inference.class_average_classifier import SupportSet, add_class_averages
from tomosift.inference.model_files import GENERAL, load_classifier
from tomosift.inference.prediction import apply_class_averages, classify_embeddings, embed
from tomosift.inference.prototypes import enroll_classes


def identify(task: BenchmarkTask, has_averages: bool) -> EntryResult:
    """Enroll the classes in the shipped model and predict the test particles.

    Parameters
    ----------
    task
        Its labeled particles are the support set, its training particles the background.
    has_averages
        Whether class averages of the training particles refine the prediction.
    """
    train, test, labeled = task.data.train, task.data.test, task.labeled
    model = load_classifier(GENERAL).adapt_to(train)
    background, queries = embed(model.embedder, train), embed(model.embedder, test)
    row = find_rows(labeled, train)
    classifier = enroll_classes(model, labeled.class_names, background[row], labeled.label, background)
    if has_averages:
        support = SupportSet(labeled, background[row], labeled.label, row)
        classifier = add_class_averages(classifier, train, background, support).classifier
    prediction = apply_class_averages(classifier, classify_embeddings(classifier, queries), test)
    return EntryResult(prediction.probabilities, prediction.similarity)


ENTRIES: dict[str, Entry] = {
    "identify": Entry(
        "The shipped general model as identify uses it without class averages: nothing is trained.",
        partial(identify, has_averages=False),
    ),
    "identify-averages": Entry(
        "The shipped general model as identify uses it: nothing is trained.", partial(identify, has_averages=True)
    ),
}

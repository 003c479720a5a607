"""Trained classifiers: the classifier on disk, heads, prediction, novelty, prototypes and the model hub."""

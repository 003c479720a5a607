"""Metrics of classification, detection, few-shot episodes and realism, as functions of arrays."""

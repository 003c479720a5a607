"""Descriptors of a subtomogram: numbers computed without trained weights that do not depend on the particle's pose."""

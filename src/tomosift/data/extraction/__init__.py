"""Extraction of subtomograms from tomograms: tomogram sources, tilt metadata and cropping."""

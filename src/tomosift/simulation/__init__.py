"""Simulation: specimens, tilt series, tomograms, subtomograms and streams of synthetic complexes."""

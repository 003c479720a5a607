"""Particle picking: detectors that find and classify particles in whole tomograms without given positions."""

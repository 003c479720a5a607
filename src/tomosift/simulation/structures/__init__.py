"""Structures to simulate: the atlas, densities, bead models, synthetic complexes and distractors."""

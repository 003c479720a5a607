"""Files to arrays and tables, and back; no torch.

Axis order, units, contrast and signs are converted here and nowhere else. The rooms below are `tomosift.io.particles`
(particle tables) and `tomosift.io.volumes` (tomograms and maps). This floor holds what both use (Euler angles, STAR
text, compressed content) and the other files of the field: atomic structures, tilt series, tables of tomograms,
subtomograms that another program extracted, and `tomosift.io.describe`, which says what a file holds.
"""

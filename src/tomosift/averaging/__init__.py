"""Subtomogram averaging: pose search, multireference alignment, and class averages with their half maps."""

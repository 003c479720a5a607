"""The jobs that users come with, as functions: particles in, particles out.

The room has more than 15 modules because each job is one file, named as its command.
"""

"""The jobs that users come with, as functions: particles in, particles out."""

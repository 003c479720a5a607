"""tomosift: what each particle of a cryo-electron tomogram is, from a handful of labels."""

__version__ = "0.1.0"

"""Settings of the C library's memory allocator."""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of settings in malloc.h
_TRIM_BYTES = 1 << 30
_MMAP_BYTES = 1 << 25  # the largest threshold that the library accepts

ENVIRONMENT = {"MALLOC_TRIM_THRESHOLD_": str(_TRIM_BYTES), "MALLOC_MMAP_THRESHOLD_": str(_MMAP_BYTES)}
"""Environment variables with which a new process keeps freed memory from its start."""


def keep_freed_memory() -> None:
    """Let the C library keep up to a gigabyte of freed memory instead of returning it to the system.

    Every batch frees tensors of some megabytes and allocates as much again. The system maps and clears each returned
    page of 4 kB anew, which takes a sixth to a third of a pretraining step on processors. Does nothing where the C
    library is not glibc, or where the environment sets the thresholds (see `ENVIRONMENT`).
    """
    if sys.platform != "linux" or ENVIRONMENT.keys() & os.environ.keys():
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)
        library.mallopt(_TRIM_THRESHOLD, _TRIM_BYTES)

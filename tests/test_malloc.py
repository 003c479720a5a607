"""Freed memory stays in the process."""

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from tomosift.malloc import keep_freed_memory

keep_freed_memory()

def step():
    return [torch.ones(2**20).exp() for _ in range(20)]

step(), step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 10)
"""


def faults(**environment: str) -> float:
    """Pages of 4 kB that the system mapped per step, over ten steps that free and allocate 80 MB, 20,000 pages."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], env=inherited | environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", ()), reason="the C library is not glibc")
def test_freed_memory_is_not_mapped_again_unless_the_environment_sets_thresholds() -> None:
    assert faults() < 500
    assert faults(MALLOC_TRIM_THRESHOLD_="131072", MALLOC_MMAP_THRESHOLD_="131072") > 5000

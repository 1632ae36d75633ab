"""Freed memory stays in the process."""

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from qsplat.training.memory import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()

# Blocks beyond 32 MiB, which the C library never keeps on its own.
def step():
    return [torch.ones(12_000_000) for _ in range(4)]

for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

TUNED = {"LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_"}
"""What would change how the C library allocates."""


def page_faults(kind: str) -> int:
    plain = {name: value for name, value in os.environ.items() if name not in TUNED}
    done = subprocess.run([sys.executable, "-c", FAULTS, kind], capture_output=True, text=True, check=True, env=plain)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is only on Linux")
def test_large_blocks_are_not_taken_from_the_system_again_and_again():
    usual = page_faults("give back")
    if usual < 1000:
        pytest.skip(f"{usual} page faults: this system does not count them, or keeps memory by itself")
    assert page_faults("keep") < 0.3 * usual

"""Freed memory stays in the process."""

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


def page_faults(kind: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, kind], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is only on Linux")
def test_large_blocks_are_not_taken_from_the_system_again_and_again():
    assert page_faults("keep") < 0.3 * page_faults("give back")

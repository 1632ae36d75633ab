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
torch.ones(20_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.ones(20_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(kind: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, kind], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is only on Linux")
def test_large_blocks_are_not_taken_from_the_system_again_and_again():
    assert page_faults("keep") < 0.3 * page_faults("give back")

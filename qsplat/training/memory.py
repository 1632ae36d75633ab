"""Memory from one training step to the next on a CPU."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Parameters of ``mallopt`` in glibc's malloc.h."""


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, until it ends. Does nothing without glibc.

    A step frees what it allocated, and the next one allocates the same again. By default the C library gives large
    blocks back to the system in between, which hands them out filled with zeros, page by page: with a million
    Gaussians a third of a step's processor time went there. What was needed at most stays in use.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
        mallopt(MMAP_MAX, 0)

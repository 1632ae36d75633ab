"""Arithmetic of networks: bfloat16 where the processor multiplies it faster than float32."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Literal

import torch

Precision = Literal["auto", "bf16", "fp32"]
CPU_INFO = Path("/proc/cpuinfo")


def uses_bfloat16(precision: Precision, device: torch.device) -> bool:
    """Whether a network on ``device`` runs in bfloat16."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _bfloat16_is_faster()


@cache
def _bfloat16_is_faster() -> bool:
    """Whether the processor multiplies bfloat16 faster than float32. On x86 AMX does, and so do the instructions of
    AVX-512, but not on processors of Intel, where networks took 1.2 to 1.7 times as long (docs/performance.md, one
    Xeon). On other processors oneDNN says whether there are instructions for it."""
    if platform.machine() in ("x86_64", "AMD64"):
        if torch.cpu._is_amx_tile_supported():
            return True
        return torch.cpu._is_avx512_bf16_supported() and not _made_by_intel()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _made_by_intel() -> bool:
    """Whether an x86 processor is one of Intel, as Linux or Windows tell; False where neither does."""
    try:
        told = CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        told = platform.processor()
    return "GenuineIntel" in told

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
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and _bfloat16_is_faster()


@cache
def _bfloat16_is_faster() -> bool:
    """Whether the processor has instructions for bfloat16 that gain something: AMX, and those of AVX-512 but on
    processors of Intel, where a product of large matrices takes twice the time that it takes in float32. Where AVX-512
    has to imitate them, it takes 2.5 times that time."""
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

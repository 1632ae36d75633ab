"""The compiled kernels: which binary this machine can run, and its functions with their ctypes signatures."""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import cache
from pathlib import Path

from qsplat.render.contract import BackendUnavailable

FOLDER = Path(__file__).parent
X86_FEATURES = {
    "x86_64_v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "x86_64_v3": {"avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"},
}
"""What a binary needs beyond the one below it, best binary first. Source: the x86-64 psABI's micro-architecture levels."""


class RasterImage(ctypes.Structure):
    """Mirror of the structure in ``raster.h``."""

    _fields_ = (
        ("count", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("channels", "x", "y", "width", "height")),
        *((name, ctypes.c_float) for name in ("alpha_cut", "alpha_max", "transmittance_stop")),
        ("threads", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("means2d", "records", "radii", "color", "alpha", "depth")),
        *((name, ctypes.c_void_p) for name in ("grad_color", "grad_alpha", "grad_depth")),
        *((name, ctypes.c_void_p) for name in ("grad_means2d", "grad_records", "absgrad")),
    )


def runnable_binaries() -> tuple[str, ...]:
    """Names of the binaries that this processor can run, the fastest first; empty on an unknown platform."""
    machine = platform.machine().lower()
    if sys.platform != "linux":
        return ()
    if machine in ("aarch64", "arm64"):
        return ("aarch64",)
    if machine not in ("x86_64", "amd64"):
        return ()
    features = _cpu_flags()
    enough = []
    if features >= X86_FEATURES["x86_64_v3"]:
        enough.append("x86_64_v3")
        if features >= X86_FEATURES["x86_64_v4"]:
            enough.insert(0, "x86_64_v4")
    return tuple(enough)


def best_binary() -> str:
    """Name of the binary that rendering uses here.

    Raises:
        BackendUnavailable: no binary runs on this machine.
    """
    names = [name for name in runnable_binaries() if _path(name).exists()]
    if not names:
        raise BackendUnavailable(
            f"the cpu backend has no kernels for {platform.system()} {platform.machine()} in {FOLDER}: it needs Linux on "
            "x86-64 with AVX2 or on aarch64, and an installed package (pip install .); backend='reference' runs anywhere"
        )
    return names[0]


@cache
def load(name: str) -> ctypes.CDLL:
    """The binary ``name`` with typed functions."""
    library = ctypes.CDLL(str(_path(name)))
    library.qsplat_workspace_create.restype = ctypes.c_void_p
    library.qsplat_workspace_create.argtypes = ()
    library.qsplat_workspace_destroy.restype = None
    library.qsplat_workspace_destroy.argtypes = (ctypes.c_void_p,)
    for function in (library.qsplat_raster_forward, library.qsplat_raster_backward):
        function.restype = ctypes.c_int
        function.argtypes = (ctypes.c_void_p, ctypes.POINTER(RasterImage))
    return library


def _path(name: str) -> Path:
    return FOLDER / f"qsplat_{name}.so"


@cache
def _cpu_flags() -> frozenset[str]:
    """Feature names of the first processor in /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())

"""The compiled kernels: which binary this machine can run, and its functions with their ctypes signatures."""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import cache
from pathlib import Path

from torch import Tensor

FOLDER = Path(__file__).parent
IDLE_WORKSPACES = 3
"""Workspaces kept for later images: two for training, its rasterizer and its loss, and one for a viewer in another
thread."""

X86_FEATURES = {
    "x86_64_v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "x86_64_v3": {"avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"},
}
"""What a binary needs beyond the next one, best first. Source: the micro-architecture levels of the x86-64 psABI."""


class BackendUnavailable(RuntimeError):
    """A backend that was asked for by name cannot run here; the message says why and what to do."""


def _fields(kind: type, names: str) -> list[tuple[str, type]]:
    return [(name, kind) for name in names.split()]


class _Arguments(ctypes.Structure):
    """A structure of ``kernels.h``; its pointers are set from tensors."""

    def point(self, **tensors: Tensor | None) -> None:
        """Let fields point to contiguous CPU tensors, which the caller keeps alive; an empty one or None is NULL."""
        for name, tensor in tensors.items():
            setattr(self, name, tensor.data_ptr() if tensor is not None and tensor.numel() else None)


class Projection(_Arguments):
    """Mirror of the structure in ``kernels.h``."""

    _fields_ = (
        *_fields(ctypes.c_int64, "count"),
        *_fields(ctypes.c_int32, "harmonics features_width width height antialiased threads"),
        *_fields(ctypes.c_float, "fx fy cx cy blur near far"),
        *_fields(ctypes.c_void_p, "pose means quats scales opacities sh features means2d records radii"),
        *_fields(ctypes.c_void_p, "grad_means2d grad_records grad_pose grad_means grad_quats grad_scales"),
        *_fields(ctypes.c_void_p, "grad_opacities grad_sh grad_features"),
    )


class RasterImage(_Arguments):
    """Mirror of the structure in ``kernels.h``."""

    _fields_ = (
        *_fields(ctypes.c_int64, "count"),
        *_fields(ctypes.c_int32, "channels x y width height"),
        *_fields(ctypes.c_float, "alpha_cut alpha_max transmittance_stop"),
        *_fields(ctypes.c_int32, "threads"),
        *_fields(ctypes.c_void_p, "means2d records radii color alpha depth grad_color grad_alpha grad_depth"),
        *_fields(ctypes.c_void_p, "grad_means2d grad_records absgrad"),
    )


class PhotometricLoss(_Arguments):
    """Mirror of the structure in ``kernels.h``."""

    _fields_ = (
        *_fields(ctypes.c_int32, "channels width height threads"),
        *_fields(ctypes.c_float, "absolute_weight similarity_weight"),
        *_fields(ctypes.c_void_p, "prediction target mask gradient sums"),
    )


class WarpedPhoto(_Arguments):
    """Mirror of the structure in ``kernels.h``."""

    _fields_ = (
        ("pose", ctypes.c_float * 12),
        *_fields(ctypes.c_float, "fx fy cx cy share"),
        *_fields(ctypes.c_int32, "width height"),
        *_fields(ctypes.c_void_p, "image"),
    )


class Warp(_Arguments):
    """Mirror of the structure in ``kernels.h``."""

    _fields_ = (
        ("pose", ctypes.c_float * 12),
        *_fields(ctypes.c_float, "fx fy cx cy tolerance angle_scale"),
        *_fields(ctypes.c_int32, "x y width height count threads"),
        *_fields(ctypes.c_void_p, "depth"),
        ("photos", ctypes.POINTER(WarpedPhoto)),
        *_fields(ctypes.c_void_p, "sums"),
    )


class Workspace:
    """Memory of one image inside the library, handed to a later image when its last user is gone."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._destroy = library.qsplat_workspace_destroy
        self._idle = _idle(library)
        try:
            self.handle = self._idle.pop()
        except IndexError:
            self.handle = library.qsplat_workspace_create()
        if not self.handle:
            raise MemoryError("no memory for a workspace of the kernels")

    def __del__(self) -> None:
        if not getattr(self, "handle", None):
            return
        if len(self._idle) < IDLE_WORKSPACES:
            self._idle.append(self.handle)
        else:
            self._destroy(self.handle)


@cache
def _idle(library: ctypes.CDLL) -> list[int]:
    """Workspaces of ``library`` that nobody uses; appending and popping are atomic."""
    return []


def runnable_binaries() -> tuple[str, ...]:
    """Names of the binaries that this processor can run, the fastest first; empty on an unknown platform."""
    machine = platform.machine().lower()
    if sys.platform != "linux":
        return ()
    if machine in ("aarch64", "arm64"):
        return ("aarch64",)
    if machine not in ("x86_64", "amd64") or not _cpu_flags() >= X86_FEATURES["x86_64_v3"]:
        return ()
    return tuple(X86_FEATURES) if _cpu_flags() >= X86_FEATURES["x86_64_v4"] else ("x86_64_v3",)


def best_binary() -> str:
    """Name of the binary that rendering uses here.

    Raises:
        BackendUnavailable: no binary runs on this machine.
    """
    names = runnable_binaries()
    if not names:
        raise BackendUnavailable(
            f"the cpu backend has no kernels for {platform.system()} {platform.machine()}: it needs Linux on aarch64 "
            "or on x86-64 with AVX2; backend='reference' runs anywhere, slowly"
        )
    return names[0]


def available() -> bool:
    """Whether there is a binary that this processor can run."""
    names = runnable_binaries()
    return bool(names) and (FOLDER / f"qsplat_{names[0]}.so").exists()


def load(name: str) -> ctypes.CDLL:
    """The binary ``name`` with typed functions.

    Raises:
        BackendUnavailable: the package was not built.
    """
    path = FOLDER / f"qsplat_{name}.so"
    if not path.exists():
        raise BackendUnavailable(f"{path} is missing: build the kernels by installing the package (pip install .)")
    return load_file(path)


@cache
def load_file(path: Path) -> ctypes.CDLL:
    """The binary in the file ``path`` with typed functions."""
    library = ctypes.CDLL(str(path))
    library.qsplat_workspace_create.restype = ctypes.c_void_p
    library.qsplat_workspace_create.argtypes = ()
    library.qsplat_workspace_destroy.restype = None
    library.qsplat_workspace_destroy.argtypes = (ctypes.c_void_p,)
    for function in (library.qsplat_project_forward, library.qsplat_project_backward):
        function.argtypes = (ctypes.POINTER(Projection),)
    for function in (library.qsplat_raster_forward, library.qsplat_raster_backward):
        function.argtypes = (ctypes.c_void_p, ctypes.POINTER(RasterImage))
    library.qsplat_warp.restype = None
    library.qsplat_warp.argtypes = (ctypes.POINTER(Warp),)
    library.qsplat_photometric_loss.argtypes = (ctypes.c_void_p, ctypes.POINTER(PhotometricLoss))
    return library


@cache
def _cpu_flags() -> frozenset[str]:
    """Feature names of the first processor in /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())

"""The compiled kernels: which binary is chosen, and what the sanitizers say about the code."""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qsplat import kernels

SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")

DRAW_EVERYTHING = """
import sys
import torch
from dataclasses import replace
from pathlib import Path

from qsplat.cameras import Camera, Window
from qsplat.gaussians import Splats
from qsplat import kernels
from qsplat.qnn.warp import Photo, Trust, compiled_warp
from qsplat.render import RasterConfig, cpu
from qsplat.training.losses import Photometric

library = kernels.load_file(Path(sys.argv[1]))
torch.set_num_threads(2)
generator = torch.Generator().manual_seed(0)
drawn = 0
for count, harmonics, features, size, window in (
    (0, 16, 0, (20, 10), None), (1, 1, 0, (1, 1), None), (37, 4, 2, (70, 45), Window(13, 7, 50, 38)),
    (300, 16, 0, (130, 70), None), (40, 0, 23, (33, 35), None), (50, 9, 1, (200, 100), Window(190, 95, 1, 5)),
):
    for config in (RasterConfig(absgrad=True), RasterConfig(depth=False, antialiased=True, alpha_cut=0.0)):
        means = torch.randn(count, 3, generator=generator) * 2
        means[1::7] *= 1e30
        means[3::11] = float("nan")
        fields = [
            means, torch.randn(count, 4, generator=generator),
            torch.exp(3 * torch.randn(count, 3, generator=generator) - 3), torch.rand(count, generator=generator),
            torch.randn(count, harmonics, 3, generator=generator) if harmonics else None,
            torch.randn(count, features, generator=generator) if features else None,
        ]
        fields = [None if field is None else field.requires_grad_() for field in fields]
        view = Camera(torch.eye(4).requires_grad_(), 40.0, 40.0, size[0] / 2, size[1] / 2, *size, window)
        image = cpu.rasterize(Splats(*fields), view, config, library=library)
        (image.color.sum() + image.alpha.sum() + (0 if image.depth is None else image.depth.sum())).backward()
        drawn += 1
for height, width, channels in ((1, 1, 3), (11, 11, 3), (40, 23, 1), (70, 90, 4), (9, 64, 3)):
    image = torch.rand(height, width, channels, generator=generator).requires_grad_()
    for mask in (None, torch.rand(height, width, generator=generator) < 0.5):
        Photometric.apply(image, torch.rand(image.shape), mask, 0.2, 3, library).backward()
for width, height, count in ((1, 1, 1), (70, 9, 4), (300, 5, 2), (33, 33, 0)):
    pose = torch.eye(4)
    pose[:3, 3] = torch.randn(3, generator=generator)
    photos = [
        Photo(Camera(pose, 40.0, 40.0, w / 2, h / 2, w, h), torch.randn(h, w, 4, generator=generator).half())
        for w, h in ((1, 1), (50, 1), (1, 60), (90, 80))
    ]
    view = Camera(torch.eye(4), 40.0, 40.0, width / 2, height / 2, width, height)
    depth = 3 * torch.randn(height, width, generator=generator)
    depth[0, 0] = float("nan")
    chosen, window = photos[:count], Window(width // 2, height // 2, width - width // 2, height - height // 2)
    for one, part in ((view, depth), (view.cropped(window), depth[height // 2:, width // 2:])):
        told = {"photos": chosen, "shares": torch.ones(count), "trust": Trust(0.1, 1.0)}
        compiled_warp(one, part, **told, threads=3, library=library)
print("drawn", drawn)
"""


def test_structures_have_the_size_of_their_c_twins():
    assert ctypes.sizeof(kernels.Projection) == 8 + 7 * 4 + 7 * 4 + 19 * 8
    assert ctypes.sizeof(kernels.RasterImage) == 8 + 9 * 4 + 4 + 12 * 8
    assert ctypes.sizeof(kernels.PhotometricLoss) == 4 * 4 + 2 * 4 + 5 * 8
    assert ctypes.sizeof(kernels.WarpedPhoto) == 12 * 4 + 5 * 4 + 2 * 4 + 4 + 8
    assert ctypes.sizeof(kernels.Warp) == 12 * 4 + 6 * 4 + 6 * 4 + 3 * 8


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("aarch64", frozenset(), ("aarch64",)),
        ("x86_64", frozenset({"sse4_2"}), ()),
        ("x86_64", frozenset(kernels.X86_FEATURES["x86_64_v3"]), ("x86_64_v3",)),
        ("x86_64", frozenset().union(*kernels.X86_FEATURES.values()), ("x86_64_v4", "x86_64_v3")),
        ("riscv64", frozenset(), ()),
    ],
)
def test_binaries_follow_what_the_processor_can(monkeypatch, machine, flags, expected):
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(kernels, "_cpu_flags", lambda: flags)
    assert kernels.runnable_binaries() == expected


def test_other_systems_have_no_binary(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    assert kernels.runnable_binaries() == ()


def test_a_workspace_that_could_not_be_had_is_not_handed_out_later():
    class Library(ctypes.CDLL):
        handles = iter([None, 7])
        qsplat_workspace_destroy = staticmethod(lambda handle: None)

        def __init__(self):
            """Without a file."""

        def qsplat_workspace_create(self):
            return next(self.handles)

    library = Library()
    with pytest.raises(MemoryError, match="no memory for a workspace of the kernels"):
        kernels.Workspace(library)
    gc.collect()
    assert kernels.Workspace(library).handle == 7


def test_a_binary_is_loaded_once():
    name = kernels.best_binary()
    assert kernels.load(name) is kernels.load(name)


@pytest.mark.slow
def test_sanitizers_find_nothing(tmp_path: Path):
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is not installed: the sanitizers need it")
    runtime = subprocess.run([compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    if not Path(runtime.stdout.strip()).is_absolute():
        pytest.skip("gcc has no address sanitizer here")
    library = tmp_path / "checked.so"
    sources = sorted(map(str, kernels.FOLDER.glob("*.c")))
    flags = ["-O0", "-std=gnu11", "-fno-strict-aliasing", "-Wno-psabi", "-shared", "-fPIC", *SANITIZERS]
    built = subprocess.run(
        [compiler, *flags, "-o", str(library), *sources, "-lm", "-lpthread"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    environment = {
        **os.environ,
        "LD_PRELOAD": runtime.stdout.strip(),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    run = subprocess.run(
        [sys.executable, "-c", DRAW_EVERYTHING, str(library)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.split() == ["drawn", "12"]

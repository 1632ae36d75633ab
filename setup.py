"""Compiles the CPU kernels while the package is built. The compiler is Clang from the ``ziglang`` wheel, a build
requirement: nothing has to be installed on the machine, and every build makes the binaries of all processors."""

from __future__ import annotations

import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

KERNELS = Path(__file__).parent / "qsplat" / "kernels"
TARGETS = {
    "x86_64_v4": ["-target", "x86_64-linux-gnu.2.17", "-mcpu=x86_64_v4"],
    "x86_64_v3": ["-target", "x86_64-linux-gnu.2.17", "-mcpu=x86_64_v3"],
    "aarch64": ["-target", "aarch64-linux-gnu.2.17"],
}
# Never -ffast-math: reassociation deletes the rounding trick of vexp2. No vector crosses the border of a binary, so how
# one is passed (psabi) does not matter.
FLAGS = [
    *("-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing"),
    *("-std=gnu11", "-Wall", "-Wno-psabi"),
]


def compile_kernels(name: str) -> None:
    """Compile one binary, unless it is newer than everything it is made of."""
    sources = sorted(KERNELS.glob("*.c"))
    target = KERNELS / f"qsplat_{name}.so"
    inputs = [*sources, *KERNELS.glob("*.h"), Path(__file__)]
    if target.exists() and target.stat().st_mtime > max(path.stat().st_mtime for path in inputs):
        return
    unfinished = target.with_suffix(".tmp")
    compiler = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-s", "-fvisibility=hidden"]
    command = [*compiler, *FLAGS, *TARGETS[name], "-o", str(unfinished), *map(str, sources), "-lm", "-lpthread"]
    print(" ".join(command), flush=True)
    subprocess.run(command, check=True)
    unfinished.replace(target)


def compile_all() -> None:
    """Compile every binary that is out of date, at most two at a time."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compile_kernels, TARGETS))


class BuildWithKernels(build_py):
    """Every binary first, two at a time, so that the package's files include them."""

    def run(self) -> None:
        compile_all()
        super().run()


class PlatformWheel(bdist_wheel):
    """A wheel for one platform and any Python: the binaries are loaded with ctypes."""

    def get_tag(self) -> tuple[str, str, str]:
        system = f"manylinux_2_17_{platform.machine()}" if sys.platform == "linux" else super().get_tag()[2]
        return "py3", "none", system


class BinaryDistribution(Distribution):
    """A distribution that is not pure Python."""

    def has_ext_modules(self) -> bool:
        return True


if __name__ == "__main__":
    setup(distclass=BinaryDistribution, cmdclass={"build_py": BuildWithKernels, "bdist_wheel": PlatformWheel})

"""What this machine has for qsplat and what will be used, with the remedy beside each thing that is missing.

    python scripts/doctor.py [--json FILE]

Exits with 0 when training can run here and with 1 when it cannot. Nothing is built, downloaded or changed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

State = Literal["ok", "optional", "missing"]
REINSTALL = "make install"
INSTRUCTION_SETS = {"x86_64_v4": "AVX-512", "x86_64_v3": "AVX2", "aarch64": "NEON (aarch64)"}


@dataclass(frozen=True)
class Finding:
    """One line: ``missing`` keeps training from running, ``optional`` does not."""

    name: str
    state: State
    detail: str
    remedy: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Look, print, and return the exit code. Only the standard library is needed up to here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the findings to this file")
    file = parser.parse_args(arguments).json
    findings = [_guarded(name, check) for name, check in CHECKS.items()]
    print_findings(findings)
    if file is not None:
        try:
            write_findings(file, findings)
        except OSError as error:
            print(f"{file} cannot be written ({error}): give a path in a folder that you may write to", file=sys.stderr)
            return 1
    return 0 if can_train(findings) else 1


def can_train(findings: list[Finding]) -> bool:
    """Whether nothing that training needs is missing."""
    return all(finding.state != "missing" for finding in findings)


def print_findings(findings: list[Finding]) -> None:
    """One table, and one sentence below it."""
    marks = {"ok": ("yes", "green"), "optional": ("no", "yellow"), "missing": ("NO", "bold red")}
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        for finding in findings:
            print(f"{marks[finding.state][0]:4}{finding.name:15}{finding.detail}  {finding.remedy}")
    else:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
        for heading in ("", "", "what there is", "remedy"):
            table.add_column(heading, overflow="fold", no_wrap=not heading)
        for finding in findings:
            mark, style = marks[finding.state]
            table.add_row(Text(mark, style=style), finding.name, Text(finding.detail), Text(finding.remedy))
        Console().print(table)
    if can_train(findings):
        device = next(finding.detail for finding in findings if finding.name == "renders with")
        print(f"Training can run here: {device}. Start with: make demo")
    else:
        names = ", ".join(finding.name for finding in findings if finding.state == "missing")
        print(f"Training cannot run here yet: see the remedy beside {names}.")


def write_findings(path: Path, findings: list[Finding]) -> None:
    """The findings as JSON, complete or not at all."""
    # not by qsplat.io.atomic, because before make install qsplat cannot be imported
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    record = {"can_train": can_train(findings), "findings": [asdict(finding) for finding in findings]}
    temporary.write_text(json.dumps(record, indent=2) + "\n")
    temporary.replace(path)


def _guarded(name: str, check: Callable[[], tuple[State, str, str]]) -> Finding:
    """What ``check`` finds; whatever goes wrong in it is a finding too."""
    try:
        return Finding(name, *check())
    except Exception as error:
        state: State = "missing" if name in REQUIRED else "optional"
        return Finding(name, state, f"{type(error).__name__}: {' '.join(str(error).split())[:160]}", REINSTALL)


def _python() -> tuple[State, str, str]:
    version = platform.python_version()
    if (3, 10) <= sys.version_info[:2] <= (3, 12):
        return "ok", version, ""
    return "missing", version, "install Python 3.10, 3.11 or 3.12, and make install PYTHON=python3.11"


def _platform() -> tuple[State, str, str]:
    return "ok", f"{platform.system()} {platform.machine()}", ""


def _memory() -> tuple[State, str, str]:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    if total >= 6:
        return "ok", f"{total:.0f} GiB", ""
    remedy = "under 6 GiB: keep the images small (--pipeline.datamanager.max-side) and close other programs"
    return "optional", f"{total:.1f} GiB", remedy


def _torch() -> tuple[State, str, str]:
    import torch

    return "ok", torch.__version__, ""


def _threads() -> tuple[State, str, str]:
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    if threads < usable:
        return "ok", f"{threads} of {usable} processors", "OMP_NUM_THREADS sets how many are used"
    return "ok", f"{threads}, all of the processors", ""


def _waiting() -> tuple[State, str, str]:
    policy = os.environ.get("OMP_WAIT_POLICY", "").lower()
    if policy == "passive":
        return "ok", "asleep", ""
    remedy = "where other programs run as well, the joint phase is faster with export OMP_WAIT_POLICY=passive"
    return "optional", "spinning", remedy


def _gpu() -> tuple[State, str, str]:
    import torch

    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        return "ok", f"{torch.cuda.device_count()} x {device.name}, {device.total_memory / 2**30:.0f} GiB", ""
    if torch.version.cuda is None and shutil.which("nvidia-smi"):
        return "optional", "a driver, but torch is built for the CPU", "install a torch build for CUDA"
    return "optional", "none that torch can use", "training runs on the CPU; with an NVIDIA GPU install its driver"


def _nvcc() -> tuple[State, str, str]:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    found = shutil.which("nvcc") or shutil.which("nvcc", path=str(Path(home) / "bin"))
    if found:
        return "ok", found, ""
    return "optional", "none", "only needed with a GPU, where gsplat has no compiled kernels: install the CUDA toolkit"


def _gsplat() -> tuple[State, str, str]:
    """gsplat is not imported: without a usable GPU its import may start a build that fails."""
    import torch

    version = importlib.metadata.version("gsplat")
    if not torch.cuda.is_available():
        return "ok", f"{version}, not used without a GPU", ""
    spec = importlib.util.find_spec("gsplat")
    folders = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    if any(True for folder in folders for _ in folder.glob("csrc*.so")):
        return "ok", f"{version}, with compiled kernels", ""
    if _nvcc()[0] == "ok":
        return "ok", f"{version}, compiles its kernels when first used (minutes)", ""
    return "missing", f"{version}, without kernels and without nvcc", "install the CUDA toolkit of torch's CUDA version"


def _kernels() -> tuple[State, str, str]:
    import torch

    from qsplat import kernels
    from qsplat.kernels import BackendUnavailable

    try:
        name = kernels.best_binary()
        kernels.load(name)
    except (BackendUnavailable, OSError) as error:
        state: State = "optional" if torch.cuda.is_available() else "missing"
        return state, str(error), f"on Linux with x86-64 (AVX2) or aarch64: {REINSTALL}"
    return "ok", INSTRUCTION_SETS.get(name, name), ""


def _renders_with() -> tuple[State, str, str]:
    import torch

    if torch.cuda.is_available():
        return "ok", f"gsplat on {torch.cuda.get_device_name(0)}", ""
    if _kernels()[0] != "ok":
        return "optional", "the reference backend alone, when asked for by name: slow", "see CPU kernels"
    return "ok", f"the cpu backend on {torch.get_num_threads()} threads", ""


def _nerfstudio() -> tuple[State, str, str]:
    version = importlib.metadata.version("nerfstudio")
    methods = {entry.name for entry in importlib.metadata.entry_points(group="nerfstudio.method_configs")}
    if not {"qsplat", "qsplat-mcmc"} <= methods:
        return "missing", f"{version}, which does not know the method qsplat", f"install qsplat itself: {REINSTALL}"
    return "ok", f"{version}, with the methods qsplat and qsplat-mcmc", ""


def _viser() -> tuple[State, str, str]:
    return "ok", importlib.metadata.version("viser"), ""


def _lpips(net: Literal["vgg", "alex"]) -> tuple[State, str, str]:
    from qsplat.metrics.lpips import fetch_remedy, weights_file

    importlib.metadata.version("lpips")
    path = weights_file(net)
    if path.is_file():
        return "ok", str(path), ""
    return "optional", "no weights: LPIPS stays empty", fetch_remedy(net)


def _ffmpeg() -> tuple[State, str, str]:
    found = shutil.which("ffmpeg")
    if found:
        return "ok", found, ""
    return "optional", "not on the PATH: ns-render writes no videos", "source .venv/bin/activate, or install ffmpeg"


def _extra(package: str, purpose: str, remedy: str) -> tuple[State, str, str]:
    if importlib.util.find_spec(package) is None:
        return "optional", f"not installed: {purpose}", remedy
    return "ok", importlib.metadata.version(package), ""


CHECKS: dict[str, Callable[[], tuple[State, str, str]]] = {
    "Python": _python,
    "platform": _platform,
    "memory": _memory,
    "torch": _torch,
    "threads": _threads,
    "threads wait": _waiting,
    "GPU": _gpu,
    "nvcc": _nvcc,
    "gsplat": _gsplat,
    "CPU kernels": _kernels,
    "renders with": _renders_with,
    "nerfstudio": _nerfstudio,
    "viser": _viser,
    "ffmpeg": _ffmpeg,
    "LPIPS vgg": partial(_lpips, "vgg"),
    "LPIPS alex": partial(_lpips, "alex"),
    "pycolmap": partial(_extra, "pycolmap", "photos need poses already", "pip install -e '.[sfm]'"),
    "mitsuba": partial(_extra, "mitsuba", "only needed to render the bundled scene again", "pip install -e '.[scene]'"),
}
REQUIRED = ("Python", "torch", "CPU kernels", "gsplat", "nerfstudio")


if __name__ == "__main__":
    sys.exit(main())

"""What the benchmarks share: turns and medians, the machine's own speed, options, tables and files.

Cases take turns, so that a machine that slows down slows all of them. A case begins its turn with a run that does not
count: it finds caches and threads as another case or the calibration left them. The calibration is a float32 matrix
product on the same threads, once per turn, so that figures of different machines can be compared.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsplat.io.atomic import written_whole

if TYPE_CHECKING:
    from torch import Tensor

Times = Mapping[str, float]
"""Milliseconds of the stages of one run of a case."""
WARM_UP = 2
"""Turns that do not count."""


@dataclass(frozen=True)
class Measured:
    """Median times of each case, in the order in which they were given, and of the matrix products between them."""

    medians: Sequence[Times]
    sgemm_gflops: float


def take_turns(
    cases: Sequence[Callable[[], Times]],
    repeats: int,
    *,
    warm: bool = False,
    calibrate: Callable[[], float] | None = None,
) -> Measured:
    """Run every case ``repeats`` times, in turns, after turns for warm-up.

    With ``warm``, the cases warm up by themselves: every run counts. ``calibrate`` is called once per turn;
    ``sgemm_gflops`` on the CPU when None.
    """
    calibrate = calibrate or sgemm_gflops
    runs: list[list[Times]] = [[] for _ in cases]
    speeds = []
    for turn in range(repeats if warm else WARM_UP + repeats):
        for case, times in zip(cases, runs, strict=True):
            if not warm:
                case()
            measured = case()
            times += [measured] if warm or turn >= WARM_UP else []
        speeds.append(calibrate())
    return Measured([medians(times) for times in runs], round(statistics.median(speeds), 1))


def medians(runs: Sequence[Times]) -> Times:
    """The median of each stage."""
    return {stage: round(statistics.median(run[stage] for run in runs), 3) for stage in runs[0]}


def sgemm_gflops(device: str = "cpu", *, side: int = 768) -> float:
    """Speed of one product of two float32 matrices of ``side`` rows and columns."""
    import torch

    matrix = torch.ones(side, side, device=device)
    torch.mm(matrix, matrix)
    start = clock(device)
    torch.mm(matrix, matrix)
    return 2 * side**3 / (clock(device) - start) / 1e9


def forward_and_backward(function: Callable[[], Tensor | Sequence[Tensor]], inputs: Sequence[Tensor]) -> Times:
    """``forward_ms`` of ``function`` and ``backward_ms`` of its gradients with respect to ``inputs``.

    The gradient of each output is the output itself; outputs without one are left out.
    """
    import torch

    device = inputs[0].device.type
    start = clock(device)
    outputs = function()
    middle = clock(device)
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else [one for one in outputs if one.requires_grad]
    torch.autograd.grad(outputs, inputs, [one.detach() for one in outputs])
    return {"forward_ms": 1e3 * (middle - start), "backward_ms": 1e3 * (clock(device) - middle)}


def milliseconds(function: Callable[[], object], device: str = "cpu") -> float:
    """Duration of one call."""
    start = clock(device)
    function()
    return 1e3 * (clock(device) - start)


def clock(device: str = "cpu") -> float:
    """Seconds, once everything that was asked of ``device`` is done."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def machine() -> dict[str, Any]:
    """What the figures were measured on: processor, its cores, and versions."""
    import torch

    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def processor() -> str:
    """The processor's name as the system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def peak_megabytes() -> float:
    """The most memory that this process had resident so far, in 10^6 bytes. The kernel's figure for the process
    (``VmHWM``), because ``ru_maxrss`` includes what the process was forked from."""
    return _resident_megabytes("VmHWM")


def extra_megabytes(function: Callable[[], object]) -> float | None:
    """The most memory that a call had resident beyond what was in use before it, in 10^6 bytes; None where the system
    does not let a process forget its peak.

    Memory that was freed and kept by the C library is given back first: the call would use it without a trace.
    """
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
    before = _resident_megabytes("VmRSS")
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    function()
    return round(peak_megabytes() - before, 1)


def _resident_megabytes(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    kibibytes = next(line.split()[1] for line in lines if line.startswith(name))
    return round(int(kibibytes) * 1024 / 1e6, 1)


def use_threads(count: int | None) -> int:
    """Give torch ``count`` threads, its own number when None, and return it. To be called before torch is imported:
    its threads then wait without spinning, which would take cores from whatever is measured next."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import torch

    if count:
        torch.set_num_threads(count)
    return torch.get_num_threads()


class CommandLine(argparse.ArgumentParser):
    """Command line of a program, whose refusals are one sentence."""

    def __init__(self, description: str | None, **others: Any) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, **others)

    def add_count(self, name: str, *, default: int | None, help: str) -> None:
        """An option that is a whole number of at least 1."""
        shown = help if default is None else f"{help} (default {default})"
        self.add_argument(name, type=count, default=default, metavar="N", help=shown)

    def error(self, message: str) -> Any:
        """End with ``message`` and status 2."""
        self.exit(2, f"{Path(sys.argv[0]).stem}: {message}\n")


class Options(CommandLine):
    """Command line of a benchmark. ``--json`` is always there."""

    def __init__(self, description: str | None, **others: Any) -> None:
        super().__init__(description, **others)
        self.add_argument("--json", type=file_to_write, metavar="FILE", help="write the figures to this file")


def count(text: str) -> int:
    """The whole number in ``text``, at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number of at least 1")
    return int(text)


def size(text: str) -> tuple[int, int]:
    """Width and height in ``text``, such as 400x300."""
    width, cross, height = text.partition("x")
    if not cross:
        raise argparse.ArgumentTypeError(f"{text!r}: give WIDTHxHEIGHT in pixels, such as 400x300")
    return count(width), count(height)


def case(text: str) -> tuple[int, int, int]:
    """Gaussians, width and height in ``text``, such as 30000@400x300."""
    gaussians, at, pixels = text.partition("@")
    if not at:
        raise argparse.ArgumentTypeError(f"{text!r}: give GAUSSIANS@WIDTHxHEIGHT, such as 30000@400x300")
    return count(gaussians), *size(pixels)


def file_to_write(text: str) -> Path:
    """The path ``text``, if a file can be written there."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder: give the file to write")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} cannot be written: give a path in a folder that you may write to")
    return path


def usable_folder(path: Path) -> None:
    """Make the folder of ``--output``, and see that files can be written there.

    Raises:
        ValueError: they can not.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        if path.is_file():
            raise ValueError(f"--output {path} is a file: give a folder") from None
        why = error.strerror or type(error).__name__
        raise ValueError(f"--output {path} cannot be written ({why}): give a folder that you may write to") from None


def run(measure: Callable[[], None]) -> int:
    """Call ``measure``; what cannot be measured here is one sentence and status 1."""
    from qsplat.kernels import BackendUnavailable

    try:
        measure()
    except (ValueError, OSError, BackendUnavailable, MemoryError) as problem:
        print(f"{Path(sys.argv[0]).stem}: {' '.join(str(problem).split()) or 'out of memory'}", file=sys.stderr)
        return 1
    return 0


def report(
    given: argparse.Namespace,
    title: str,
    measure: Callable[[argparse.Namespace], Sequence[Mapping[str, Any]]],
    about: Callable[[], Mapping[str, Any]] = dict,
) -> None:
    """Print the rows of ``measure`` on ``given.threads`` threads, and write them to ``given.json`` with the machine and
    what else there is to say ``about`` it. Memory that a run frees is kept for the next, as when training."""
    threads = use_threads(given.threads)
    from qsplat.training.memory import keep_freed_memory

    keep_freed_memory()
    rows = measure(given)
    show(title, rows)
    if given.json is not None:
        write_json(given.json, {"machine": {**machine(), **about()}, "threads": threads, "rows": rows})


def write_json(path: Path, content: object) -> None:
    """Write ``content``, or leave what is there."""
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print ``rows``, which have the same keys, as a table."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else 160).print(table)

"""How time and memory grow with the work, on this machine.

    python scripts/bench/scaling.py [--json FILE] [--plot FOLDER] [--sweeps NAME ...] [--most N] [--repeats N]

Every case runs in a fresh process, so that its peak memory (``peak_mb``, in 10^6 bytes, all of the process) is its own;
``imported_mb`` is what the imports alone had taken. The splats are those of ``rasterizer.py``. Timed are the
projection, the rasterizer (both forward and backward) and, but for ``channels``, a whole step of training without a
head. ``overlap`` uses faint splats, behind which nothing is hidden.

The growth of a quantity is the exponent e of quantity ~ work^e: over the whole sweep, and between its last two cases.
Memory is what a case takes beyond the imports. Nothing should grow faster than its work, so e is at most 1; for threads
the best is -1.

``training`` makes the most Gaussians at 1920x1080 out of nine tenths of them by a real densification and goes on to the
joint phase.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from measuring import (
    WARM_UP,
    Options,
    Times,
    machine,
    medians,
    milliseconds,
    peak_megabytes,
    run,
    sgemm_gflops,
    show,
    use_threads,
    write_json,
)
from plots import plot
from rasterizer import Image
from trainer import Trainer, training

MOST = 1_000_000
"""Gaussians of the largest cases."""
FULL_HD = (1920, 1080)
STEPS_WARM_UP = 6
"""Steps of training that do not count: with large images the process takes more memory in some of the first ones."""
GROWING = ("projection_ms", "rasterizer_ms", "step_ms", "memory_mb")


@dataclass(frozen=True)
class Case:
    """What one process measures. The splats are ``zoom`` times as large as those of ``rasterizer.py``; ``channels`` are
    features in the place of harmonics, without a step of training."""

    gaussians: int = 30_000
    width: int = 400
    height: int = 300
    channels: int | None = None
    threads: int | None = None
    zoom: float = 1.0
    opacities: tuple[float, float] = (0.1, 0.9)


@dataclass(frozen=True)
class Sweep:
    """Cases that differ in one thing, which ``work`` names in their rows."""

    title: str
    work: str
    cases: Sequence[Case]


@dataclass(frozen=True)
class Growth:
    """How a quantity grows with the work of a sweep."""

    sweep: str
    work: str
    quantity: str
    exponent: float
    last_exponent: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write and plot; or measure the one case that another process asks for."""
    known = [*sweeps(MOST), "training"]
    options = Options(__doc__)
    options.add_argument("--plot", type=folder, metavar="FOLDER", help="write a picture of each sweep into this folder")
    options.add_argument("--sweeps", nargs="+", choices=known, default=known, help="which; all when not given")
    options.add_count("--most", default=MOST, help="most Gaussians of a case")
    options.add_count("--repeats", default=5, help="runs of each part of a case that count")
    options.add_argument("--case", metavar="JSON", help="measure this case here and print its rows as JSON")
    given = options.parse_args(arguments)
    if given.case:
        return run(lambda: print(json.dumps(measure_here(json.loads(given.case), given.repeats))))

    def bench() -> None:
        found = measure(given.sweeps, given.most, given.repeats)
        if given.json:
            write_json(given.json, found)
        if given.plot:
            draw(found["rows"], given.most, given.plot)
        for name in given.sweeps:
            show(name, found["training"] if name == "training" else shown(found["rows"], name))
        if found["growth"]:
            show("growth: exponents of the work", found["growth"])

    return run(bench)


def folder(text: str) -> Path:
    """The path ``text``, if it is no file."""
    if Path(text).exists() and not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a file: give a folder")
    return Path(text)


def sweeps(most: int) -> dict[str, Sweep]:
    """Every sweep by name, with at most ``most`` Gaussians."""
    counts = [number for number in (10_000, 30_000, 100_000, 300_000, MOST) if number <= most] or [most]
    base, large = Case(min(30_000, most)), Case(min(100_000, most), 800, 600)
    faint = replace(base, opacities=(0.01, 0.05))
    threads = [2**power for power in range((os.cpu_count() or 1).bit_length())]

    def magnified(width: int) -> Case:
        return replace(base, width=width, height=width * 3 // 4, zoom=width / base.width)

    return {
        "gaussians": Sweep("Gaussians, 400x300", "gaussians", [replace(base, gaussians=n) for n in counts]),
        "gaussians-full-hd": Sweep("Gaussians, 1920x1080", "gaussians", [Case(n, *FULL_HD) for n in counts]),
        "pixels": Sweep(
            f"pixels, {base.gaussians} Gaussians that grow with the image",
            "megapixels",
            [magnified(width) for width in (256, 512, 1024, 2048, 3264)],
        ),
        "overlap": Sweep(
            f"overlap, {base.gaussians} faint Gaussians, 400x300",
            "overlap_per_pixel",
            [replace(faint, zoom=zoom) for zoom in (0.5, 1.0, 2.0, 4.0)],
        ),
        "threads": Sweep(
            f"threads, {large.gaussians} Gaussians, 800x600", "threads", [replace(large, threads=n) for n in threads]
        ),
        "channels": Sweep(
            f"channels, {base.gaussians} Gaussians, 400x300",
            "channels",
            [replace(base, channels=n) for n in (1, 3, 4, 8, 16)],
        ),
    }


def measure(names: Sequence[str], most: int, repeats: int) -> dict[str, Any]:
    """Rows of the sweeps, the growth in each, and the rows of the training."""
    found: dict[str, Any] = {"machine": None, "rows": [], "growth": [], "training": []}
    for name in names:
        if name == "training":
            answer = in_a_process({"training": (most, *FULL_HD)}, repeats)
            found["training"] = answer["rows"]
        else:
            sweep = sweeps(most)[name]
            answers = [in_a_process(asdict(case), repeats) for case in sweep.cases]
            rows = [{"sweep": name, **row} for answer in answers for row in answer["rows"]]
            found["rows"] += rows
            found["growth"] += [asdict(growth) for growth in growths(sweep, rows)]
            answer = answers[0]
        found["machine"] = answer["machine"]
    return found


def in_a_process(case: dict[str, Any], repeats: int) -> dict[str, Any]:
    """What ``measure_here`` finds in a fresh process.

    Raises:
        ValueError: it failed.
    """
    command = [sys.executable, __file__, "--case", json.dumps(case), "--repeats", str(repeats)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        said = answer.stderr.strip().splitlines() or ["killed, perhaps because memory ran out"]
        raise ValueError(f"{json.dumps(case)} ended with status {answer.returncode}: {said[-1]}")
    return json.loads(answer.stdout)


def measure_here(case: dict[str, Any], repeats: int) -> dict[str, Any]:
    """The rows of a case, measured in this process."""
    if "training" in case:
        threads, imported = prepared(None)
        rows = training(*case["training"], threads=threads, repeats=repeats)
        rows = [{**row, "imported_mb": imported} for row in rows]
    else:
        rows = [row_of(Case(**case), repeats)]
    return {"machine": machine(), "rows": rows}


def prepared(threads: int | None) -> tuple[int, float]:
    """The number of threads, and the memory taken once everything is imported. Freed memory stays in the process from
    then on, as in training."""
    threads = use_threads(threads)
    import qsplat.training.fit
    import qsplat.training.strategies  # noqa: F401
    from qsplat.training.memory import keep_freed_memory

    keep_freed_memory()
    return threads, peak_megabytes()


def row_of(case: Case, repeats: int) -> dict[str, Any]:
    """Times and memory of one case."""
    threads, imported = prepared(case.threads)
    from qsplat.kernels import best_binary

    gflops = repeated(lambda: {"gflops": sgemm_gflops()}, repeats)["gflops"]
    size = case.gaussians, case.width, case.height
    image = Image(size, best_binary(), channels=case.channels, zoom=case.zoom, opacities=case.opacities)
    composite, project = repeated(image.composite, repeats), repeated(image.project, repeats)
    splats, camera, overlaps = image.splats, image.camera, image.overlaps
    del image
    step = None
    if case.channels is None:
        trainer = Trainer(splats, camera, threads)
        del splats
        steps = repeated(lambda: {"ms": milliseconds(lambda: trainer.step(0))}, repeats, warm_up=STEPS_WARM_UP)
        step = steps["ms"]
    pixels, peak = case.width * case.height, peak_megabytes()
    return {
        "gaussians": case.gaussians,
        "width": case.width,
        "height": case.height,
        "megapixels": round(pixels / 1e6, 3),
        "overlap_per_pixel": round(overlaps / pixels, 2),
        "channels": case.channels or 3,
        "threads": threads,
        "forward_ms": composite["forward_ms"],
        "backward_ms": composite["backward_ms"],
        "rasterizer_ms": round(sum(composite.values()), 3),
        "projection_ms": round(sum(project.values()), 3),
        "step_ms": step,
        "peak_mb": peak,
        "imported_mb": imported,
        "memory_mb": round(peak - imported, 1),
        "sgemm_gflops": gflops,
    }


def repeated(part: Callable[[], Times], repeats: int, *, warm_up: int = WARM_UP) -> Times:
    """Medians of ``part`` after its warm-up."""
    return medians([part() for _ in range(warm_up + repeats)][warm_up:])


def growths(sweep: Sweep, rows: Sequence[dict[str, Any]]) -> list[Growth]:
    """The growth of every quantity that all rows have."""
    if len(rows) < 2:
        return []
    name, work = rows[0]["sweep"], [row[sweep.work] for row in rows]
    return [
        Growth(name, sweep.work, quantity, exponent(work, values), exponent(work[-2:], values[-2:]))
        for quantity in GROWING
        if all(values := [row[quantity] for row in rows])
    ]


def exponent(work: Sequence[float], values: Sequence[float]) -> float:
    """Slope of the straight line through the logarithms (least squares)."""
    xs, ys = [math.log(x) for x in work], [math.log(y) for y in values]
    middle_x, middle_y = sum(xs) / len(xs), sum(ys) / len(ys)
    rise = sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True))
    return round(rise / sum((x - middle_x) ** 2 for x in xs), 2)


def rows_of(rows: Sequence[dict[str, Any]], sweep: str) -> list[dict[str, Any]]:
    """The rows of one sweep, without its name."""
    return [{key: value for key, value in row.items() if key != "sweep"} for row in rows if row["sweep"] == sweep]


def draw(rows: Sequence[dict[str, Any]], most: int, into: Path) -> None:
    """A picture of each sweep that was measured."""
    for name, sweep in sweeps(most).items():
        points = rows_of(rows, name)
        if points:
            plot(sweep.title, sweep.work, points, into / f"{name}.png")


def shown(rows: Sequence[dict[str, Any]], sweep: str) -> list[dict[str, Any]]:
    """What a terminal has room for."""
    left_out = {"rasterizer_ms", "megapixels", "imported_mb", "sgemm_gflops"}
    return [{key: value for key, value in row.items() if key not in left_out} for row in rows_of(rows, sweep)]


if __name__ == "__main__":
    sys.exit(main())

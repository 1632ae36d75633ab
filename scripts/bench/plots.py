"""Pictures of how time and memory grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qsplat.io.atomic import written_whole

TIMES = {
    "step_ms": "step of training",
    "forward_ms": "rasterizer, forward",
    "backward_ms": "rasterizer, backward",
    "projection_ms": "projection, both ways",
}
MEMORY = {"peak_mb": "peak of the process", "memory_mb": "beyond imports"}


def plot(title: str, work: str, points: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a picture of ``points``, which differ in ``work``: times on the left, memory on the right, each with a line
    that grows as the work does."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (times, memory) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    works = [point[work] for point in points]
    for axes, lines in ((times, TIMES), (memory, MEMORY)):
        for quantity, label in lines.items():
            values = [point[quantity] for point in points]
            if all(values):
                axes.plot(works, values, marker="o", markersize=4, label=label)
    slope = -1 if work == "threads" else 1
    for axes, quantity, unit in ((times, "backward_ms", "ms"), (memory, "memory_mb", "MB")):
        ideal = [points[0][quantity] * (x / works[0]) ** slope for x in works]
        axes.plot(works, ideal, "k--", linewidth=0.8, label=f"slope {slope}")
        axes.set(xscale="log", yscale="log", xlabel=work.replace("_", " "), ylabel=unit)
        axes.set_xticks(works, [f"{x:,}" for x in works])
        axes.set_xticks([], minor=True)
        axes.grid(which="both", linewidth=0.3, alpha=0.5)
        axes.legend(fontsize="x-small")
    figure.suptitle(title)
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=90)
    pyplot.close(figure)

"""Pictures of experiments: one look for all."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = (4.6, 3.4)
"""Inches of a panel."""


@contextmanager
def canvas(rows: int, columns: int, *, panel: tuple[float, float] = PANEL) -> Iterator[tuple[Figure, np.ndarray]]:
    """A figure of ``rows`` by ``columns`` panels [rows, columns], closed at the end."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    size = (panel[0] * columns, panel[1] * rows)
    figure, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    try:
        yield figure, axes
    finally:
        pyplot.close(figure)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG."""
    figure.savefig(path, format="png", dpi=100)


def colours(count: int) -> list[tuple[float, ...]]:
    """As many colours, told apart up to ten."""
    from matplotlib import colormaps

    return [colormaps["tab10"](index % 10) for index in range(count)]


def bars(axis: Axes, values: Mapping[str, Sequence[float]], *, label: str, zero: bool = True) -> None:
    """A bar for the mean of each of ``values``, and a dot for each seed; without ``zero`` on the axis, it begins a
    little below the lowest."""
    means = [statistics.fmean(seeds) for seeds in values.values()]
    axis.bar(range(len(values)), means, color=colours(len(values)), alpha=0.6)
    for place, seeds in enumerate(values.values()):
        axis.plot([place] * len(seeds), seeds, ".", color="black", markersize=4)
    everything = [0.0] * zero + [value for seeds in values.values() for value in seeds]
    room = 0.1 * (max(everything) - min(everything)) or 0.1
    axis.set_ylim(min(everything) - room, max(everything) + room)
    if zero:
        axis.axhline(0, color="black", linewidth=0.8)
    axis.set_xticks(range(len(values)), list(values), rotation=25, ha="right", fontsize="small")
    axis.set_ylabel(label)


def curves(axis: Axes, places: Sequence[float], values: Mapping[str, Sequence[Sequence[float]]], *, label: str) -> None:
    """A line for the mean over seeds of each of ``values`` [seeds][places], and a band of one standard deviation."""
    for (name, seeds), colour in zip(values.items(), colours(len(values)), strict=True):
        table = np.asarray(seeds, dtype=float)
        mean, spread = table.mean(axis=0), table.std(axis=0)
        axis.plot(places, mean, label=name, color=colour)
        axis.fill_between(places, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
    axis.set_ylabel(label)


def say(sentence: str, path: Path) -> None:
    """A picture of one sentence, where there is nothing to draw."""
    with canvas(1, 1, panel=(8, 1.2)) as (figure, axes):
        axes[0, 0].text(0.5, 0.5, sentence, ha="center", va="center", wrap=True)
        axes[0, 0].axis("off")
        save(figure, path)

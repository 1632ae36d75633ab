"""Pictures of experiments: one look for all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
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
    """As many colours that are told apart."""
    from matplotlib import colormaps

    return [colormaps["tab10"](index % 10) for index in range(count)]

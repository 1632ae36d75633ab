"""Which part of an image the head sees in a step of training.

By default all of the image is rendered and compared with the photo, so that a step moves every Gaussian as it would
without a head; ``Schedule.drawn`` says when it is not.
"""

from __future__ import annotations

import math

import torch

from qsplat.cameras import Window

SMALLEST_SIDE = 24
"""Crops have at least this many pixels a side where the image has."""


def random_crop(width: int, height: int, share: float, *, generator: torch.Generator) -> Window:
    """A window of ``share`` of the pixels of an image, with the image's aspect, at a random place.

    Places are drawn from an area that goes a whole crop beyond the image and are then moved inside, because pixels at
    the edges would otherwise be seen much less often than others.
    """
    x, across = _place(width, share, generator)
    y, down = _place(height, share, generator)
    return Window(x, y, across, down)


def _place(side: int, share: float, generator: torch.Generator) -> tuple[int, int]:
    """Start and length of the crop along a side of the image."""
    length = min(side, max(round(side * math.sqrt(share)), SMALLEST_SIDE))
    start = int(torch.randint(-length, side + 1, (), generator=generator))
    return min(max(start, 0), side - length), length

"""A head applied to an image of any size."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from qsplat.cameras import Window
from qsplat.qnn.network import QNN
from qsplat.qnn.queries import PartQueries

TILE = 512
"""Side in pixels of the tiles that an image is cut into when no gradient is needed."""


def image_residual(
    head: QNN, image: Float[Tensor, "h w c"], queries: Float[Tensor, "h w d"] | PartQueries | None, *, tile: int = TILE
) -> Float[Tensor, "h w c"]:
    """The residual of ``head`` for ``image``, given the ``queries`` of its pixels or what gives those of its parts;
    None for a head that reads none.

    Where a gradient is needed, the image is one piece, and so it is for a head whose residual depends on all of it.
    Elsewhere an image larger than ``tile`` pixels a side is cut into tiles that overlap by the head's halo, which gives
    the same values in bounded memory.
    """
    height, width, _ = image.shape
    learning = image.requires_grad or any(parameter.requires_grad for parameter in head.parameters())
    if head.halo is None or (learning and torch.is_grad_enabled()) or max(height, width) <= tile:
        return _residual(head, image, queries, Window(0, 0, width, height))
    residual = torch.empty_like(image)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            part = Window(left, top, min(tile, width - left), min(tile, height - top))
            residual[rows_and_columns(part)] = crop_residual(head, image, queries, part)
    return residual


def crop_residual(
    head: QNN, image: Float[Tensor, "h w c"], queries: Float[Tensor, "h w d"] | PartQueries | None, window: Window
) -> Float[Tensor, "v u c"]:
    """The part of ``image_residual`` in ``window``, given in pixels of ``image``. Only that and the halo around it are
    read, and only their queries are asked for.

    Raises:
        ValueError: the head's residual depends on all of the image, and ``window`` is a part of it.
    """
    height, width, _ = image.shape
    if head.halo is None:
        if window != Window(0, 0, width, height):
            raise ValueError(
                f"{window} of an image of {width}x{height} pixels: a residual by "
                f"{type(head.config.convolution).__name__} depends on the whole image; give all of it"
            )
        return _residual(head, image, queries, window)
    read = window.grown(head.halo, width=width, height=height)
    return _residual(head, image, queries, read)[rows_and_columns(window.relative_to(read))]


def window_residual(
    head: QNN, image: Float[Tensor, "h w c"], queries: Float[Tensor, "h w d"] | PartQueries | None, window: Window
) -> Float[Tensor, "h w c"]:
    """The residual of ``image_residual`` in ``window``, given in pixels of ``image``; elsewhere 0."""
    height, width, _ = image.shape
    part = crop_residual(head, image, queries, window)
    right, bottom = width - window.x - window.width, height - window.y - window.height
    return functional.pad(part, (0, 0, window.x, right, window.y, bottom))


def rows_and_columns(window: Window) -> tuple[slice, slice]:
    """``window`` as an index of an image."""
    return slice(window.y, window.y + window.height), slice(window.x, window.x + window.width)


def _residual(
    head: QNN, image: Float[Tensor, "h w c"], queries: Float[Tensor, "h w d"] | PartQueries | None, read: Window
) -> Float[Tensor, "v u c"]:
    """The residual of the piece ``read``. Channels stay last in memory, which is how convolutions run fastest on a
    CPU."""
    here = rows_and_columns(read)
    told = None
    if head.reads_queries:
        assert queries is not None
        told = queries[here] if isinstance(queries, Tensor) else queries(read)
        told = told.to(image).permute(2, 0, 1)[None]
    return head(image[here].permute(2, 0, 1)[None], told)[0].permute(1, 2, 0)

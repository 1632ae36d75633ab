"""A head applied to an image of any size."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from qsplat.cameras import Camera, Window
from qsplat.qnn.network import QNN
from qsplat.qnn.queries import pixel_queries

TILE = 512
"""Side in pixels of the tiles that an image is cut into when no gradient is needed."""


def image_residual(
    head: QNN, image: Float[Tensor, "h w c"], camera: Camera, *, tile: int = TILE
) -> Float[Tensor, "h w c"]:
    """The residual of ``head`` for the ``image`` that ``camera`` rendered.

    Where a gradient is needed, the image is one piece. Elsewhere an image larger than ``tile`` pixels a side is cut
    into tiles that overlap by the head's halo, which gives the same values in bounded memory.
    """
    queries = pixel_queries(camera).to(image)
    height, width, _ = image.shape
    learning = image.requires_grad or any(parameter.requires_grad for parameter in head.parameters())
    if (learning and torch.is_grad_enabled()) or max(height, width) <= tile:
        return _residual(head, image, queries)
    residual = torch.empty_like(image)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            rows, kept_rows = _with_halo(top, min(top + tile, height), head.halo, height)
            columns, kept_columns = _with_halo(left, min(left + tile, width), head.halo, width)
            part = _residual(head, image[rows, columns], queries[rows, columns])
            residual[top : top + tile, left : left + tile] = part[kept_rows, kept_columns]
    return residual


def window_residual(head: QNN, image: Float[Tensor, "h w c"], camera: Camera, window: Window) -> Float[Tensor, "h w c"]:
    """The residual of ``head`` for the ``image`` that ``camera`` rendered, in ``window`` (pixels of ``image``) alone:
    there it is that of ``image_residual``, elsewhere 0."""
    height, width, _ = image.shape
    bottom, right = window.y + window.height, window.x + window.width
    rows, kept_rows = _with_halo(window.y, bottom, head.halo, height)
    columns, kept_columns = _with_halo(window.x, right, head.halo, width)
    x, y = camera.view.x + columns.start, camera.view.y + rows.start
    read = Window(x, y, columns.stop - columns.start, rows.stop - rows.start)
    queries = pixel_queries(camera.cropped(read)).to(image)
    part = _residual(head, image[rows, columns], queries)[kept_rows, kept_columns]
    return functional.pad(part, (0, 0, window.x, width - right, window.y, height - bottom))


def _residual(head: QNN, image: Float[Tensor, "h w c"], queries: Float[Tensor, "h w d"]) -> Float[Tensor, "h w c"]:
    """The residual of one piece. Channels stay last in memory, which is how convolutions run fastest on a CPU."""
    residual = head(image.permute(2, 0, 1)[None], queries.permute(2, 0, 1)[None])
    return residual[0].permute(1, 2, 0)


def _with_halo(first: int, last: int, halo: int, size: int) -> tuple[slice, slice]:
    """The samples to read for the tile ``first:last`` of ``size`` samples, and the tile within what was read."""
    start = max(0, first - halo)
    return slice(start, min(size, last + halo)), slice(first - start, last - start)

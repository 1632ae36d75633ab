"""The random splats that the benchmarks draw, and how much work they are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from qsplat.cameras import Camera
    from qsplat.gaussians import Splats

BLOCK = 4
"""Side in pixels of the blocks that the kernels do at once."""


def random_layer(
    gaussians: int, width: int, height: int, *, zoom: float = 1.0, opacities: tuple[float, float] = (0.1, 0.9)
) -> tuple[Splats, Camera]:
    """Flat splats that face the camera, all over the image, at random depths, ``zoom`` times as large as usual."""
    import torch

    from qsplat.cameras import Camera
    from qsplat.gaussians import Splats

    generator = torch.Generator().manual_seed(gaussians)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator) * (high - low) + low

    focal = float(width)
    depth = uniform(1, 5, gaussians)
    pixels = torch.stack([uniform(0, width, gaussians), uniform(0, height, gaussians)], dim=-1)
    slopes = (pixels - torch.tensor([width / 2, height / 2])) / focal
    major = zoom * torch.exp(uniform(math.log(2), math.log(10), gaussians)) / 3 * depth / focal
    turn = uniform(0, math.pi, gaussians) / 2
    zero = torch.zeros(gaussians)
    splats = Splats(
        means=torch.cat([slopes, torch.ones(gaussians, 1)], dim=-1) * depth[:, None],
        quats=torch.stack([turn.cos(), zero, zero, turn.sin()], dim=-1),
        scales=torch.stack([major, major * uniform(0.3, 1, gaussians), 1e-4 * major], dim=-1),
        opacities=uniform(*opacities, gaussians),
        sh=torch.randn(gaussians, 16, 3, generator=generator) * 0.2,
    )
    return splats, Camera(torch.eye(4), focal, focal, width / 2, height / 2, width, height)


def covered(means2d: torch.Tensor, records: torch.Tensor, width: int, height: int) -> tuple[int, int]:
    """Number of pixels, and of blocks of pixels, in which alpha of each splat reaches 1/255, summed over the splats."""
    import torch

    a, b, c, opacity = (column[:, None] for column in records[:, :4].unbind(1))
    level = 2 * (opacity * 255).log().clamp_min(0)
    x, y = means2d[:, :1], means2d[:, 1:]
    reach = (level * a / (a * c - b * b)).sqrt()
    top = ((y - reach) / BLOCK).floor() * BLOCK
    rows = top + torch.arange(int((2 * reach).max()) // BLOCK * BLOCK + 2 * BLOCK)
    down = rows + 0.5 - y
    root = (b * down) ** 2 - a * (c * down**2 - level)
    width_at = root.clamp_min(0).sqrt()
    first = ((-b * down - width_at) / a + x - 0.5).ceil().clamp_min(0)
    last = ((-b * down + width_at) / a + x - 0.5).floor().clamp_max(width - 1)
    crossed = (root >= 0) & (first <= last) & (rows >= 0) & (rows < height)
    pixels = torch.where(crossed, last - first + 1, 0).sum(dtype=torch.float64)
    first = torch.where(crossed, first, math.inf).unflatten(1, (-1, BLOCK)).amin(2)
    last = torch.where(crossed, last, -math.inf).unflatten(1, (-1, BLOCK)).amax(2)
    blocks = torch.where(first <= last, (last / BLOCK).floor() - (first / BLOCK).floor() + 1, 0)
    return int(pixels), int(blocks.sum(dtype=torch.float64))


def overlaps(records: torch.Tensor) -> float:
    """Sum of the areas, in pixels, of the ellipses in which alpha reaches 1/255."""
    level = 2 * (records[:, 3] * 255).log().clamp_min(0)
    det = records[:, 0] * records[:, 2] - records[:, 1] ** 2
    return float((math.pi * level / det.sqrt()).sum())

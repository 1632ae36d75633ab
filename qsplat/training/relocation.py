"""Opacities and scales that keep an image the same when one Gaussian is replaced by several in its place."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

MOST_COPIES = 51
"""More copies of one Gaussian than this are treated as this many: the sum below would lose its digits."""


@dataclass(frozen=True)
class Relocated:
    """What each of the copies gets: an opacity in (0, 1) and standard deviations in world units."""

    opacities: Float[Tensor, " n"]
    scales: Float[Tensor, "n 3"]


def relocated_shapes(
    opacities: Float[Tensor, " n"], scales: Float[Tensor, "n 3"], copies: Int[Tensor, " n"]
) -> Relocated:
    """Shapes for ``copies`` Gaussians that stand where one with ``opacities`` and ``scales`` stood.

    With N copies of opacity p = 1 - (1 - o)^(1/N), the scales are multiplied by
    o / sum_{i=1..N} sum_{k=0..i-1} C(i-1, k) (-1)^k p^(k+1) / sqrt(k+1). The inner binomials add up to C(N, k+1) over
    i, which leaves one sum; it is taken in float64 because its terms alternate.

    Source: Kheradmand et al. 2024, 3D Gaussian Splatting as Markov Chain Monte Carlo, equation 9.
    """
    count = copies.clamp(1, MOST_COPIES)
    old = opacities.double()
    new = -torch.expm1(torch.log1p(-old) / count)
    power = torch.arange(1, MOST_COPIES + 1, dtype=torch.float64, device=old.device)
    weights = _binomials(old.device)[count] * torch.where(power % 2 == 1, 1.0, -1.0) / power.sqrt()
    total = (weights * new[:, None] ** power).sum(dim=1)
    return Relocated(opacities=new.to(opacities), scales=scales * (old / total).to(scales)[:, None])


def _binomials(device: torch.device) -> Float[Tensor, "51+1 51"]:
    """C(n, j) for n from 0 and j from 1."""
    rows = [[float(math.comb(n, j)) for j in range(1, MOST_COPIES + 1)] for n in range(MOST_COPIES + 1)]
    return torch.tensor(rows, dtype=torch.float64, device=device)

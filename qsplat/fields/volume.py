"""Volume rendering: densities and colours along a ray to one colour.

With samples i = 1..s along a ray from near to far, densities sigma_i, and the lengths delta_i of what they stand for,

    T_i = exp(-sum_{j<i} sigma_j delta_j),   w_i = T_i (1 - exp(-sigma_i delta_i))

and the colour is sum w_i c_i, the coverage sum w_i (at most 1), the expected distance sum w_i t_i / sum w_i.

Source: Max 1995; Mildenhall et al. 2020, equation 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class RayColors:
    """What rays see: premultiplied RGB without background, coverage, and expected distance in world units."""

    color: Float[Tensor, "r 3"]
    alpha: Float[Tensor, " r"]
    distance: Float[Tensor, " r"]

    def over(self, background: Float[Tensor, "3"]) -> Float[Tensor, "r 3"]:
        """The colours in front of ``background``."""
        return self.color + (1 - self.alpha)[:, None] * background


def rendering_weights(density: Float[Tensor, "r s"], lengths: Float[Tensor, "r s"]) -> Float[Tensor, "r s"]:
    """The share w_i of each sample in the colour of its ray. ``density`` is in units of 1/length, at least 0."""
    thickness = density * lengths
    before = torch.cat([torch.zeros_like(thickness[:, :1]), thickness[:, :-1].cumsum(dim=1)], dim=1)
    return torch.exp(-before) * -torch.expm1(-thickness)


def composite(
    weights: Float[Tensor, "r s"], colors: Float[Tensor, "r s 3"], distances: Float[Tensor, "r s"]
) -> RayColors:
    """The sum of ``colors`` and the mean of ``distances`` along each ray. A ray that meets nothing has distance 0."""
    alpha = weights.sum(dim=1)
    return RayColors(
        color=(weights[:, :, None] * colors).sum(dim=1),
        alpha=alpha,
        distance=(weights * distances).sum(dim=1) / alpha.clamp_min(1e-10),
    )

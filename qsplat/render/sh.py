"""Real spherical harmonics up to degree 3 in the sign convention of 3D Gaussian splatting."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from qsplat.gaussians import SH_DC


def sh_basis(directions: Float[Tensor, "n 3"], degree: int) -> Float[Tensor, "n k"]:
    """Basis functions at unit ``directions``, k = (degree + 1)^2 of them.

    Source: Sloan 2013, Efficient Spherical Harmonic Evaluation; signs as in Kerbl et al. 2023.
    """
    x, y, z = directions.unbind(-1)
    basis = [torch.full_like(x, SH_DC)]
    if degree >= 1:
        first = math.sqrt(3 / (4 * math.pi))
        basis += [-first * y, first * z, -first * x]
    if degree >= 2:
        second = math.sqrt(15 / (4 * math.pi))
        basis += [
            second * x * y,
            -second * y * z,
            math.sqrt(5 / (16 * math.pi)) * (2 * z * z - x * x - y * y),
            -second * x * z,
            second / 2 * (x * x - y * y),
        ]
    if degree >= 3:
        third, fourth, sixth = (math.sqrt(value / math.pi) for value in (35 / 32, 105 / 4, 21 / 32))
        basis += [
            -third * y * (3 * x * x - y * y),
            fourth * x * y * z,
            -sixth * y * (4 * z * z - x * x - y * y),
            math.sqrt(7 / (16 * math.pi)) * z * (2 * z * z - 3 * x * x - 3 * y * y),
            -sixth * x * (4 * z * z - x * x - y * y),
            fourth / 2 * z * (x * x - y * y),
            -third * x * (x * x - 3 * y * y),
        ]
    return torch.stack(basis, dim=-1)


def sh_color(
    sh: Float[Tensor, "n k 3"], means: Float[Tensor, "n 3"], center: Float[Tensor, "3"]
) -> Float[Tensor, "n 3"]:
    """RGB seen from ``center``: harmonics along the view direction, offset by 0.5, clamped at zero."""
    directions = functional.normalize(means - center, dim=-1)
    basis = sh_basis(directions, math.isqrt(sh.shape[1]) - 1)
    return (torch.einsum("nk,nkc->nc", basis, sh) + 0.5).clamp_min(0)

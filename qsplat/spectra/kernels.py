"""The kernels that encodings induce: how alike two points look to the first layer of a network.

k(x, y) = g(x) . g(y) / g(x) . g(x). For waves it depends on x - y alone, and its Fourier transform is the distribution
of their frequencies: a network on top of it learns what lies there. Source: Rahimi and Recht 2007; Tancik et al. 2020,
section 5.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from qsplat.encodings import Fourier, Positional


def induced_kernel(encoding: Fourier | Positional, offsets: Float[Tensor, "*points dims"]) -> Float[Tensor, " *points"]:
    """The kernel of the waves of ``encoding`` at the ``offsets`` between points, in closed form.

    For random waves it is what infinitely many of them would have, exp(-2 pi^2 sigma^2 |offset|^2); for octaves it is
    the mean of their cosines, the coordinates themselves, which come with them, left out.
    """
    match encoding:
        case Fourier(scale=scale):
            return torch.exp(-2 * (math.pi * scale) ** 2 * offsets.square().sum(dim=-1))
        case Positional(octaves=octaves):
            angles = offsets[..., None] * 2.0 ** torch.arange(octaves).to(offsets)
            return torch.cos(angles).mean(dim=(-1, -2))

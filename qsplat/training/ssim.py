"""Structural similarity (SSIM) with its gradient written out: the costliest part of the loss on a CPU."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

WINDOW = 11
"""Side of the Gaussian window in pixels."""
SIGMA = 1.5
"""Standard deviation of the window in pixels."""
C1, C2 = 0.01**2, 0.03**2
"""Stabilising constants for images in [0, 1]."""


def ssim_map(prediction: Float[Tensor, "h w c"], target: Float[Tensor, "h w c"]) -> Float[Tensor, "v u c"]:
    """Structural similarity at the pixels whose whole window lies inside the image (v = h - 10, u = w - 10).

    Only ``prediction`` gets a gradient.

    Raises:
        ValueError: a side is shorter than the window.

    Source: Wang et al. 2004, equation 13.
    """
    if min(prediction.shape[:2]) < WINDOW:
        height, width = prediction.shape[:2]
        raise ValueError(f"image of {width}x{height} pixels: SSIM needs at least {WINDOW} on both sides")
    planes = (image.permute(2, 0, 1).contiguous() for image in (prediction, target))
    similarity: Tensor = _Similarity.apply(*planes)  # pyright: ignore[reportAssignmentType]
    return similarity.permute(1, 2, 0)


class _Similarity(torch.autograd.Function):
    """SSIM of planes x [c, h, w] and y as L C / (D1 D2), from the five moments that the window takes of them:

        L = 2 ab + C1          D1 = a^2 + b^2 + C1                    a, b the means of x and y
        C = 2 (xy - ab) + C2   D2 = (xx - a^2) + (yy - b^2) + C2      xx, yy, xy the means of the products

    The derivatives with respect to a, xx and xy go back through the window, which is symmetric.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        moments = x.new_empty(5, *x.shape)
        moments[0], moments[1] = x, y
        torch.mul(x, x, out=moments[2])
        torch.mul(y, y, out=moments[3])
        torch.mul(x, y, out=moments[4])
        a, b, xx, yy, xy = _blur(moments).unbind(0)
        squares = torch.addcmul(a * a, b, b)
        spread = xx.add_(yy).sub_(squares).add_(C2)
        squares = squares.add_(C1)
        product = a * b
        contrast = xy.sub_(product).mul_(2).add_(C2)
        luminance = product.mul_(2).add_(C1)
        inverse = (squares * spread).reciprocal_()
        similarity = (luminance * contrast).mul_(inverse)
        ctx.save_for_backward(x, y, a, b, luminance, contrast, squares, spread, inverse, similarity)
        return similarity

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, y, a, b, luminance, contrast, squares, spread, inverse, similarity = ctx.saved_tensors
        slopes = a.new_empty(3, *a.shape)
        torch.div(similarity, spread, out=slopes[1]).neg_()
        torch.mul(luminance, inverse, out=slopes[2]).mul_(2)
        per_mean = torch.sub(contrast, luminance, out=slopes[0]).mul_(b).mul_(inverse)
        per_mean.sub_(a * (slopes[1] + similarity / squares)).mul_(2)
        mean, xx, xy = _spread(slopes.mul_(gradient)).unbind(0)
        return mean.addcmul_(x, xx, value=2).addcmul_(y, xy), None


def _window() -> list[float]:
    """Weights of the window along one axis, summing to 1."""
    weights = [math.exp(-((i - WINDOW // 2) ** 2) / (2 * SIGMA**2)) for i in range(WINDOW)]
    return [weight / sum(weights) for weight in weights]


def _blur(planes: Float[Tensor, "*planes h w"]) -> Float[Tensor, "*planes v u"]:
    """The Gaussian window at the pixels where it fits, as sums of shifted planes.

    One thread took 2.2 ms for 15 planes of 252x189 this way, 8.5 ms with two depthwise convolutions (channels last).
    """
    weights = _window()
    height, width = planes.shape[-2] - WINDOW + 1, planes.shape[-1] - WINDOW + 1
    rows = planes[..., :height, :] * weights[0]
    for i in range(1, WINDOW):
        rows.add_(planes[..., i : i + height, :], alpha=weights[i])
    both = rows[..., :width] * weights[0]
    for i in range(1, WINDOW):
        both.add_(rows[..., i : i + width], alpha=weights[i])
    return both


def _spread(planes: Float[Tensor, "*planes v u"]) -> Float[Tensor, "*planes h w"]:
    """The transpose of ``_blur``: each value spread over the window around its pixel."""
    weights = _window()
    *leading, height, width = planes.shape
    rows = planes.new_zeros(*leading, height, width + WINDOW - 1)
    for i in range(WINDOW):
        rows[..., i : i + width].add_(planes, alpha=weights[i])
    both = planes.new_zeros(*leading, height + WINDOW - 1, width + WINDOW - 1)
    for i in range(WINDOW):
        both[..., i : i + height, :].add_(rows, alpha=weights[i])
    return both

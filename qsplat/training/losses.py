"""The photometric loss: L1 and structural dissimilarity of a rendered image against its photo."""

from __future__ import annotations

import functools

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

WINDOW = 11
"""Side of the Gaussian window of SSIM in pixels."""
SIGMA = 1.5
"""Standard deviation of that window in pixels."""
C1, C2 = 0.01**2, 0.03**2
"""Stabilising constants of SSIM for images in [0, 1]."""


def photometric_loss(
    prediction: Float[Tensor, "h w c"],
    target: Float[Tensor, "h w c"],
    *,
    ssim_weight: float = 0.2,
    mask: Bool[Tensor, "h w"] | None = None,
) -> Float[Tensor, ""]:
    """(1 - ssim_weight) L1 + ssim_weight (1 - SSIM); pixels where ``mask`` is False do not count.

    An image narrower than the SSIM window is compared by L1 alone; a mask without a True pixel gives 0.

    Source: Kerbl et al. 2023, equation 7.
    """
    if mask is not None:
        prediction, target = prediction * mask[..., None], target * mask[..., None]
    difference = (prediction - target).abs()
    absolute = difference.mean() if mask is None else difference.sum() / (mask.sum() * difference.shape[2]).clamp_min(1)
    if ssim_weight == 0 or min(prediction.shape[:2]) < WINDOW:
        return absolute
    similarity = ssim_map(prediction, target)
    if mask is None:
        dissimilarity = 1 - similarity.mean()
    else:
        border = WINDOW // 2
        inside = mask[border : mask.shape[0] - border, border : mask.shape[1] - border, None]
        dissimilarity = ((1 - similarity) * inside).sum() / (inside.sum() * similarity.shape[2]).clamp_min(1)
    return (1 - ssim_weight) * absolute + ssim_weight * dissimilarity


def ssim_map(prediction: Float[Tensor, "h w c"], target: Float[Tensor, "h w c"]) -> Float[Tensor, "v u c"]:
    """Structural similarity at the pixels whose whole window lies inside the image (v = h - 10, u = w - 10).

    Raises:
        ValueError: a side is shorter than the window.

    Source: Wang et al. 2004, equation 13.
    """
    if min(prediction.shape[:2]) < WINDOW:
        height, width = prediction.shape[:2]
        raise ValueError(f"image of {width}x{height} pixels: SSIM needs at least {WINDOW} on both sides")
    moments = [prediction, target, prediction * prediction, target * target, prediction * target]
    mean_x, mean_y, xx, yy, xy = _blur(torch.cat(moments, dim=-1)).chunk(5, dim=-1)
    mean_xy = mean_x * mean_y
    squares = mean_x * mean_x + mean_y * mean_y
    luminance = (2 * mean_xy + C1) / (squares + C1)
    return luminance * (2 * (xy - mean_xy) + C2) / (xx + yy - squares + C2)


def _blur(image: Float[Tensor, "h w c"]) -> Float[Tensor, "v u c"]:
    """Gaussian window over the pixels that it fits, as two depthwise passes over channels that lie side by side.

    At 400x300 with 15 channels one thread needs 6 ms for the value and the gradient, the 11x11 window in one pass
    14 ms, and either of them on planes that lie one after the other more than 25 ms.
    """
    row = _window(image.dtype, image.device).expand(image.shape[2], 1, 1, WINDOW)
    planes = image.permute(2, 0, 1)[None]
    planes = functional.conv2d(planes, row, groups=image.shape[2])
    planes = functional.conv2d(planes, row.mT, groups=image.shape[2])
    return planes[0].permute(1, 2, 0)


@functools.lru_cache(maxsize=8)
def _window(dtype: torch.dtype, device: torch.device) -> Float[Tensor, "11"]:
    """Weights of the window along one axis, summing to 1."""
    offsets = torch.arange(WINDOW, dtype=dtype, device=device) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    return weights / weights.sum()

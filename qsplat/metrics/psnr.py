"""Peak signal-to-noise ratio."""

from __future__ import annotations

import math

from jaxtyping import Bool, Float
from torch import Tensor

FLOOR = 1e-10
"""Mean squared errors below this count as this, so that equal images have 100 dB and a report stays valid JSON."""


def decibels(mean_squared_error: float) -> float:
    """PSNR in dB of an error in images with values in [0, 1]."""
    return -10 * math.log10(max(mean_squared_error, FLOOR))


def psnr(
    prediction: Float[Tensor, "h w c"], target: Float[Tensor, "h w c"], *, mask: Bool[Tensor, "h w"] | None = None
) -> float:
    """PSNR in dB of ``prediction``, clamped to [0, 1], over the pixels where ``mask`` is True (all without one).

    Raises:
        ValueError: the mask leaves no pixel.
    """
    error = (prediction.clamp(0, 1) - target).double().square()
    if mask is not None:
        if not bool(mask.any()):
            raise ValueError("the mask leaves no pixel to measure: remove it, or the view")
        error = error[mask]
    return decibels(error.mean().item())

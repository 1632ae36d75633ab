"""The photometric loss: L1 and structural dissimilarity of a rendered image against its photo."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from qsplat.training.ssim import WINDOW, ssim_map


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

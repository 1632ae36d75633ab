"""Structural similarity, as torchmetrics computes it."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

WINDOW = 11


def ssim(
    prediction: Float[Tensor, "h w c"], target: Float[Tensor, "h w c"], *, mask: Bool[Tensor, "h w"] | None = None
) -> float:
    """Mean SSIM of ``prediction``, clamped to [0, 1]: Gaussian window of 11x11 pixels with sigma 1.5, data range 1.

    Pixels where the mask is False count as equal in the windows that reach them. The mean is over pixels whose window
    lies inside the image (and where the mask is True), as in the source and in scikit-image; torchmetrics averages over
    the reflected border too, or not, depending on its version.

    Raises:
        ValueError: the images are smaller than the window, or the mask leaves no pixel.

    Source: Wang et al. 2004.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    height, width = target.shape[:2]
    if min(height, width) < WINDOW:
        raise ValueError(f"SSIM needs images of at least {WINDOW}x{WINDOW} pixels, these have {width}x{height}")
    if mask is not None:
        prediction = torch.where(mask[..., None], prediction, target)
    first, second = (image.permute(2, 0, 1)[None].float() for image in (prediction.clamp(0, 1), target))
    _, similarity = structural_similarity_index_measure(first, second, data_range=1.0, return_full_image=True)
    border = WINDOW // 2
    inner = similarity[0, :, border : height - border, border : width - border]
    if mask is not None:
        counted = mask[border : height - border, border : width - border]
        if not bool(counted.any()):
            raise ValueError("the mask leaves no pixel to measure: remove it, or the view")
        inner = inner[:, counted]
    return inner.mean().item()

"""PSNR where it is hardest: at the edges of the photo."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qsplat.metrics.psnr import psnr

CANNY_THRESHOLDS = (100, 200)
"""Hysteresis thresholds on 8-bit grey. No source states those of the paper; these are our choice."""

DISK = 3


def edge_mask(photo: Float[Tensor, "h w 3"]) -> Bool[Tensor, "h w"]:
    """True at Canny edges of the photo in 8-bit grey, dilated with a disk of 3 pixels diameter.

    Source: Kumar et al. 2025, Qonvolution, PSNR_edge (edges of the photo, not of the rendering, are our reading).
    """
    pixels = (photo.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    edges = cv2.Canny(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), *CANNY_THRESHOLDS)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (DISK, DISK))
    return torch.from_numpy(np.asarray(cv2.dilate(edges, disk)) > 0).to(photo.device)


def psnr_edge(
    prediction: Float[Tensor, "h w 3"], photo: Float[Tensor, "h w 3"], *, mask: Bool[Tensor, "h w"] | None = None
) -> float | None:
    """PSNR in dB over the pixels of ``edge_mask(photo)`` (and of ``mask``); None where there are none."""
    edges = edge_mask(photo)
    counted = edges if mask is None else edges & mask
    return psnr(prediction, photo, mask=counted) if bool(counted.any()) else None

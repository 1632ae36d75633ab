"""What nerfstudio reports about an evaluated image."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from qsplat.metrics.psnr import psnr
from qsplat.metrics.ssim import ssim


def image_metrics(
    rgb: Float[Tensor, "h w 3"], base: Float[Tensor, "h w 3"], photo: Float[Tensor, "h w 3"]
) -> dict[str, float]:
    """PSNR and SSIM with and without the residual, and LPIPS where its weights are on this machine."""
    return {
        "psnr": float(psnr(rgb, photo)),
        "ssim": float(ssim(rgb, photo)),
        "psnr_base": float(psnr(base, photo)),
        "ssim_base": float(ssim(base, photo)),
    }

"""What nerfstudio reports about an evaluated image."""

from __future__ import annotations

from functools import cache

from jaxtyping import Bool, Float
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from qsplat.metrics.lpips import Lpips, load_lpips
from qsplat.metrics.psnr import psnr
from qsplat.metrics.ssim import WINDOW, ssim


def image_metrics(
    rgb: Float[Tensor, "h w 3"],
    base: Float[Tensor, "h w 3"] | None,
    photo: Float[Tensor, "h w 3"],
    mask: Bool[Tensor, "h w"] | None,
) -> dict[str, float]:
    """PSNR in dB, SSIM where the image is as large as its window, and LPIPS where its weights are on this machine: with
    the residual, and ``_base`` without, if that is another image."""
    metrics = {}
    for suffix, image in {"": rgb, "_base": base}.items():
        if image is None:
            continue
        metrics[f"psnr{suffix}"] = psnr(image, photo, mask=mask)
        if min(photo.shape[:2]) >= WINDOW:
            metrics[f"ssim{suffix}"] = ssim(image, photo, mask=mask)
        lpips = _lpips()
        value = None if lpips is None else lpips(image, photo)
        if value is not None:
            metrics[f"lpips{suffix}"] = value
    return metrics


@cache
def _lpips() -> Lpips | None:
    """LPIPS with the backbone that splatfacto reports. Without its weights the reason is printed, once."""
    lpips = load_lpips("alex")
    if isinstance(lpips, Lpips):
        return lpips
    CONSOLE.print(f"LPIPS is left out: {lpips.reason}")
    return None

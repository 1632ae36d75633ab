"""The photometric loss: L1 and structural dissimilarity of a rendered image against its photo."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from qsplat import kernels
from qsplat.training.ssim import WINDOW, ssim_map


def photometric_loss(
    prediction: Float[Tensor, "h w c"],
    target: Float[Tensor, "h w c"],
    *,
    ssim_weight: float = 0.2,
    mask: Bool[Tensor, "h w"] | None = None,
    threads: int | None = None,
) -> Float[Tensor, ""]:
    """(1 - ssim_weight) L1 + ssim_weight (1 - SSIM); pixels where ``mask`` is False do not count.

    An image narrower than the SSIM window is compared by L1 alone; a mask without a True pixel gives 0. Images in
    float32 on a CPU are compared by a compiled kernel with a gradient for ``prediction`` alone, on ``threads`` threads
    (``torch.get_num_threads()`` when None), all others by ``portable_loss``.

    Raises:
        ValueError: the images or the mask do not belong together.

    Source: Kerbl et al. 2023, equation 7.
    """
    if prediction.shape != target.shape or (mask is not None and mask.shape != target.shape[:2]):
        sizes = [tuple(tensor.shape) for tensor in (prediction, target, mask) if tensor is not None]
        raise ValueError(f"images and mask of shapes {', '.join(map(str, sizes))}: they must be of one view")
    fast = all(image.device.type == "cpu" and image.dtype == torch.float32 for image in (prediction, target))
    if not fast or target.requires_grad or not kernels.available():
        return portable_loss(prediction, target, ssim_weight=ssim_weight, mask=mask)
    counts = None if mask is None else mask.to("cpu", torch.bool)
    loss: Tensor = Photometric.apply(  # pyright: ignore[reportAssignmentType]
        prediction, target, counts, ssim_weight, threads or torch.get_num_threads(), kernels.load(kernels.best_binary())
    )
    return loss


def portable_loss(
    prediction: Float[Tensor, "h w c"],
    target: Float[Tensor, "h w c"],
    *,
    ssim_weight: float = 0.2,
    mask: Bool[Tensor, "h w"] | None = None,
) -> Float[Tensor, ""]:
    """``photometric_loss`` in PyTorch, on any device and in any type."""
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
        inside = _window_centers(mask)[..., None]
        dissimilarity = ((1 - similarity) * inside).sum() / (inside.sum() * similarity.shape[2]).clamp_min(1)
    return (1 - ssim_weight) * absolute + ssim_weight * dissimilarity


class Photometric(torch.autograd.Function):
    """The compiled loss, which finds its gradient on the way."""

    @staticmethod
    def forward(
        ctx: Any,
        prediction: Tensor,
        target: Tensor,
        mask: Tensor | None,
        ssim_weight: float,
        threads: int,
        library: ctypes.CDLL,
    ) -> Tensor:
        prediction, target = prediction.contiguous(), target.contiguous()
        mask = None if mask is None else mask.contiguous()
        height, width, channels = prediction.shape
        similar = ssim_weight != 0 and min(height, width) >= WINDOW
        pixels = height * width if mask is None else int(mask.sum())
        centers = (height - WINDOW + 1) * (width - WINDOW + 1) if mask is None else int(_window_centers(mask).sum())
        arguments = kernels.PhotometricLoss(
            channels=channels,
            width=width,
            height=height,
            threads=threads,
            absolute_weight=(1 - ssim_weight if similar else 1.0) / max(1, pixels * channels),
            similarity_weight=ssim_weight / max(1, centers * channels) if similar else 0.0,
        )
        gradient = torch.empty_like(prediction) if ctx.needs_input_grad[0] else None
        sums = prediction.new_empty(2, dtype=torch.float64)
        workspace = kernels.Workspace(library)
        arguments.point(prediction=prediction, target=target, mask=mask, gradient=gradient, sums=sums)
        if library.qsplat_photometric_loss(workspace.handle, ctypes.byref(arguments)):
            raise MemoryError(f"no memory to compare images of {width}x{height} pixels: use smaller ones")
        ctx.gradient = gradient
        absolute, similarity = sums.tolist()
        dissimilarity = centers * channels - similarity
        loss = arguments.absolute_weight * absolute + arguments.similarity_weight * dissimilarity
        return prediction.new_tensor(loss)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ctx.gradient * gradient, None, None, None, None, None


def _window_centers(mask: Bool[Tensor, "h w"]) -> Bool[Tensor, "v u"]:
    """The part of ``mask`` in which a pixel has the whole SSIM window around it; empty in a small image."""
    border = WINDOW // 2
    return mask[border : max(border, mask.shape[0] - border), border : max(border, mask.shape[1] - border)]

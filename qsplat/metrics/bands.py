"""Errors by spatial frequency, in octaves."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from qsplat.metrics.psnr import decibels

OCTAVES = 5


@dataclass(frozen=True)
class Band:
    """One octave of the radial spectrum: frequencies from ``low`` to ``high`` in cycles per pixel.

    ``error`` is its part of the mean squared error and ``signal`` its part of the photo's mean square; both add up
    over the bands to those of the windowed images.
    """

    low: float
    high: float
    error: float
    signal: float

    @property
    def psnr(self) -> float:
        """PSNR in dB if this band held the only error."""
        return decibels(self.error)


def band_errors(prediction: Float[Tensor, "h w c"], target: Float[Tensor, "h w c"]) -> tuple[Band, ...]:
    """The error of ``prediction``, clamped to [0, 1], in octaves from the lowest frequencies to the highest.

    The highest band starts half way to the Nyquist frequency and includes the corners of the spectrum; the lowest
    includes the mean. Images are multiplied by a Hann window first (scaled to unit mean square), because their
    opposite sides do not meet.
    """
    height, width, channels = target.shape
    rows, columns = (_hann(size, target.device) for size in (height, width))
    window = (rows[:, None] * columns)[..., None]
    y, x = torch.fft.fftfreq(height, dtype=torch.float64), torch.fft.fftfreq(width, dtype=torch.float64)
    radius = torch.hypot(y[:, None], x[None, :]).to(target.device)
    target = target.double()
    difference = prediction.clamp(0, 1).double() - target
    error, signal = (
        torch.fft.fft2(image * window, dim=(0, 1)).abs().square().sum(dim=-1) / (height * width) ** 2 / channels
        for image in (difference, target)
    )
    edges = [0.0, *(0.5 / 2**octave for octave in range(OCTAVES - 1, 0, -1)), float("inf")]
    bands = []
    for low, high in pairwise(edges):
        inside = (radius >= low) & (radius < high)
        bands.append(Band(low, min(high, 0.5**0.5), error[inside].sum().item(), signal[inside].sum().item()))
    return tuple(bands)


def _hann(size: int, device: torch.device) -> Float[Tensor, " n"]:
    """A Hann window sampled at pixel centres, with a mean square of 1."""
    window = torch.sin(torch.pi * (torch.arange(size, dtype=torch.float64, device=device) + 0.5) / size).square()
    return window / window.square().mean().sqrt()

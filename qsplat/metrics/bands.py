"""Errors by spatial frequency, in octaves."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from qsplat.metrics.psnr import decibels
from qsplat.spectra.radial import CORNER, octave_energies, octave_lows

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
    includes the mean. Images are multiplied by a Hann window first (``qsplat.spectra.radial``).
    """
    target = target.double()
    error, signal = (
        octave_energies(image, OCTAVES).tolist() for image in (prediction.clamp(0, 1).double() - target, target)
    )
    bounds = pairwise((*octave_lows(OCTAVES), CORNER))
    return tuple(Band(low, high, error[band], signal[band]) for band, (low, high) in enumerate(bounds))

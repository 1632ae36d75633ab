"""Power of an image by spatial frequency in cycles per pixel, whatever the direction.

Images are multiplied by a Hann window first (scaled to unit mean square), because their opposite sides do not meet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

NYQUIST = 0.5
"""The highest frequency along a row or a column, in cycles per pixel."""

HALF_NYQUIST = NYQUIST / 2

CORNER = NYQUIST * math.sqrt(2)
"""The frequency in the corners of the spectrum, the highest there is."""

RINGS_PER_CYCLE = 64


@dataclass(frozen=True)
class RadialSpectrum:
    """Power of an image in rings around frequency 0, each 1/64 cycle per pixel wide.

    ``energy`` [46] holds what each ring has of the mean square of the windowed image (mean over its channels), and
    adds up to it (Parseval): units are those of the image, squared. The last rings are cut by the borders of the
    spectrum, beyond the Nyquist frequency of 0.5 cycles per pixel only its corners are left.
    """

    energy: Float[Tensor, " rings"]

    @property
    def frequencies(self) -> Float[Tensor, " rings"]:
        """The middle of each ring in cycles per pixel."""
        return (torch.arange(len(self.energy), dtype=self.energy.dtype) + 0.5) / RINGS_PER_CYCLE

    def share_above(self, frequency: float = HALF_NYQUIST) -> float:
        """The share, 0 to 1, of the energy at ``frequency`` (cycles per pixel) and above; 0 where there is no energy.

        Raises:
            ValueError: no ring begins at ``frequency``.
        """
        first = frequency * RINGS_PER_CYCLE
        if not (first.is_integer() and 0 <= first < len(self.energy)):
            raise ValueError(f"frequency {frequency}: give a multiple of 1/{RINGS_PER_CYCLE} from 0 to 0.7")
        total = self.energy.sum().item()
        return self.energy[int(first) :].sum().item() / total if total > 0 else 0.0


def radial_spectrum(image: Float[Tensor, "h w c"]) -> RadialSpectrum:
    """The spectrum of an image or of a difference of images. The mean belongs to the first ring."""
    lows = torch.arange(0, CORNER, 1 / RINGS_PER_CYCLE, dtype=torch.float64).tolist()
    return RadialSpectrum(_windowed_energies(image, lows))


def mean_spectrum(spectra: Sequence[RadialSpectrum]) -> RadialSpectrum:
    """The mean of at least one spectrum, of images of any size."""
    return RadialSpectrum(torch.stack([spectrum.energy for spectrum in spectra]).mean(dim=0))


def octave_lows(octaves: int) -> tuple[float, ...]:
    """Where octaves begin, in cycles per pixel, from the lowest frequencies to the highest.

    The last one begins half way to the Nyquist frequency and reaches into the corners of the spectrum; the first one
    begins at 0.
    """
    return (0.0, *(NYQUIST / 2**octave for octave in range(octaves - 1, 0, -1)))


def octave_energies(image: Float[Tensor, "h w c"], octaves: int) -> Float[Tensor, " octaves"]:
    """The energy of the windowed image in octaves; it adds up to its mean square."""
    return _windowed_energies(image, octave_lows(octaves))


def windowed_power(image: Float[Tensor, "h w c"]) -> Float[Tensor, "h w"]:
    """Power of the windowed image at every frequency, in the order of ``torch.fft.fftfreq`` along both axes.

    It is the mean over the channels and adds up to the mean square of the windowed image.
    """
    height, width, _ = image.shape
    rows, columns = (_hann(size, image.device) for size in (height, width))
    windowed = image.double() * (rows[:, None] * columns)[..., None]
    return torch.fft.fft2(windowed, dim=(0, 1)).abs().square().mean(dim=-1) / (height * width) ** 2


def energies_between(
    power: Float[Tensor, "h w"], radius: Float[Tensor, "h w"], lows: Sequence[float]
) -> Float[Tensor, " bands"]:
    """Sums of ``power`` over the bands that begin at the frequencies ``lows`` (from 0 upwards) and end at the next."""
    band = torch.bucketize(radius.flatten(), radius.new_tensor(lows), right=True) - 1
    return power.new_zeros(len(lows)).index_add(0, band, power.flatten())


def _windowed_energies(image: Float[Tensor, "h w c"], lows: Sequence[float]) -> Float[Tensor, " bands"]:
    height, width, _ = image.shape
    y, x = (torch.fft.fftfreq(size, dtype=torch.float64, device=image.device) for size in (height, width))
    return energies_between(windowed_power(image), torch.hypot(y[:, None], x[None, :]), lows).cpu()


def _hann(size: int, device: torch.device) -> Float[Tensor, " n"]:
    """A Hann window sampled at pixel centres, with a mean square of 1."""
    window = torch.sin(torch.pi * (torch.arange(size, dtype=torch.float64, device=device) + 0.5) / size).square()
    return window / window.square().mean().sqrt()

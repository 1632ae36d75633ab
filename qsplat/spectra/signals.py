"""Signals of one dimension made of frequencies: 1/f noise, sums of sines, and their low frequencies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def power_law_signal(samples: int, *, exponent: float, generator: torch.Generator) -> Float[Tensor, " n"]:
    """A random signal whose amplitude at f cycles falls as f^-exponent, scaled to [0, 1].

    Source: Tancik et al. 2020, whose signals are the real part of an inverse DFT of Gaussian numbers times the power
    law; the mean is left to the scaling.
    """
    cycles = torch.fft.rfftfreq(samples, 1 / samples)
    amplitudes = torch.where(cycles > 0, cycles.clamp_min(1).pow(-exponent), 0.0)
    waves = torch.complex(*torch.randn(2, len(cycles), generator=generator))
    signal = torch.fft.irfft(waves * amplitudes, n=samples)
    return (signal - signal.min()) / (signal.max() - signal.min())


def low_passed(signal: Float[Tensor, " n"], cycles: int) -> Float[Tensor, " n"]:
    """What ``signal`` has at up to ``cycles`` cycles over its length."""
    waves = torch.fft.rfft(signal)
    waves[cycles + 1 :] = 0
    return torch.fft.irfft(waves, n=len(signal))


def sum_of_sines(
    times: Float[Tensor, " n"], cycles: Sequence[int], amplitudes: Sequence[float], phases: Float[Tensor, " k"]
) -> Float[Tensor, " n"]:
    """The sum of A sin(2 pi (k t + phase)); ``phases`` in turns.

    Source: Rahaman et al. 2019, section 3.
    """
    waves = torch.sin(2 * torch.pi * (times[:, None] * times.new_tensor(cycles) + phases))
    return waves @ times.new_tensor(amplitudes)

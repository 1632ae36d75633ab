"""Signals of one dimension: the slope of their spectrum, and what a low pass keeps."""

import numpy as np
import pytest
import torch

from qsplat.spectra.signals import low_passed, power_law_signal


def test_amplitudes_fall_with_the_exponent():
    cycles = np.arange(1, 128)
    for exponent in (0.5, 1.0):
        powers = [
            np.abs(np.fft.rfft(power_law_signal(256, exponent=exponent, generator=torch.Generator().manual_seed(seed))))
            for seed in range(200)
        ]
        mean = np.sqrt(np.mean(np.square(powers), axis=0))[1:128]
        slope = np.polyfit(np.log(cycles), np.log(mean), 1)[0]
        assert slope == pytest.approx(-exponent, abs=0.08)


def test_signals_fill_the_unit_interval_and_follow_their_generator():
    drawn = [power_law_signal(64, exponent=0.5, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert (drawn[0].min().item(), drawn[0].max().item()) == pytest.approx((0, 1))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_low_pass_keeps_low_waves_and_drops_high_ones():
    times = torch.arange(100) / 100
    low, high = torch.cos(2 * torch.pi * 7 * times) + 3, torch.sin(2 * torch.pi * 8 * times)
    torch.testing.assert_close(low_passed(low + high, 7), low, atol=1e-5, rtol=0)
    torch.testing.assert_close(low_passed(low + high, 50), low + high, atol=1e-5, rtol=0)

"""Amplitudes that are learnt, and from which step on."""

import pytest
import torch

from qsplat.spectra.heatmap import Heatmap, amplitude_shares
from qsplat.spectra.signals import sum_of_sines


def test_a_sum_of_sines_has_its_own_amplitudes_whatever_the_phases():
    times = torch.arange(200) / 200
    cycles, amplitudes = (5, 20, 45), (0.5, 1.0, 2.0)
    signal = sum_of_sines(times, cycles, amplitudes, torch.tensor([0.1, 0.7, 0.3]))
    assert amplitude_shares(signal, cycles, amplitudes).tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    assert amplitude_shares(signal / 4, (20,), (1.0,)).tolist() == pytest.approx([0.25], abs=1e-5)
    assert amplitude_shares(signal + 7, (5, 10), (1.0, 1.0)).tolist() == pytest.approx([0.5, 0.0], abs=1e-5)


def test_the_phase_is_given_in_turns():
    times = torch.arange(8) / 8
    quarter = sum_of_sines(times, (1,), (1.0,), torch.tensor([0.25]))
    torch.testing.assert_close(quarter, torch.cos(2 * torch.pi * times), atol=1e-6, rtol=0)


def test_a_frequency_is_learnt_once_it_stays_above_the_share():
    shares = ((0.9, 0.0, 0.9, 0.0), (0.9, 0.8, 0.1, 0.9), (1.0, 0.9, 0.9, 0.9), (1.0, 1.0, 0.9, 0.2))
    heatmap = Heatmap((0, 10, 20, 30), (1, 2, 3, 4), shares)
    assert heatmap.steps_to(0.8) == (0, 10, 20, None)


@pytest.mark.parametrize("cycles", [(), (0,), (5, 10)])
def test_frequencies_that_the_samples_cannot_show_are_refused(cycles):
    with pytest.raises(ValueError, match="of 20 samples"):
        amplitude_shares(torch.zeros(20), cycles, [1.0] * len(cycles))

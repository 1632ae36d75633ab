"""Bands of cosines: they add up, they are orthogonal, and a wave lies in the band of its frequency."""

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn

from qsplat.spectra.cosines import cosine_energies
from qsplat.spectra.radial import octave_lows

LOWS = octave_lows(5)


def noise(height, width, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(height, width, 3)))


def part(image, low):
    """What ``image`` has at ``low`` cycles per pixel and above."""
    waves = dctn(image.numpy(), axes=(0, 1), norm="ortho")
    y, x = (np.arange(size) / (2 * size) for size in image.shape[:2])
    waves[np.hypot(y[:, None], x) < low] = 0
    return torch.from_numpy(idctn(waves, axes=(0, 1), norm="ortho"))


@pytest.mark.parametrize("size", [(48, 61), (64, 64), (33, 20), (1, 1)])
def test_bands_add_up_to_the_mean_square_without_a_window(size):
    image = noise(*size)
    assert cosine_energies(image, LOWS).sum().item() == pytest.approx(image.square().mean().item())


def test_adding_the_part_above_a_frequency_removes_its_bands_from_the_error_and_no_other():
    """Orthogonality: what a part of a correction does to an error is seen in its bands alone."""
    error, correction = noise(40, 56), noise(40, 56, seed=1)
    before, after = cosine_energies(error, LOWS), cosine_energies(error + correction, LOWS)
    partly = (error + part(correction, 1 / 8)).square().mean().item()
    assert partly == pytest.approx((before[:3].sum() + after[3:].sum()).item())


@pytest.mark.parametrize("octave", range(5))
def test_a_wave_lands_in_the_band_of_its_frequency(octave):
    frequency = 0.375 / 2 ** (4 - octave)
    across = torch.cos(2 * torch.pi * frequency * torch.arange(256, dtype=torch.float64))
    energies = cosine_energies(across.expand(256, 256)[..., None], LOWS)
    assert energies[octave].item() == pytest.approx(0.5, rel=0.03)


def test_the_mean_of_an_image_lies_in_the_lowest_band():
    energies = cosine_energies(torch.full((20, 31, 3), 0.5), LOWS)
    assert energies[0].item() == pytest.approx(0.25)
    assert energies[1:].abs().max().item() < 1e-20

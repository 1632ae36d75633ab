"""Kernels of encodings: closed forms against encodings that are drawn, and the frequencies in them."""

import math

import pytest
import torch

from qsplat.encodings import Fourier, Positional, encoder
from qsplat.spectra.kernels import induced_kernel


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_many_random_waves_have_the_gaussian_kernel(dims, scale):
    points = torch.rand(20, dims, generator=torch.Generator().manual_seed(1))
    encoding = Fourier(features=40_000, scale=scale)
    encoded = torch.nn.functional.normalize(encoder(encoding, dims)(points), dim=-1)
    found = encoded @ encoded.T
    expected = induced_kernel(encoding, points[:, None] - points)
    # The mean of 40,000 cosines has a standard error of at most 0.0036
    assert (found - expected).abs().max().item() < 0.02
    assert expected.min().item() < 0.9


def test_the_closed_kernel_of_octaves_is_that_of_their_waves():
    points = torch.rand(10, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    encoded = encoder(Positional(4), 2)(points)[:, 2:]
    expected = encoded @ encoded.T / encoded.square().sum(dim=1)[0]
    found = induced_kernel(Positional(4), points[:, None] - points)
    torch.testing.assert_close(found, expected)


def test_the_spectrum_of_the_kernel_is_the_distribution_of_the_frequencies():
    """Random waves with a deviation of 6 cycles: the transform of their kernel is that Gaussian."""
    offsets = (torch.arange(256, dtype=torch.float64) / 256 + 0.5) % 1 - 0.5
    density = torch.fft.rfft(induced_kernel(Fourier(scale=6.0), offsets[:, None])).real / 256
    cycles = torch.arange(len(density), dtype=torch.float64)
    expected = torch.exp(-((cycles / 6) ** 2) / 2) / (6 * math.sqrt(2 * math.pi))
    torch.testing.assert_close(density, expected, atol=1e-9, rtol=1e-6)

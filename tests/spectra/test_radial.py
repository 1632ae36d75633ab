"""The radial spectrum: waves of known frequency, noise, and Parseval against NumPy."""

import numpy as np
import pytest
import torch

from qsplat.spectra.radial import (
    CORNER,
    RINGS_PER_CYCLE,
    RadialSpectrum,
    mean_spectrum,
    octave_energies,
    octave_lows,
    radial_spectrum,
    windowed_power,
)


def noise(height=96, width=128):
    return torch.from_numpy(np.random.default_rng(0).normal(size=(height, width, 3)))


def wave(frequency, *, side=256, direction=0.0):
    """A cosine of amplitude 1, ``frequency`` cycles per pixel along ``direction`` (radians)."""
    y, x = torch.meshgrid(
        torch.arange(side, dtype=torch.float64), torch.arange(side, dtype=torch.float64), indexing="ij"
    )
    along = np.cos(direction) * x + np.sin(direction) * y
    return torch.cos(2 * torch.pi * frequency * along)[..., None].repeat(1, 1, 3)


def windowed(image):
    """The image times a Hann window of unit mean square."""
    rows, columns = (np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2 for size in image.shape[:2])
    window = np.outer(rows / np.sqrt((rows**2).mean()), columns / np.sqrt((columns**2).mean()))
    return image.numpy() * window[..., None]


@pytest.mark.parametrize("size", [(48, 61), (64, 64), (33, 20), (1, 1)])
def test_rings_add_up_to_the_mean_square_of_the_windowed_image(size):
    image = noise(*size)
    expected = (windowed(image) ** 2).mean()
    assert radial_spectrum(image).energy.sum().item() == pytest.approx(expected)
    assert octave_energies(image, 5).sum().item() == pytest.approx(expected)
    assert windowed_power(image).sum().item() == pytest.approx(expected)


@pytest.mark.parametrize("direction", [0.0, np.pi / 2, 0.6])
@pytest.mark.parametrize("ring", [1, 8, 20, 31])
def test_the_energy_of_a_wave_lands_in_the_ring_of_its_frequency(ring, direction):
    spectrum = radial_spectrum(wave((ring + 0.5) / RINGS_PER_CYCLE, direction=direction))
    assert spectrum.energy.argmax() == ring
    assert spectrum.energy[ring].item() == pytest.approx(0.5, rel=0.03)
    assert spectrum.frequencies[ring].item() == (ring + 0.5) / RINGS_PER_CYCLE


def test_the_mean_of_an_image_lies_in_the_first_ring():
    energy = radial_spectrum(torch.full((128, 128, 3), 0.5)).energy
    assert energy[0].item() == pytest.approx(0.25, rel=1e-3)


def test_the_rings_reach_the_corners_of_the_spectrum():
    checkerboard = torch.ones(64, 64, 1)
    checkerboard[::2, ::2] = checkerboard[1::2, 1::2] = -1
    spectrum = radial_spectrum(checkerboard)
    assert len(spectrum.energy) == 46
    assert spectrum.frequencies[-1].item() == pytest.approx(CORNER, abs=1 / RINGS_PER_CYCLE)
    assert spectrum.energy[-3:].sum().item() == pytest.approx(1.0, rel=1e-3)


def test_noise_has_the_share_of_energy_above_a_frequency_that_lies_outside_of_its_circle():
    spectrum = radial_spectrum(noise(256, 256))
    assert spectrum.share_above() == pytest.approx(1 - np.pi * 0.25**2, rel=0.02)
    assert spectrum.share_above(0.0) == 1.0
    assert spectrum.share_above(0.5) == pytest.approx(1 - np.pi * 0.5**2, rel=0.05)


def test_black_has_no_share_anywhere():
    assert radial_spectrum(torch.zeros(20, 30, 3)).share_above() == 0.0


@pytest.mark.parametrize("frequency", [0.3, -0.25, 0.75])
def test_a_share_above_a_frequency_within_a_ring_is_refused(frequency):
    with pytest.raises(ValueError, match=f"frequency {frequency}: give a multiple of 1/64 from 0 to 0.7"):
        radial_spectrum(noise()).share_above(frequency)


def test_spectra_of_images_of_different_sizes_have_a_mean():
    spectra = [radial_spectrum(noise(40, 60)), radial_spectrum(noise(70, 30))]
    mean = mean_spectrum(spectra)
    assert isinstance(mean, RadialSpectrum)
    assert torch.allclose(mean.energy, (spectra[0].energy + spectra[1].energy) / 2)


def test_octaves_double_from_one_to_the_next():
    assert octave_lows(5) == (0.0, 1 / 32, 1 / 16, 1 / 8, 1 / 4)
    assert octave_lows(1) == (0.0,)


def test_octaves_are_sums_of_rings():
    image = noise()
    rings, octaves = radial_spectrum(image).energy, octave_energies(image, 5)
    for octave, (first, last) in enumerate([(0, 2), (2, 4), (4, 8), (8, 16), (16, 46)]):
        assert octaves[octave].item() == pytest.approx(rings[first:last].sum().item())

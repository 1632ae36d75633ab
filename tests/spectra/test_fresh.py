"""FreSh: its spectrum, its distance and its choice."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from qsplat.encodings import Fourier
from qsplat.fields.frequencies import Sine, with_frequency, with_seed
from qsplat.fields.network import CoordinateNetwork
from qsplat.spectra.fresh import choose, spectrum, square, wasserstein_distance


def grid(size: int) -> torch.Tensor:
    axis = torch.arange(size, dtype=torch.float64) / size
    return torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1)


def wave(down: float, across: float, size: int = 128) -> torch.Tensor:
    """A wave of so many cycles per image in each direction, [size, size, 1]."""
    return torch.sin(2 * math.pi * (grid(size) @ torch.tensor([down, across], dtype=torch.float64)))[..., None]


def texture(frequency: float, size: int = 64) -> torch.Tensor:
    """Waves of about ``frequency`` cycles per image in all directions, in three channels."""
    generator = torch.Generator().manual_seed(0)
    angle = torch.rand(200, generator=generator, dtype=torch.float64) * 2 * math.pi
    reach = frequency * (0.5 + torch.rand(200, generator=generator, dtype=torch.float64))
    phase = torch.rand(200, 3, generator=generator, dtype=torch.float64) * 2 * math.pi
    waves = torch.stack([reach * angle.cos(), reach * angle.sin()])
    return torch.sin(2 * math.pi * (grid(size) @ waves)[..., None] + phase).sum(dim=2).float()


@pytest.mark.parametrize("seed", range(5))
def test_the_distance_is_that_of_scipy(seed):
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.rand(2, 40, generator=generator, dtype=torch.float64) ** 3
    first, second = first / first.sum(), second / second.sum()
    bins = np.arange(40)
    expected = stats.wasserstein_distance(bins, bins, first.numpy(), second.numpy())
    assert wasserstein_distance(first, second) == pytest.approx(expected, rel=1e-9)


def test_a_wave_lies_in_the_bin_of_its_cycles_down_and_across():
    for down, across in ((10, 10), (3, 17), (0, 20), (20, 0)):
        shares = spectrum(wave(down, across), bins=64)
        assert shares.argmax().item() == 20 - 1
        assert shares[19].item() == pytest.approx(1.0, abs=1e-9)


def test_the_other_diagonal_does_not_count():
    both = wave(10, -10) + wave(2, 2)
    assert spectrum(both, bins=32)[3].item() == pytest.approx(1.0, abs=1e-9)


def test_the_spectrum_is_the_sum_over_antidiagonals():
    image = torch.rand(16, 16, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    magnitude = np.abs(np.fft.fft2(image.numpy(), axes=(0, 1))).sum(axis=-1)
    magnitude[9:, 0] = magnitude[0, 9:] = 0
    sums = np.array([sum(magnitude[i, d - i] for i in range(d + 1)) for d in range(1, 15)])
    np.testing.assert_allclose(spectrum(image, bins=14).numpy(), sums / sums.sum(), rtol=1e-9)


def test_scale_and_mean_do_not_matter():
    image = torch.rand(48, 48, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(spectrum(2 * image - 1, bins=20), spectrum(image, bins=20))


def test_images_are_made_square_by_their_shorter_side():
    image = torch.rand(30, 50, 3)
    assert square(image).shape == (30, 30, 3)
    assert square(image, largest=20).shape == (20, 20, 3)
    even = torch.rand(30, 30, 3)
    assert square(even) is even
    # Four cycles across a wide image are four cycles across the square
    wide = wave(0, 4)[:64]
    assert spectrum(wide, bins=20).argmax().item() == 3


def untrained_siren(value: float, index: int) -> torch.Tensor:
    torch.manual_seed(index)
    network = CoordinateNetwork(Sine(omega=value), outputs=3, width=64, depth=3)
    with torch.no_grad():
        return network((grid(64).reshape(-1, 2) * 2 - 1).float()).reshape(64, 64, 3)


def untrained_fourier(value: float, index: int) -> torch.Tensor:
    torch.manual_seed(index)
    frequencies = with_seed(with_frequency(Fourier(features=32), value), index)
    network = CoordinateNetwork(frequencies, outputs=3, width=64, depth=3)
    with torch.no_grad():
        return network((grid(64).reshape(-1, 2) * 2 - 1).float()).reshape(64, 64, 3)


@pytest.mark.parametrize(
    ("untrained", "candidates"),
    [(untrained_siren, [10.0, 30.0, 60.0, 100.0, 150.0]), (untrained_fourier, [0.5, 1.0, 2.0, 4.0, 8.0])],
)
def test_higher_frequencies_in_the_photo_choose_higher_frequencies_of_the_network(untrained, candidates):
    chosen = [
        choose([texture(cycles)], candidates, untrained, bins=40, initialisations=3).value
        for cycles in (1.0, 3.0, 6.0, 12.0, 24.0)
    ]
    assert chosen == sorted(chosen)
    assert chosen[0] == candidates[0]
    assert chosen[-1] == candidates[-1]


def test_a_network_is_recognised_by_its_own_spectrum():
    targets = [untrained_siren(60.0, index) for index in (100, 101)]
    choice = choose(targets, [10.0, 30.0, 60.0, 100.0], untrained_siren, bins=32, initialisations=4)
    assert choice.value == 60.0


def test_forward_passes_and_candidates_are_reported():
    asked = []

    def untrained(value: float, index: int) -> torch.Tensor:
        asked.append((value, index))
        return wave(value + (index == 1), 0)

    choice = choose([wave(5, 0), wave(9, 0)], [4.0, 5.0, 7.0], untrained, bins=20, initialisations=2)
    assert asked == [(4.0, 0), (4.0, 1), (5.0, 0), (5.0, 1), (7.0, 0), (7.0, 1)]
    assert choice.forward_passes == 6
    # Distances in bins, of network k from photo k: |4 - 5|, |5 - 9|; |5 - 5|, |6 - 9|; |7 - 5|, |8 - 9|
    assert [candidate.distance for candidate in choice.candidates] == pytest.approx([2.5, 1.5, 1.5], abs=1e-6)
    assert [candidate.standard_error for candidate in choice.candidates] == pytest.approx(
        [1.5 / math.sqrt(2), 1.5 / math.sqrt(2), 0.5 / math.sqrt(2)], abs=1e-6
    )


def test_the_first_of_equal_candidates_is_chosen():
    choice = choose([wave(5, 0)], [1.0, 2.0], lambda value, index: wave(6, 0), bins=20, initialisations=1)
    assert choice.value == 1.0


@pytest.mark.parametrize("bins", [0, 16, 40])
def test_bins_that_the_image_cannot_fill_are_refused(bins):
    with pytest.raises(ValueError, match=f"{bins} bins"):
        spectrum(torch.rand(16, 20, 3), bins=bins)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_an_image_without_contrast_is_refused(value):
    with pytest.raises(ValueError, match="no contrast"):
        spectrum(torch.full((32, 32, 3), value), bins=10)


@pytest.mark.parametrize(("targets", "candidates"), [([], [1.0]), ([torch.rand(32, 32, 1)], [])])
def test_nothing_to_choose_from_is_refused(targets, candidates):
    with pytest.raises(ValueError, match="at least 1 of each"):
        choose(targets, candidates, lambda value, index: wave(1, 1))

"""Coordinates as waves."""

import json
import math
from dataclasses import asdict

import pytest
import torch

from qsplat.encodings import MOST_OCTAVES, Fourier, Identity, Positional, encoder, encoding_of


def test_identity_leaves_coordinates_alone():
    points = torch.rand(4, 5, 3)
    assert torch.equal(encoder(Identity(), 3)(points), points)


def test_a_positional_encoding_is_that_of_nerfs_code():
    """The size of NeRF's: 63 values of a position, 27 of a direction."""
    encode = encoder(Positional(4), 3)
    points = torch.rand(7, 3) * 2 - 1
    values = encode(points)
    assert encode.channels == 27
    assert encoder(Positional(10), 3).channels == 63
    expected = [points]
    for octave in range(4):
        expected += [torch.sin(2**octave * points), torch.cos(2**octave * points)]
    torch.testing.assert_close(values, torch.cat(expected, dim=-1))


def test_the_most_octaves_keep_phases_apart_and_more_would_not():
    """Neighbours in float32 differ by less than a turn of the fastest wave, and by more than one a few octaves on."""
    point = torch.tensor([[0.7]])
    step = torch.nextafter(point, torch.ones(1, 1)) - point
    fastest = 2.0 ** (Positional(MOST_OCTAVES).octaves - 1)
    assert float(step) * fastest < 2 * math.pi
    assert float(step) * fastest * 2**4 > 2 * math.pi
    assert torch.isfinite(encoder(Positional(MOST_OCTAVES), 1)(point)).all()


def test_a_fourier_encoding_is_made_of_cosines_and_sines():
    encode = encoder(Fourier(32, scale=3.0), 2)
    points = torch.rand(6, 2)
    phases = 2 * math.pi * (points @ encode.frequencies.T)
    assert encode.channels == 64
    torch.testing.assert_close(encode(points), torch.cat([phases.cos(), phases.sin()], dim=-1))
    torch.testing.assert_close(encode(points).square().sum(dim=-1), torch.full((6,), 32.0))


def test_the_scale_is_the_deviation_of_the_frequencies_and_the_seed_draws_them():
    wide = encoder(Fourier(2000, scale=7.0), 2).frequencies
    assert float(wide.std()) == pytest.approx(7.0, rel=0.05)
    torch.manual_seed(1)
    assert torch.equal(wide, encoder(Fourier(2000, scale=7.0), 2).frequencies)
    assert not torch.equal(wide, encoder(Fourier(2000, scale=7.0, seed=1), 2).frequencies)


@pytest.mark.parametrize("encoding", [Identity(), Positional(6), Fourier(16, scale=0.5, seed=4)])
def test_an_encoding_survives_json(encoding):
    assert encoding_of(json.loads(json.dumps(asdict(encoding)))) == encoding


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Positional(0), "octaves=0"),
        (lambda: Positional(MOST_OCTAVES + 1), "octaves=25: float32 has no phases beyond 24; give fewer"),
        (lambda: Positional(200), "octaves=200"),
        (lambda: Fourier(0), "features=0"),
        (lambda: Fourier(scale=0.0), "scale=0.0"),
        (lambda: Fourier(scale=math.inf), "scale=inf"),
    ],
)
def test_impossible_encodings_are_refused_with_the_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()

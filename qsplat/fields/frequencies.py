"""The ways of giving a network of coordinates high frequencies, each with the parameter that sets how high."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from qsplat.encodings import Fourier, Positional
from qsplat.frequency_tokens import Tokens


@dataclass(frozen=True)
class Sine:
    """SIREN in place of an encoding: ``omega`` of the first layer, in radians per unit, and that of the others."""

    omega: float = 30.0
    hidden_omega: float = 30.0

    def __post_init__(self) -> None:
        if not (0 < self.omega < math.inf and 0 < self.hidden_omega < math.inf):
            raise ValueError(f"omega={self.omega}, hidden_omega={self.hidden_omega}: both must be finite and above 0")


Frequencies = Positional | Fourier | Sine | Tokens


def frequency_of(frequencies: Frequencies) -> float:
    """The octaves of an encoding (L), the scale of Fourier features (sigma), the first omega of a SIREN, or the
    deviation of the lowest octave of tokens in radians per unit."""
    match frequencies:
        case Positional():
            return float(frequencies.octaves)
        case Fourier():
            return frequencies.scale
        case Sine():
            return frequencies.omega
        case Tokens():
            return 1 / frequencies.sigma


def with_frequency(frequencies: Frequencies, value: float) -> Frequencies:
    """The same with another value of ``frequency_of``.

    Raises:
        ValueError: it is not above 0 and finite, or L is no whole number or too large.
    """
    match frequencies:
        case Positional():
            if not float(value).is_integer():
                raise ValueError(f"frequency {value}: a positional encoding has a whole number of octaves")
            return replace(frequencies, octaves=round(value))
        case Fourier():
            return replace(frequencies, scale=float(value))
        case Sine():
            return replace(frequencies, omega=float(value))
        case Tokens():
            if not 0 < value < math.inf:
                raise ValueError(f"1/sigma={value}: the waves of tokens need a finite one above 0")
            return replace(frequencies, sigma=1 / value)


def with_seed(frequencies: Frequencies, seed: int) -> Frequencies:
    """The same with other random frequencies, where there are any."""
    return replace(frequencies, seed=seed) if isinstance(frequencies, Fourier | Tokens) else frequencies

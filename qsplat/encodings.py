"""Coordinates as waves: what lets a network of coordinates follow high frequencies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Identity:
    """Coordinates as they are."""

    kind: Literal["identity"] = field(default="identity", init=False)


MOST_OCTAVES = 24
"""The digits of float32: the phases of waves in more octaves are its rounding."""


@dataclass(frozen=True)
class Positional:
    """Coordinates and their waves in ``octaves`` octaves from 1 radian per unit on (Mildenhall et al. 2020, NeRF).

    Raises:
        ValueError: fewer than 1 octave, or more than ``MOST_OCTAVES``.
    """

    octaves: int = 10
    kind: Literal["positional"] = field(default="positional", init=False)

    def __post_init__(self) -> None:
        if self.octaves < 1:
            raise ValueError(f"octaves={self.octaves}: a positional encoding needs at least 1")
        if self.octaves > MOST_OCTAVES:
            raise ValueError(f"octaves={self.octaves}: float32 has no phases beyond {MOST_OCTAVES}; give fewer")


@dataclass(frozen=True)
class Fourier:
    """``features`` waves in random directions, their frequencies normally distributed with a standard deviation of
    ``scale`` cycles per unit along each axis (Tancik et al. 2020). ``seed`` draws them."""

    features: int = 64
    scale: float = 10.0
    seed: int = 0
    kind: Literal["fourier"] = field(default="fourier", init=False)

    def __post_init__(self) -> None:
        if self.features < 1:
            raise ValueError(f"features={self.features}: a Fourier encoding needs at least 1")
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise ValueError(f"scale={self.scale}: the frequencies of a Fourier encoding need a finite one above 0")


Encoding = Identity | Positional | Fourier


def encoding_of(description: Mapping[str, Any]) -> Encoding:
    """The encoding that ``dataclasses.asdict`` made ``description`` of.

    Raises:
        KeyError, TypeError: it is of none of them.
    """
    kinds: dict[str, type[Encoding]] = {"identity": Identity, "positional": Positional, "fourier": Fourier}
    values = dict(description)
    return kinds[values.pop("kind")](**values)


class Encoder(nn.Module):
    """``dims`` coordinates to ``channels`` values, each point by itself."""

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        self.dims, self.channels = dims, channels

    def forward(self, coordinates: Float[Tensor, "*points dims"]) -> Float[Tensor, "*points channels"]:
        """The encoded ``coordinates``: themselves."""
        return coordinates


class PositionalEncoder(Encoder):
    """x, and sin(2^k x), cos(2^k x) for k from 0 below ``octaves``.

    NeRF's paper multiplies x by pi besides; its code, which later work compares with, does not.
    """

    def __init__(self, dims: int, octaves: int) -> None:
        super().__init__(dims, dims * (1 + 2 * octaves))
        self.octaves = octaves

    def forward(self, coordinates: Float[Tensor, "*points dims"]) -> Float[Tensor, "*points channels"]:
        """The encoded ``coordinates``, an octave after the other."""
        angles = coordinates[..., None, :] * 2.0 ** torch.arange(self.octaves).to(coordinates)[:, None]
        waves = torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1)
        return torch.cat([coordinates, waves.flatten(-2)], dim=-1)


class FourierEncoder(Encoder):
    """cos(2 pi B x), sin(2 pi B x), the rows of B being random ``frequencies``, which are part of the state."""

    frequencies: Float[Tensor, "features dims"]

    def __init__(self, dims: int, encoding: Fourier) -> None:
        super().__init__(dims, 2 * encoding.features)
        generator = torch.Generator().manual_seed(encoding.seed)
        drawn = torch.randn(encoding.features, dims, generator=generator)
        self.register_buffer("frequencies", encoding.scale * drawn)

    def forward(self, coordinates: Float[Tensor, "*points dims"]) -> Float[Tensor, "*points channels"]:
        """The encoded ``coordinates``, cosines first."""
        angles = 2 * math.pi * coordinates @ self.frequencies.T
        return torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)


def encoder(encoding: Encoding, dims: int) -> Encoder:
    """``encoding`` for ``dims`` coordinates."""
    match encoding:
        case Identity():
            return Encoder(dims, dims)
        case Positional(octaves=octaves):
            return PositionalEncoder(dims, octaves)
        case Fourier():
            return FourierEncoder(dims, encoding)

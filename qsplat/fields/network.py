"""Coordinates to channels, and coordinates to values."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from qsplat.encodings import encoder
from qsplat.fields.frequencies import Frequencies, Sine
from qsplat.fields.mlp import Mlp
from qsplat.fields.rffca import TokenEncoding, TokenLayers
from qsplat.fields.siren import SineLayer, linear_after_sines
from qsplat.frequency_tokens import Tokens


class Trunk(nn.Module):
    """Coordinates in [-1, 1] to ``width`` channels by ``depth`` layers.

    It is ``layers`` after ``encoding``, which is the first layer of a SIREN. They are apart because high frequencies
    need the coordinates in full precision: bfloat16 tells only 256 of them apart.
    """

    def __init__(self, frequencies: Frequencies, dims: int, *, width: int, depth: int, skip: int | None = None) -> None:
        """``skip`` is that of ``Mlp``. A SIREN has none: its initialisation holds for layers that see sines alone. Nor
        has attention, every block of which sees the waves."""
        super().__init__()
        self.encoding: nn.Module
        self.layers: nn.Module
        if isinstance(frequencies, Sine):
            self.encoding = SineLayer(dims, width, omega=frequencies.omega, first=True)
            hidden = (SineLayer(width, width, omega=frequencies.hidden_omega) for _ in range(depth - 1))
            self.layers = nn.Sequential(*hidden)
        elif isinstance(frequencies, Tokens):
            self.encoding = TokenEncoding(frequencies, dims, width)
            self.layers = TokenLayers(frequencies, dims, width=width, depth=depth)
        else:
            encoding = encoder(frequencies, dims)
            self.encoding = encoding
            self.layers = Mlp(encoding.channels, width=width, depth=depth, skip=skip)

    def forward(self, coordinates: Float[Tensor, "n dims"]) -> Float[Tensor, "n width"]:
        """The channels of the last layer."""
        return self.layers(self.encoding(coordinates))


class CoordinateNetwork(nn.Module):
    """Coordinates in [-1, 1] to ``outputs`` values: ``depth`` layers of ``width`` channels and a linear one.

    With the defaults and sines it is SIREN's network for images; with Gaussian features of 128 frequencies and three
    layers that of FreSh.
    """

    def __init__(
        self, frequencies: Frequencies, *, dims: int = 2, outputs: int = 3, width: int = 256, depth: int = 4
    ) -> None:
        super().__init__()
        self.trunk = Trunk(frequencies, dims, width=width, depth=depth)
        if isinstance(frequencies, Sine):
            self.last = linear_after_sines(width, outputs, omega=frequencies.hidden_omega)
        else:
            self.last = nn.Linear(width, outputs)

    def forward(self, coordinates: Float[Tensor, "n dims"]) -> Float[Tensor, "n outputs"]:
        """The values at ``coordinates``."""
        return self.last(self.trunk(coordinates))

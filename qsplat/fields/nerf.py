"""Radiance fields: position and viewing direction to density and colour."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from qsplat.encodings import Encoder, Identity, Positional, encoder
from qsplat.fields.frequencies import Frequencies, Sine
from qsplat.fields.network import Trunk
from qsplat.fields.occupancy import OccupancyConfig
from qsplat.fields.siren import SineLayer, linear_after_sines
from qsplat.frequency_tokens import Tokens
from qsplat.precision import Precision, uses_bfloat16


@dataclass(frozen=True)
class Hierarchical:
    """NeRF's two passes: a coarse network at ``coarse`` samples of a ray says where the fine one has ``fine`` more."""

    coarse: int = 64
    fine: int = 128

    def __post_init__(self) -> None:
        if self.coarse < 1 or self.fine < 1:
            raise ValueError(f"coarse={self.coarse}, fine={self.fine}: each pass has at least 1 sample")


@dataclass(frozen=True)
class FieldConfig:
    """A radiance field and how rays are sampled. The defaults are those of NeRF.

    Args:
        frequencies: encoding of the position, sines, or tokens that it attends to.
        depth, width, skip: of the layers before density.
        view_width: channels of the one layer that sees the viewing direction.
        view_octaves: of the encoding of the direction.
        density: what makes the density positive, relu as in NeRF or softplus(x - 1) as in Mip-NeRF.
        sampling: two passes, or a grid of what is occupied and one pass.
        precision: of the layers; auto is bfloat16 where the processor multiplies it faster than float32.
    """

    frequencies: Frequencies = field(default_factory=Positional)
    depth: int = 8
    width: int = 256
    skip: int | None = 4
    view_width: int = 128
    view_octaves: int = 4
    density: Literal["relu", "softplus"] = "relu"
    sampling: Hierarchical | OccupancyConfig = field(default_factory=Hierarchical)
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        if min(self.depth, self.width, self.view_width) < 1:
            raise ValueError(
                f"depth={self.depth}, width={self.width}, view_width={self.view_width}: each is at least 1"
            )
        if isinstance(self.frequencies, Tokens):
            self.frequencies.check(self.width)


class RadianceField(nn.Module):
    """Density in units of 1/radius, and RGB, of a position in coordinates of the region and a viewing direction.

    Layers of ReLU end in a linear density and, through a linear bottleneck of the same width, in one layer that also
    sees the encoded direction and gives the colour (Mildenhall et al. 2020). With sines the direction enters as it is
    and there is no bottleneck: a linear layer between two of sines would not keep their initialisation (so does
    pi-GAN, Chan et al. 2021).
    """

    def __init__(self, config: FieldConfig) -> None:
        super().__init__()
        self.config = config
        width, frequencies = config.width, config.frequencies
        self.trunk = Trunk(frequencies, 3, width=width, depth=config.depth, skip=config.skip)
        self.view_encoding: Encoder
        if isinstance(frequencies, Sine):
            hidden = frequencies.hidden_omega
            self.density_head = linear_after_sines(width, 1, omega=hidden)
            self.bottleneck, self.view_encoding = nn.Identity(), encoder(Identity(), 3)
            self.view_layer = SineLayer(width + 3, config.view_width, omega=hidden)
            self.color_head = linear_after_sines(config.view_width, 3, omega=hidden)
        else:
            self.density_head, self.bottleneck = nn.Linear(width, 1), nn.Linear(width, width)
            self.view_encoding = encoder(Positional(config.view_octaves), 3)
            self.view_layer = nn.Sequential(
                nn.Linear(width + self.view_encoding.channels, config.view_width), nn.ReLU()
            )
            self.color_head = nn.Linear(config.view_width, 3)

    def forward(
        self, coordinates: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"] | None
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 3"]]:
        """Density and colour. ``directions`` are unit vectors in world axes; None leaves their channels at 0."""
        if directions is None:
            views = coordinates.new_zeros(len(coordinates), self.view_encoding.channels)
        else:
            views = self.view_encoding(directions)
        encoded = self.trunk.encoding(coordinates)
        with self._arithmetic(coordinates.device):
            channels = self.trunk.layers(encoded)
            density = self.density_head(channels)
            seen = self.view_layer(torch.cat([self.bottleneck(channels), views.to(channels)], dim=-1))
            color = self.color_head(seen)
        return self._positive(density), torch.sigmoid(color.float())

    def density(self, coordinates: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """The density alone, which does not depend on the direction."""
        encoded = self.trunk.encoding(coordinates)
        with self._arithmetic(coordinates.device):
            density = self.density_head(self.trunk.layers(encoded))
        return self._positive(density)

    def _positive(self, density: Float[Tensor, "n 1"]) -> Float[Tensor, " n"]:
        density = density[:, 0].float()
        return functional.relu(density) if self.config.density == "relu" else functional.softplus(density - 1)

    def _arithmetic(self, device: torch.device) -> torch.autocast:
        half = uses_bfloat16(self.config.precision, device)
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)

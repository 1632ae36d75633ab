"""Multiresolution hash grids: coordinates as learnt values at the corners of cells of many sizes.

Source: Müller et al. 2022, Instant Neural Graphics Primitives (equations 2 to 4). Coordinates in [-1, 1] in place of
[0, 1] are our choice, as for the other encodings.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

PRIMES = (1, 2654435761, 805459861)
"""What the coordinates of a corner are multiplied by before they are combined (its equation 4), one for each axis."""
SPREAD = 1e-4
"""Values of a new grid are uniform within this."""


@dataclass(frozen=True)
class HashGridConfig:
    """``levels`` grids of ``features`` values at each corner, from ``coarsest`` to ``finest`` cells along an axis in a
    geometric series; no level keeps more than ``entries`` corners, so that those of fine ones share.

    Raises:
        ValueError: a count below 1, or a finest grid coarser than the coarsest.
    """

    levels: int = 16
    features: int = 2
    entries: int = 2**14
    coarsest: int = 16
    finest: int = 512

    def __post_init__(self) -> None:
        if min(self.levels, self.features, self.entries, self.coarsest) < 1 or self.finest < self.coarsest:
            raise ValueError(f"{self}: every count is at least 1, and finest at least coarsest")

    def cells(self, level: int) -> int:
        """Cells along an axis at ``level``, counted from 0."""
        growth = (self.finest / self.coarsest) ** (level / max(1, self.levels - 1))
        # Rounding must not make 63 of 64
        return int(self.coarsest * growth + 1e-6)


class HashGrid(nn.Module):
    """``dims`` coordinates in [-1, 1], at most 3, to ``channels`` values, those of the coarsest level first."""

    def __init__(self, dims: int, config: HashGridConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or HashGridConfig()
        if not 1 <= dims <= len(PRIMES):
            raise ValueError(f"dims={dims}: a hash grid has 1 to {len(PRIMES)}")
        self.dims, self.channels = dims, config.levels * config.features
        corners = ((config.cells(level) + 1) ** dims for level in range(config.levels))
        self.tables = nn.ParameterList(
            nn.Parameter(torch.empty(min(count, config.entries), config.features).uniform_(-SPREAD, SPREAD))
            for count in corners
        )

    def forward(self, coordinates: Float[Tensor, "n dims"]) -> Float[Tensor, "n channels"]:
        """The values at ``coordinates``, linear between the corners of their cell."""
        unit = (coordinates.clamp(-1, 1) + 1) / 2
        return torch.cat([self._level(level, unit) for level in range(self.config.levels)], dim=-1)

    def _level(self, level: int, unit: Float[Tensor, "n dims"]) -> Float[Tensor, "n features"]:
        cells = self.config.cells(level)
        scaled = unit * cells
        lower = scaled.detach().floor().clamp(0, cells - 1)
        share = scaled - lower
        values = unit.new_zeros(len(unit), self.config.features)
        for corner in itertools.product((0, 1), repeat=self.dims):
            upper = torch.tensor(corner, device=unit.device)
            weight = torch.where(upper == 1, share, 1 - share).prod(dim=-1, keepdim=True)
            values = values + weight * self.tables[level][self._entry(level, lower.long() + upper)]
        return values

    def _entry(self, level: int, corner: Int[Tensor, "n dims"]) -> Int[Tensor, " n"]:
        """Where the table keeps ``corner``: in order if there is room for all, by its hash otherwise."""
        cells, count = self.config.cells(level), len(self.tables[level])
        if (cells + 1) ** self.dims <= count:
            strides = torch.tensor([(cells + 1) ** axis for axis in range(self.dims)], device=corner.device)
            return (corner * strides).sum(dim=-1)
        hashed = corner[:, 0] * PRIMES[0]
        for axis in range(1, self.dims):
            hashed = hashed ^ (corner[:, axis] * PRIMES[axis])
        return hashed % count

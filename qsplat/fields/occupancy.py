"""What a field is known to be like, roughly and cheaply: a grid of its density.

It plays the part of NeRF's coarse network: it tells where along a ray the samples are worth it, so that a few of them
do, and which rays meet nothing at all.

Source: the grid, its decay and its threshold are those of Müller et al. 2022 (Instant NGP, section E.2) with rates of
our own; sampling by the weights that the grid predicts is our choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from qsplat.fields.sampling import inverse_cdf, strata
from qsplat.fields.volume import rendering_weights


@dataclass(frozen=True)
class OccupancyConfig:
    """A grid of ``resolution`` cells a side, and ``samples`` of each ray that meets something.

    Args:
        resolution: cells along each side of the coordinates' cube.
        samples: evaluations of the field on a ray.
        bins: equal parts of a ray for which the grid is looked up.
        refresh_every: steps between two refreshes.
        refresh_share: share of the cells that is evaluated in a refresh.
        decay: factor by which a cell's density shrinks in a refresh, unless the field has more there.
        opacity: a cell is empty if crossing it would cover less than this share of what lies behind.
        explore: share of the samples that is spread evenly over what is not empty.
    """

    resolution: int = 64
    samples: int = 12
    bins: int = 128
    refresh_every: int = 16
    refresh_share: float = 1 / 4
    decay: float = 0.5
    opacity: float = 0.01
    explore: float = 0.25

    def __post_init__(self) -> None:
        if min(self.resolution, self.samples, self.bins, self.refresh_every) < 1:
            raise ValueError(
                f"resolution={self.resolution}, samples={self.samples}, bins={self.bins}, "
                f"refresh_every={self.refresh_every}: each is at least 1"
            )
        if not (0 < self.refresh_share <= 1 and 0 <= self.decay <= 1 and 0 < self.explore <= 1):
            raise ValueError(
                f"refresh_share={self.refresh_share}, decay={self.decay}, explore={self.explore}: shares of 1"
            )


@dataclass(frozen=True)
class OccupiedSamples:
    """Samples of rays as shares of their way, and the length in radii that each stands for, without what is empty."""

    shares: Float[Tensor, "r s"]
    lengths: Float[Tensor, "r s"]


class OccupancyGrid(nn.Module):
    """The density of a field in the cells of a grid, in units of 1/radius."""

    density: Tensor

    def __init__(self, config: OccupancyConfig) -> None:
        super().__init__()
        self.config = config
        # Until cells were looked at, each is as dense as any other, and thin
        self.register_buffer("density", torch.full([config.resolution**3], 1.0))

    @property
    def threshold(self) -> Float[Tensor, ""]:
        """The density below which a cell is empty; below the mean, so that an even field is empty nowhere."""
        cell = 2 / self.config.resolution
        return torch.minimum(0.9 * self.density.mean(), self.density.new_tensor(self.config.opacity / cell))

    def at(self, coordinates: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n"]:
        """The density of the cells that ``coordinates`` lie in; 0 where the cell is empty."""
        size = self.config.resolution
        x, y, z = ((coordinates + 1) * (size / 2)).long().clamp(0, size - 1).unbind(-1)
        found = self.density[(x * size + y) * size + z]
        return torch.where(found >= self.threshold, found, 0.0)

    def sample(self, density: Float[Tensor, "r b"], lengths: Float[Tensor, "r b"], *, jitter: bool) -> OccupiedSamples:
        """Where to evaluate rays, none of which is empty, given the grid's ``density`` in equal parts of their way.

        ``lengths`` are those of the parts, in radii.
        """
        config = self.config
        occupied = (density > 0).to(density)
        weights = rendering_weights(density, lengths)
        weights = weights * ((1 - config.explore) / weights.sum(dim=1, keepdim=True).clamp_min(1e-10))
        weights = weights + occupied * (config.explore / occupied.sum(dim=1, keepdim=True).clamp_min(1))
        rays, count = density.shape[0], config.samples
        ends = torch.arange(count + 1, device=density.device).div(count).expand(rays, -1)
        shares = inverse_cdf(weights, torch.cat([ends, strata(rays, count, jitter=jitter, device=density.device)], 1))
        way = _way(occupied * lengths, shares[:, : count + 1])
        return OccupiedSamples(shares[:, count + 1 :], way[:, 1:] - way[:, :-1])

    @torch.no_grad()
    def refresh(self, density_of: Callable[[Float[Tensor, "n 3"]], Float[Tensor, " n"]]) -> None:
        """Look at a random point in each of some of the cells."""
        size = self.config.resolution
        chosen = self._random_cells(max(1, round(self.config.refresh_share * size**3)))
        corner = torch.stack([chosen // size**2, chosen // size % size, chosen % size], dim=-1)
        coordinates = (corner + torch.rand(len(chosen), 3, device=chosen.device)) * (2 / size) - 1
        self.density[chosen] = torch.maximum(self.config.decay * self.density[chosen], density_of(coordinates))

    def _random_cells(self, count: int) -> Int[Tensor, " n"]:
        """Cells, each at most once: a random part of those that remain when the grid is dealt out evenly."""
        total = self.density.numel()
        first = torch.randint(total, (), device=self.density.device)
        return (first + torch.arange(count, device=self.density.device) * (total // count)) % total


def _way(lengths: Float[Tensor, "r b"], shares: Float[Tensor, "r e"]) -> Float[Tensor, "r e"]:
    """The length up to ``shares`` of a way of ``b`` parts, which are equal as shares and have these ``lengths``."""
    bins = lengths.shape[1]
    before = lengths.cumsum(dim=1) - lengths
    part = (shares * bins).long().clamp_max(bins - 1)
    return before.gather(1, part) + (shares * bins - part) * lengths.gather(1, part)

"""A radiance field as a function from a camera to an image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from qsplat.cameras import Camera
from qsplat.fields.nerf import FieldConfig, Hierarchical, RadianceField
from qsplat.fields.occupancy import OccupancyConfig, OccupancyGrid
from qsplat.fields.rays import Rays, camera_rays
from qsplat.fields.region import Box, Region, overlap
from qsplat.fields.sampling import inverse_cdf, lengths_between, strata
from qsplat.fields.volume import RayColors, composite, rendering_weights

CHUNK = 2**16
"""Evaluations of the field at once where no gradient is needed: 64 MiB for each layer of 256 channels."""


@dataclass(frozen=True)
class FieldView:
    """One view: the image over the background, expected depth (world units along z) and coverage."""

    rgb: Float[Tensor, "h w 3"]
    depth: Float[Tensor, "h w"]
    alpha: Float[Tensor, "h w"]

    @property
    def rgb_base(self) -> Float[Tensor, "h w 3"]:
        """The same image: a field has no head that corrects it."""
        return self.rgb


@dataclass(frozen=True)
class Marched:
    """What rays see, and what the coarse network saw if there is one."""

    fine: RayColors
    coarse: RayColors | None


class FieldModel(nn.Module):
    """A radiance field in its region, over a background."""

    background: Tensor
    center: Tensor

    def __init__(self, config: FieldConfig, region: Region, background: Float[Tensor, "3"]) -> None:
        super().__init__()
        self.config, self._region = config, region
        self.field = RadianceField(config)
        match config.sampling:
            case Hierarchical():
                self.coarse, self.grid = RadianceField(config), None
            case OccupancyConfig():
                self.coarse, self.grid = None, OccupancyGrid(config.sampling)
        self.register_buffer("background", background)
        self.register_buffer("center", region.center)

    @property
    def region(self) -> Region:
        """Where the field lies, on the device of the model."""
        return replace(self._region, center=self.center)

    @torch.no_grad()
    def render(self, camera: Camera, *, within: Box | None = None) -> FieldView:
        """The view of ``camera``, without gradients, in bounded memory: of what lies ``within`` a box, or of all."""
        rays = camera_rays(camera.to(self.center.device))
        at_once = max(1, CHUNK // self._samples)
        pieces = [rays[first : first + at_once] for first in range(0, len(rays), at_once)]
        parts = [self.march(piece, jitter=False, within=within).fine for piece in pieces]
        distance = torch.cat([part.distance for part in parts])
        shape = camera.view.height, camera.view.width
        return FieldView(
            rgb=torch.cat([part.over(self.background) for part in parts]).reshape(*shape, 3),
            depth=distance.reshape(shape) * camera.cosines().to(distance),
            alpha=torch.cat([part.alpha for part in parts]).reshape(shape),
        )

    def march(self, rays: Rays, *, jitter: bool, within: Box | None = None) -> Marched:
        """What ``rays`` see, with gradients to the networks. ``jitter`` moves the samples at random, as in training."""
        span = self.region.span(rays)
        if within is not None:
            span = overlap(span, within.span(rays))
        if self.grid is not None:
            return self._occupied(self.grid, rays, span, jitter)
        meets = span[:, 1] > span[:, 0]
        fine, coarse = self._two_passes(rays[meets], span[meets], jitter)
        return Marched(_spread(fine, meets), _spread(coarse, meets))

    def slice_colors(self, camera: Camera) -> Float[Tensor, "h w 3"]:
        """The field's colours on a sphere around ``camera`` through the middle of the region, whatever the density.

        The channels of the viewing direction are 0. This is how FreSh looks at an untrained field.
        """
        rays = camera_rays(camera.to(self.center.device))
        radius = (camera.center.to(self.center) - self.center).norm()
        coordinates = self.region.coordinates(rays.at(radius.expand(len(rays), 1)))[:, 0]
        colors = torch.cat([self.field(part, None)[1] for part in coordinates.split(CHUNK)])
        return colors.reshape(camera.view.height, camera.view.width, 3)

    def after_step(self, step: int) -> None:
        """Keep the grid up to date; to be called after each step of training, counted from 0."""
        if self.grid is not None and (step + 1) % self.grid.config.refresh_every == 0:
            self.grid.refresh(self.field.density)

    @property
    def _samples(self) -> int:
        """Most evaluations of a network for one ray at the same time."""
        match self.config.sampling:
            case Hierarchical(coarse=coarse, fine=fine):
                return coarse + fine
            case OccupancyConfig(samples=samples):
                return samples

    def _two_passes(self, rays: Rays, span: Float[Tensor, "r 2"], jitter: bool) -> tuple[RayColors, RayColors]:
        assert isinstance(self.config.sampling, Hierarchical)
        assert self.coarse is not None
        plan, region, device = self.config.sampling, self.region, span.device
        shares = strata(len(rays), plan.coarse, jitter=jitter, device=device)
        distances = region.distances(shares, span)
        weights, coarse = self._shade(self.coarse, rays, distances, lengths_between(distances, span[:, 1:]))
        quantiles = strata(len(rays), plan.fine, jitter=jitter, device=device)
        # A little weight everywhere, as in the original, so that a ray that met nothing is sampled evenly
        shares = torch.cat([shares, inverse_cdf(weights + 1e-5, quantiles)], dim=1).sort(dim=1).values
        distances = region.distances(shares, span)
        _, fine = self._shade(self.field, rays, distances, lengths_between(distances, span[:, 1:]))
        return fine, coarse

    def _occupied(self, grid: OccupancyGrid, rays: Rays, span: Float[Tensor, "r 2"], jitter: bool) -> Marched:
        region, bins = self.region, grid.config.bins
        edges = torch.arange(bins + 1, device=span.device).div(bins).expand(len(rays), -1)
        edges = region.distances(edges, span)
        lengths = edges[:, 1:] - edges[:, :-1]
        looked_at = region.distances(strata(len(rays), bins, jitter=jitter, device=span.device), span)
        density = grid.at(region.coordinates(rays.at(looked_at)))
        meets = (density * lengths > 0).any(dim=1)
        rays, span, lengths = rays[meets], span[meets], lengths[meets] / region.radius
        samples = grid.sample(density[meets], lengths, jitter=jitter)
        distances = region.distances(samples.shares, span)
        _, fine = self._shade(self.field, rays, distances, samples.lengths * region.radius)
        return Marched(_spread(fine, meets), None)

    def _shade(
        self, field: RadianceField, rays: Rays, distances: Float[Tensor, "r s"], lengths: Float[Tensor, "r s"]
    ) -> tuple[Float[Tensor, "r s"], RayColors]:
        """The weights of the samples at ``distances``, which stand for ``lengths``, and what the rays see."""
        coordinates = self.region.coordinates(rays.at(distances))
        directions = rays.directions[:, None].expand_as(coordinates)
        density, color = field(coordinates.flatten(0, 1), directions.flatten(0, 1))
        weights = rendering_weights(density.view_as(distances), lengths / self.region.radius)
        return weights, composite(weights, color.view_as(coordinates), distances)


def _spread(colors: RayColors, meets: Bool[Tensor, " r"]) -> RayColors:
    """``colors`` of the rays that meet something among all rays; the others see nothing."""

    def among_all(values: Tensor) -> Tensor:
        result = values.new_zeros(len(meets), *values.shape[1:])
        result[meets] = values
        return result

    return RayColors(among_all(colors.color), among_all(colors.alpha), among_all(colors.distance))

"""Where a scene lies: from world positions to the coordinates that a field is a function of.

A field sees coordinates in [-1, 1]. Around an object before a plain background (photos with alpha) the region is a box
and its coordinates are linear. A capture of a whole surrounding has no end: positions are contracted to a ball (Barron
et al. 2022, Mip-NeRF 360, equation 10, halved),

    y = (x - center) / radius,    coordinates = y / 2 where |y| <= 1, (2 - 1/|y|) y / (2 |y|) elsewhere.

It holds for cameras that look inwards, forwards and outwards alike. Normalised device coordinates, which NeRF uses for
forward-facing captures, do not: all cameras have to look the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from qsplat.cameras import Camera
from qsplat.fields.rays import Rays

MARGIN = 1.1
"""How much larger than what a camera sees at the focus the box around an object is."""
FARTHEST = 100.0
"""Where rays without an end stop, in radii: there the coordinates are within half a per cent of infinity's."""
NEAREST = 0.1
"""Where rays begin, in radii, unless points say that the scene begins further away."""


@dataclass(frozen=True)
class Region:
    """A box of half side ``radius`` around ``center``, or everything if not ``bounded``.

    ``near`` and ``far`` are distances from a camera, in world units as ``radius``.

    Raises:
        ValueError: no such region exists.
    """

    center: Float[Tensor, "3"]
    radius: float
    near: float
    far: float
    bounded: bool

    def __post_init__(self) -> None:
        if not (0 < self.radius < math.inf and 0 <= self.near < self.far < math.inf):
            raise ValueError(
                f"radius={self.radius}, near={self.near}, far={self.far}: a region has a finite radius above 0 and "
                "0 <= near < far"
            )

    def to(self, device: torch.device | str) -> Region:
        """The same region with its centre on ``device``."""
        return replace(self, center=self.center.to(device))

    def coordinates(self, positions: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """``positions`` in the world as a field sees them: inside the region, in [-1, 1]."""
        local = (positions - self.center) / self.radius
        if self.bounded:
            return local
        length = local.norm(dim=-1, keepdim=True).clamp_min(1.0)
        return local * ((2 - 1 / length) / (2 * length))

    def span(self, rays: Rays) -> Float[Tensor, "r 2"]:
        """Distances at which each ray enters and leaves the region; equal where it misses it."""
        ends = rays.origins.new_tensor([self.near, self.far]).expand(len(rays), 2)
        if not self.bounded:
            return ends
        half = rays.origins.new_full([3], self.radius)
        return overlap(ends, _slabs(rays.origins - self.center, rays.directions, half))

    def distances(self, shares: Float[Tensor, "r s"], span: Float[Tensor, "r 2"]) -> Float[Tensor, "r s"]:
        """Distances at ``shares``, from 0 to 1, of the way through the region.

        In a box they are linear. Elsewhere t / (t + radius) is: dense near the camera, and towards the end as many
        samples between 10 and 20 radii as between 20 and infinity.
        """
        first, last = span[:, :1], span[:, 1:]
        if self.bounded:
            return first + shares * (last - first)
        first, last = first / (first + self.radius), last / (last + self.radius)
        way = first + shares * (last - first)
        return self.radius * way / (1 - way)


@dataclass(frozen=True)
class Box:
    """A box anywhere: of half sides ``half`` along the axes of a frame of its own, which has the scale of the world."""

    box_from_world: Float[Tensor, "4 4"]
    half: Float[Tensor, "3"]

    def span(self, rays: Rays) -> Float[Tensor, "r 2"]:
        """Distances at which each ray enters and leaves the box, in descending order where it misses it."""
        pose = self.box_from_world.to(rays.origins)
        origins = rays.origins @ pose[:3, :3].T + pose[:3, 3]
        return _slabs(origins, rays.directions @ pose[:3, :3].T, self.half.to(rays.origins))


def overlap(span: Float[Tensor, "r 2"], other: Float[Tensor, "r 2"]) -> Float[Tensor, "r 2"]:
    """The part of each ray that is in both; its ends are equal where there is none."""
    first, last = torch.maximum(span[:, 0], other[:, 0]), torch.minimum(span[:, 1], other[:, 1])
    return torch.stack([first, torch.maximum(first, last)], dim=-1)


def _slabs(
    origins: Float[Tensor, "r 3"], directions: Float[Tensor, "r 3"], half: Float[Tensor, "3"]
) -> Float[Tensor, "r 2"]:
    """Distances at which rays enter and leave the box of ``half`` around 0, in descending order where they miss it."""
    # A ray parallel to a side divides by a tiny number, which moves its ends far away
    directions = torch.where(directions.abs() < 1e-9, torch.full_like(directions, 1e-9), directions)
    sides = torch.stack([(side - origins) / directions for side in (-half, half)])
    return torch.stack([sides.amin(dim=0).amax(dim=-1), sides.amax(dim=0).amin(dim=-1)], dim=-1)


def region_of(
    cameras: Sequence[Camera], focus: Float[Tensor, "3"], *, bounded: bool, points: Float[Tensor, "n 3"] | None = None
) -> Region:
    """The region that ``cameras``, which look at ``focus``, photograph.

    Args:
        cameras: of the training views.
        focus: the point that they look at.
        bounded: whether there is nothing behind the object at ``focus``.
        points: sparse points of the scene, which tell where it begins.

    The box of a bounded region is what the cameras see of the plane through the focus, and a tenth more. The radius of
    an unbounded one is the median distance of the cameras from the focus.
    """
    distances = torch.stack([(camera.center - focus).norm() for camera in cameras])
    if bounded:
        slopes = [max(camera.width / camera.fx, camera.height / camera.fy) / 2 for camera in cameras]
        radius = MARGIN * float((distances * distances.new_tensor(slopes)).max())
        corner = float(distances.max()) + math.sqrt(3) * radius
        return Region(focus, radius, 0.0, corner, bounded=True)
    radius = float(distances.median())
    near = NEAREST * radius
    if points is not None and (depths := _depths(cameras, points)).numel():
        # Half of the nearest, because sparse points leave out what has no texture; a thousandth may be wrong
        near = max(near, 0.5 * float(depths.sort().values[len(depths) // 1000]))
    return Region(focus, radius, near, FARTHEST * max(radius, near), bounded=False)


def _depths(cameras: Sequence[Camera], points: Float[Tensor, "n 3"]) -> Float[Tensor, " k"]:
    """Distances from the cameras' centres of the points inside their images, at most 1000 points for each camera."""
    points = points[:: math.ceil(len(points) / 1000)] if len(points) else points
    seen = []
    for camera in cameras:
        pose = camera.cam_from_world.to(points)
        local = points @ pose[:3, :3].T + pose[:3, 3]
        x, y, z = local.unbind(-1)
        safe = z.clamp_min(1e-6)
        across, down = camera.fx * x / safe + camera.cx, camera.fy * y / safe + camera.cy
        inside = (z > 1e-6) & (across >= 0) & (across < camera.width) & (down >= 0) & (down < camera.height)
        seen.append(local[inside].norm(dim=-1))
    return torch.cat(seen)

"""What the network is told about a pixel besides its colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from qsplat.cameras import Camera, Window
from qsplat.reprojection import world_points

QueryKind = Literal["pixels", "locations", "rays"]
PartQueries = Callable[[Window], Tensor]
"""The queries [v, u, d] of a part of an image, the window given in pixels of that image."""

SCENE_SHARE = 0.95
"""Share of the Gaussians that the box of the scene holds. A few stray far away."""


@runtime_checkable
class Queries(Protocol):
    """What is known about the pixels that a camera renders.

    ``depth``, in world units along z, is of the same pixels; it is None where ``needs_depth`` is False. The queries of
    a window are the window of the queries.
    """

    @property
    def channels(self) -> int: ...
    @property
    def needs_depth(self) -> bool: ...
    def __call__(self, camera: Camera, depth: Float[Tensor, "h w"] | None) -> Float[Tensor, "h w d"]: ...


@runtime_checkable
class PlacedQueries(Protocol):
    """Queries that are told where the scene is when the head is switched on, and keep to that."""

    def place(self, cameras: Sequence[Camera], means: Float[Tensor, "n 3"]) -> None:
        """``cameras`` are those of the training views, ``means`` those of the Gaussians."""
        ...


class PixelQueries(nn.Module):
    """Where the pixels are in the image: ``pixel_queries``."""

    channels, needs_depth = 2, False

    def forward(self, camera: Camera, depth: Float[Tensor, "h w"] | None = None) -> Float[Tensor, "h w 2"]:
        """Coordinates in [-1, 1]."""
        return pixel_queries(camera)


class LocationQueries(nn.Module):
    """Where in the world the pixels' surface is: by the expected depth, without a gradient to it.

    Locations are clamped to [-1, 1] over a cube around the median of the Gaussians.
    """

    channels, needs_depth = 3, True
    center: Float[Tensor, "3"]
    radius: Float[Tensor, ""]

    def __init__(self) -> None:
        super().__init__()
        _register_box(self)

    def place(self, cameras: Sequence[Camera], means: Float[Tensor, "n 3"]) -> None:
        """Lay the cube around the Gaussians."""
        _place_box(self, means, SCENE_SHARE)

    @torch.no_grad()
    def forward(self, camera: Camera, depth: Float[Tensor, "h w"] | None) -> Float[Tensor, "h w 3"]:
        """Coordinates in [-1, 1]."""
        assert depth is not None
        depth = depth.to(camera.cam_from_world)
        return ((world_points(camera, depth) - self.center) / self.radius).clamp(-1, 1)


class RayQueries(nn.Module):
    """The rays of the pixels: unit direction, and origin, which is in [-1, 1] for the training views."""

    channels, needs_depth = 6, False
    center: Float[Tensor, "3"]
    radius: Float[Tensor, ""]

    def __init__(self) -> None:
        super().__init__()
        _register_box(self)

    def place(self, cameras: Sequence[Camera], means: Float[Tensor, "n 3"]) -> None:
        """Lay the cube around the cameras."""
        _place_box(self, torch.stack([camera.center for camera in cameras]), 1.0)

    @torch.no_grad()
    def forward(self, camera: Camera, depth: Float[Tensor, "h w"] | None = None) -> Float[Tensor, "h w 6"]:
        """Direction (x, y, z) in world axes, and origin."""
        directions = camera.ray_directions()
        origin = (camera.center - self.center) / self.radius
        return torch.cat([directions, origin.expand_as(directions)], dim=-1)


def queries_of(kind: QueryKind) -> PixelQueries | LocationQueries | RayQueries:
    """The queries of that name."""
    match kind:
        case "pixels":
            return PixelQueries()
        case "locations":
            return LocationQueries()
        case "rays":
            return RayQueries()


def part_queries(queries: Queries, camera: Camera, depth: Float[Tensor, "h w"] | None = None) -> PartQueries:
    """What gives the ``queries`` of a part of the image that ``camera`` rendered with ``depth``."""

    def of_part(part: Window) -> Tensor:
        seen = camera.part(part)
        if depth is None:
            return queries(seen, None)
        return queries(seen, depth.detach()[part.y : part.y + part.height, part.x : part.x + part.width])

    return of_part


def pixel_queries(camera: Camera) -> Float[Tensor, "h w 2"]:
    """Coordinates (x, y) of the pixels that ``camera`` renders, from -1 to 1 across its whole image.

    They depend neither on the resolution nor on the window: a pixel of a crop has the coordinate it has in the whole
    image, and halving the resolution halves the number of coordinates in the same range.
    """
    pixels = camera.pixel_centers()
    return pixels * (2 / pixels.new_tensor([camera.width, camera.height])) - 1


def _register_box(module: nn.Module) -> None:
    """Centre and half the side of a cube, in world units, as part of the module's state."""
    module.register_buffer("center", torch.zeros(3))
    module.register_buffer("radius", torch.ones(()))


def _place_box(module: LocationQueries | RayQueries, points: Float[Tensor, "n 3"], share: float) -> None:
    """Lay the cube around the median of ``points``, so that it holds ``share`` of them."""
    points = points.detach().to(module.center)
    center = points.median(dim=0).values
    reach = (points - center).abs().amax(dim=1)
    held = reach.sort().values[min(len(reach) - 1, int(share * len(reach)))]
    module.center.copy_(center)
    module.radius.copy_(held.clamp_min(1e-6))

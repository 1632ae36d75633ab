"""Rays: half-lines from a camera's centre through its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qsplat.cameras import Camera


@dataclass(frozen=True)
class Rays:
    """Origins and unit directions in world axes."""

    origins: Float[Tensor, "r 3"]
    directions: Float[Tensor, "r 3"]

    def __len__(self) -> int:
        return self.origins.shape[0]

    def __getitem__(self, chosen: slice | Int[Tensor, " k"] | Bool[Tensor, " r"]) -> Rays:
        return Rays(self.origins[chosen], self.directions[chosen])

    def at(self, distances: Float[Tensor, "r s"]) -> Float[Tensor, "r s 3"]:
        """The points at ``distances``, in world units, from the origins."""
        return self.origins[:, None] + distances[..., None] * self.directions[:, None]


def camera_rays(camera: Camera) -> Rays:
    """The rays of the pixels that ``camera`` renders, row by row."""
    directions = camera.ray_directions().reshape(-1, 3)
    return Rays(camera.center.expand_as(directions), directions)


def rays_through(pixels: Float[Tensor, "r 2"], cameras: CameraTable, views: Int[Tensor, " r"]) -> Rays:
    """The rays through ``pixels`` (x, y, in pixels of the whole image) of the cameras that ``views`` names."""
    focal, middle = cameras.focal[views], cameras.middle[views]
    local = torch.cat([(pixels - middle) / focal, torch.ones_like(pixels[:, :1])], dim=1)
    directions = (local[:, None] @ cameras.cam_from_world[views])[:, 0]
    return Rays(cameras.centers[views], torch.nn.functional.normalize(directions, dim=-1))


@dataclass(frozen=True)
class CameraTable:
    """Several cameras as tensors: rotations, centres, focal lengths and principal points in pixels."""

    cam_from_world: Float[Tensor, "v 3 3"]
    centers: Float[Tensor, "v 3"]
    focal: Float[Tensor, "v 2"]
    middle: Float[Tensor, "v 2"]

    @staticmethod
    def of(cameras: list[Camera], device: torch.device | str) -> CameraTable:
        """``cameras`` on ``device``."""
        return CameraTable(
            torch.stack([camera.cam_from_world[:3, :3] for camera in cameras]).to(device),
            torch.stack([camera.center for camera in cameras]).to(device),
            torch.tensor([[camera.fx, camera.fy] for camera in cameras], device=device),
            torch.tensor([[camera.cx, camera.cy] for camera in cameras], device=device),
        )

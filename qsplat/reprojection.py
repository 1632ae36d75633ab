"""Where the pixels of one view lie in another, by depth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from qsplat.cameras import Camera


@dataclass(frozen=True)
class Reprojection:
    """Pixels of one view as another camera sees them.

    ``pixels`` are (x, y) in pixels of the whole image of that camera, ``depth`` is along its z axis in world units;
    ``inside`` is True in front of the camera and where its image has four pixels, or the border's, to interpolate.
    """

    pixels: Float[Tensor, "h w 2"]
    depth: Float[Tensor, "h w"]
    inside: Bool[Tensor, "h w"]


def world_points(camera: Camera, depth: Float[Tensor, "h w"]) -> Float[Tensor, "h w 3"]:
    """Points of the world at ``depth`` (world units along z) behind the pixel centres that ``camera`` renders."""
    pixels = camera.pixel_centers()
    x = (pixels[..., 0] - camera.cx) / camera.fx
    y = (pixels[..., 1] - camera.cy) / camera.fy
    points = torch.stack([x, y, torch.ones_like(x)], dim=-1) * depth[..., None]
    rotation, translation = camera.cam_from_world[:3, :3], camera.cam_from_world[:3, 3]
    return (points - translation) @ rotation


def reproject(points: Float[Tensor, "h w 3"], camera: Camera) -> Reprojection:
    """Where ``camera`` sees ``points`` of the world."""
    rotation, translation = camera.cam_from_world[:3, :3], camera.cam_from_world[:3, 3]
    x, y, z = (points @ rotation.T + translation).unbind(-1)
    before = z > 0
    safe = torch.where(before, z, torch.ones_like(z))
    pixels = torch.stack([camera.fx * x / safe + camera.cx, camera.fy * y / safe + camera.cy], dim=-1)
    size = pixels.new_tensor([camera.width, camera.height])
    inside = before & ((pixels >= 0) & (pixels <= size)).all(-1)
    return Reprojection(pixels=pixels, depth=z, inside=inside)


def sample(image: Float[Tensor, "v u c"], pixels: Float[Tensor, "h w 2"]) -> Float[Tensor, "h w c"]:
    """``image`` at ``pixels`` (x, y with centres at +0.5), bilinearly; beyond its border that of the border."""
    size = pixels.new_tensor([image.shape[1], image.shape[0]])
    grid = 2 * pixels / size - 1
    planes = functional.grid_sample(
        image.permute(2, 0, 1)[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False
    )
    return planes[0].permute(1, 2, 0)

"""A scene of two planes, of which every depth and every line of sight is known, and photos of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qsplat.cameras import Camera
from qsplat.qnn.photos import PhotoConfig, PhotoQueries, Source

FRONT, BACK, HALF_SIDE = 2.0, 4.0, 0.4
"""Depths of the planes, and half the side of the front one, a square around the z axis. The other goes on forever."""
SCALE = PhotoQueries.SCALE


def eye(
    x: float = 0.0, y: float = 0.0, z: float = 0.0, *, turn: float = 0.0, width: int = 80, height: int = 60
) -> Camera:
    """A camera at (x, y, z) that looks along z, turned to the right by ``turn`` radians and rolled by half of that."""
    cosine, sine = math.cos(turn), math.sin(turn)
    about_y = torch.tensor([[cosine, 0.0, -sine], [0.0, 1.0, 0.0], [sine, 0.0, cosine]])
    cosine, sine = math.cos(turn / 2), math.sin(turn / 2)
    about_z = torch.tensor([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    pose = torch.eye(4)
    pose[:3, :3] = about_z @ about_y
    pose[:3, 3] = -pose[:3, :3] @ torch.tensor([x, y, z])
    return Camera(pose, 0.9 * width, 0.9 * width, width / 2 + 0.7, height / 2 - 0.4, width, height)


@dataclass(frozen=True)
class Surface:
    """What lines of sight hit: points [..., 3], and whether they are on the front plane."""

    points: Tensor
    front: Tensor


def hit(origin: Tensor, directions: Tensor) -> Surface:
    """Where lines from ``origin`` end."""
    near, far = (origin + directions * ((plane - origin[2]) / directions[..., 2:]) for plane in (FRONT, BACK))
    front = near[..., :2].abs().amax(-1) < HALF_SIDE
    return Surface(torch.where(front[..., None], near, far), front)


def surface(camera: Camera) -> Surface:
    """What the pixels of ``camera`` see, in float64."""
    camera = replace(camera, cam_from_world=camera.cam_from_world.double())
    return hit(camera.center, camera.ray_directions())


def depth_of(camera: Camera) -> Tensor:
    pose = camera.cam_from_world.double()
    return (surface(camera).points @ pose[2, :3] + pose[2, 3]).float()


def seen_by(camera: Camera, points: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels of ``camera`` in which ``points`` lie, and whether nothing hides them."""
    pose = camera.cam_from_world.double()
    there = points @ pose[:3, :3].T + pose[:3, 3]
    x = camera.fx * there[..., 0] / there[..., 2] + camera.cx
    y = camera.fy * there[..., 1] / there[..., 2] + camera.cy
    center = -pose[:3, :3].T @ pose[:3, 3]
    within = (x > 0) & (x < camera.width) & (y > 0) & (y < camera.height)
    visible = (hit(center, points - center).points - points).norm(dim=-1) < 1e-6
    return torch.stack([x, y], dim=-1), visible & within


def away_from_edges(camera: Camera, pixels: Tensor, margin: int) -> Tensor:
    """Whether ``pixels`` are more than ``margin`` pixels from where the planes meet in the image of ``camera``, and
    more than half a pixel from its border."""
    front = surface(camera).front[None, None].double()
    size = 2 * margin + 1
    most = torch.nn.functional.max_pool2d(front, size, 1, margin)[0, 0]
    least = -torch.nn.functional.max_pool2d(-front, size, 1, margin)[0, 0]
    alone = most == least
    x, y = (pixels[..., axis].floor().long() for axis in (0, 1))
    inside = (x >= 1) & (y >= 1) & (x < camera.width - 1) & (y < camera.height - 1)
    return inside & alone[y.clamp(0, camera.height - 1), x.clamp(0, camera.width - 1)]


def own_pixels(camera: Camera) -> Tensor:
    """A residual that says where in the image it is: x and y as shares of the width, and the surface."""
    places = camera.pixel_centers() / camera.width
    return torch.cat([places, surface(camera).front[..., None].float()], dim=-1)


def texture(camera: Camera) -> Tensor:
    """A residual that is painted on the planes."""
    return painted(surface(camera).points).float()


def painted(points: Tensor) -> Tensor:
    x, y, z = points.unbind(-1)
    return torch.stack([torch.sin(x + z), torch.cos(1.3 * y), torch.sin(x - y)], dim=-1) / 10


def source(camera: Camera, residual: Callable[[Camera], Tensor] = texture) -> Source:
    return Source(camera, residual(camera), depth_of(camera), torch.ones(camera.height, camera.width))


def flat(camera: Camera, value: float) -> Source:
    """A photo that lacks the same everywhere."""
    return source(camera, lambda one: torch.full((one.height, one.width, 3), value))


def told(queries: PhotoQueries, camera: Camera) -> Tensor:
    return queries(camera, depth_of(camera))


def residual(channels: Tensor) -> Tensor:
    """The residuals alone, where they are believed."""
    return channels[..., :3] / (SCALE * channels[..., 3:4].clamp_min(1e-6))


ROW = [eye(0.25 * index - 1.0, 0.1 * (-1) ** index, turn=0.05 - 0.0125 * index) for index in range(9)]
"""Cameras that pass the scene from left to right."""

FEW = PhotoQueries([source(eye(x, width=40, height=30)) for x in (-0.4, -0.1, 0.2, 0.5)], PhotoConfig(count=2))
"""Small photos of the scene, of which two are asked."""

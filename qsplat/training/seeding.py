"""First points for captures that have none: in the volume that the cameras see, where the photos agree best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from qsplat.cameras import Camera

DEPTHS = 96
"""Candidate depths along a ray."""
NEAREST, FARTHEST = 0.2, 5.0
"""Range of those depths, in units of the distance to the point that the cameras look at."""
NEIGHBOURS = 12
"""Other photos that a candidate is compared with."""
MOST_PHOTOS, LONGEST_SIDE = 200, 256
"""Photos that are looked at, and pixels along their longer side: enough for first points, in bounded memory."""
PATCH = [(2 * x, 2 * y) for y in range(-2, 3) for x in range(-2, 3) if (x + y) % 2 == 0]
"""Offsets (x, y) in pixels of the brightnesses that are compared besides the colour: every other one of 9x9 pixels."""


@runtime_checkable
class Photo(Protocol):
    """A camera and its photo: RGB in [0, 1], premultiplied by alpha if there is one; a mask is True where it counts."""

    @property
    def camera(self) -> Camera: ...
    @property
    def image(self) -> Float[Tensor, "h w 3"]: ...
    @property
    def alpha(self) -> Float[Tensor, "h w"] | None: ...
    @property
    def mask(self) -> Bool[Tensor, "h w"] | None: ...


@dataclass(frozen=True)
class SeedPoints:
    """World positions and RGB in [0, 1]."""

    positions: Float[Tensor, "n 3"]
    colors: Float[Tensor, "n 3"]


def seed_in_view(photos: Sequence[Photo], count: int, *, generator: torch.Generator | None = None) -> SeedPoints:
    """At most ``count`` random points that the cameras see.

    Each lies on the ray of a random pixel (one that is opaque and not masked out), at that one of 96 random depths,
    uniform in 1/depth, where the other photos that see it look most like its own around it: the mean absolute
    difference of colour and of relative brightness over a patch, in the better half of them. Rays that no two other
    photos see are dropped, unless there are not so many. It is the plane sweep of stereo vision (Collins 1996).

    Raises:
        ValueError: there are no photos, or no ray is left.
    """
    if not photos:
        raise ValueError("0 photos: points in view of the cameras need at least one")
    photos = [_shrunk(photo) for photo in photos[:: math.ceil(len(photos) / MOST_PHOTOS)]]
    cameras = [photo.camera for photo in photos]
    focus = focus_point(cameras)
    centers = torch.stack([camera.center for camera in cameras])
    features = [_features(photo) for photo in photos]
    parts = []
    for index, photo in enumerate(photos):
        rays = (index + 1) * count // len(photos) - index * count // len(photos)
        near_first = torch.argsort((centers - centers[index]).norm(dim=-1), stable=True)[1:].tolist()
        close = near_first[: max(NEIGHBOURS, len(near_first) // 2)]
        others = close[:: max(1, len(close) // NEIGHBOURS)][:NEIGHBOURS]
        own = _Rays.sample(photo, rays, focus, generator)
        if own is None:
            continue
        cost = _disagreement(own, features[index], [(cameras[other], features[other]) for other in others])
        cost = cost + 1e-6 * torch.rand(cost.shape, generator=generator).to(cost)
        lowest, depth = cost.min(dim=1)
        seen = torch.isfinite(lowest)
        positions = own.points[torch.arange(len(depth)), depth]
        parts.append(SeedPoints(positions[seen], own.colors[seen]))
    if sum(len(part.positions) for part in parts) == 0:
        raise ValueError("no usable pixel's ray is seen by three cameras: check the poses, or give sparse points")
    return SeedPoints(torch.cat([part.positions for part in parts]), torch.cat([part.colors for part in parts]))


def focus_point(cameras: Sequence[Camera]) -> Float[Tensor, "3"]:
    """The point that the cameras look at: nearest to their optical axes, in the least-squares sense.

    One hundredth of the weight pulls it to the middle of the points one unit in front of the cameras, which decides
    where the axes are parallel.
    """
    centers = torch.stack([camera.center for camera in cameras])
    axes = torch.stack([camera.cam_from_world[2, :3] for camera in cameras])
    across = torch.eye(3).to(axes) - axes[:, :, None] * axes[:, None, :]
    pull = 1e-2 * torch.eye(3).to(axes)
    wanted = (across @ centers[:, :, None])[..., 0].mean(dim=0) + pull @ (centers + axes).mean(dim=0)
    return torch.linalg.solve(across.mean(dim=0) + pull, wanted)


@dataclass(frozen=True)
class _Rays:
    """Random pixels (x, y) of a photo, their colours, and random points along their rays."""

    pixels: Float[Tensor, "r 2"]
    colors: Float[Tensor, "r 3"]
    points: Float[Tensor, "r d 3"]

    @staticmethod
    def sample(photo: Photo, count: int, focus: Float[Tensor, "3"], generator: torch.Generator | None) -> _Rays | None:
        camera = photo.camera
        opaque = torch.ones_like(photo.image[..., 0]) if photo.alpha is None else (photo.alpha > 0.5).float()
        if photo.mask is not None:
            opaque = opaque * photo.mask
        if count == 0 or not bool(opaque.any()):
            return None
        chosen = torch.multinomial(opaque.flatten().cpu(), count, replacement=True, generator=generator)
        chosen = chosen.to(photo.image.device)
        pose = camera.cam_from_world
        distance = float((pose[:3, :3] @ focus + pose[:3, 3])[2].clamp_min(0.1))
        jitter = (torch.arange(DEPTHS) + torch.rand(count, DEPTHS, generator=generator)).to(pose) / DEPTHS
        depths = distance / (1 / FARTHEST + jitter * (1 / NEAREST - 1 / FARTHEST))
        pixels = camera.pixel_centers().reshape(-1, 2)[chosen]
        x, y = (pixels[:, 0] - camera.cx) / camera.fx, (pixels[:, 1] - camera.cy) / camera.fy
        directions = torch.stack([x, y, torch.ones_like(x)], dim=-1) @ pose[:3, :3]
        points = camera.center + depths[..., None] * directions[:, None]
        return _Rays(pixels, photo.image.reshape(-1, 3)[chosen], points)


@dataclass(frozen=True)
class _Shrunk:
    """A photo of bounded size."""

    camera: Camera
    image: Float[Tensor, "h w 3"]
    alpha: Float[Tensor, "h w"] | None
    mask: Bool[Tensor, "h w"] | None


def _shrunk(photo: Photo) -> _Shrunk:
    """``photo`` averaged down to the longest side that is looked at."""
    camera, alpha = photo.camera, photo.alpha
    factor = max(1.0, max(camera.width, camera.height) / LONGEST_SIDE)
    width, height = (max(1, round(side / factor)) for side in (camera.width, camera.height))
    extra = [plane.to(photo.image)[..., None] for plane in (alpha, photo.mask) if plane is not None]
    planes = torch.cat([photo.image, *extra], dim=-1).permute(2, 0, 1)
    image = functional.interpolate(planes[None], size=(height, width), mode="area")[0].permute(1, 2, 0)
    return _Shrunk(
        camera.resized(width, height),
        image[..., :3],
        None if alpha is None else image[..., 3],
        None if photo.mask is None else image[..., -1] > 0.999,
    )


def _features(photo: Photo) -> Float[Tensor, "1 c h w"]:
    """What is compared: colour and alpha, smoothed a little, and the brightnesses of a patch less their mean."""
    alpha = torch.ones_like(photo.image[..., 0]) if photo.alpha is None else photo.alpha
    planes = torch.cat([photo.image, alpha[..., None]], dim=-1).permute(2, 0, 1)[None]
    smooth = functional.avg_pool2d(planes, 3, 1, 1, count_include_pad=False)
    height, width = smooth.shape[2:]
    reach = max(x for x, _ in PATCH)
    around = functional.pad(smooth[:, :3].mean(dim=1, keepdim=True), (reach,) * 4, mode="replicate")
    taps = [around[:, :, reach + y : reach + y + height, reach + x : reach + x + width] for x, y in PATCH]
    patch = torch.cat(taps, dim=1)
    return torch.cat([smooth, patch - patch.mean(dim=1, keepdim=True)], dim=1)


def _disagreement(
    rays: _Rays, own: Float[Tensor, "1 c h w"], others: Sequence[tuple[Camera, Float[Tensor, "1 c h w"]]]
) -> Float[Tensor, "r d"]:
    """Mean absolute difference of the better half of the photos that see a point; infinite where fewer than two do."""
    height, width = own.shape[2:]
    reference = _look_up(own, rays.pixels / rays.pixels.new_tensor([width, height]))[:, None]
    needed = min(2, len(others))
    if needed == 0:
        return torch.zeros_like(rays.points[..., 0])
    differences = []
    for camera, features in others:
        pose = camera.cam_from_world
        local = rays.points @ pose[:3, :3].T + pose[:3, 3]
        z = local[..., 2].clamp_min(1e-6)
        x = (camera.fx * local[..., 0] / z + camera.cx) / camera.width
        y = (camera.fy * local[..., 1] / z + camera.cy) / camera.height
        inside: Bool[Tensor, "r d"] = (local[..., 2] > 0.01) & (x > 0) & (x < 1) & (y > 0) & (y < 1)
        difference = (_look_up(features, torch.stack([x, y], dim=-1)) - reference).abs().mean(dim=-1)
        differences.append(torch.where(inside, difference, torch.inf))
    ordered = torch.stack(differences).sort(dim=0).values
    seen = torch.isfinite(ordered).sum(dim=0)
    better = (seen + 1) // 2
    total = torch.where(torch.isfinite(ordered), ordered, 0.0).cumsum(dim=0)
    mean = total.gather(0, (better - 1).clamp_min(0)[None])[0] / better.clamp_min(1)
    return torch.where(seen >= needed, mean, torch.inf)


def _look_up(features: Float[Tensor, "1 c h w"], position: Float[Tensor, "*points 2"]) -> Float[Tensor, "*points c"]:
    """Bilinear values at ``position``, given as shares of the image from its top left corner."""
    grid = position.reshape(1, 1, -1, 2) * 2 - 1
    values = functional.grid_sample(features, grid, align_corners=False, padding_mode="border")
    return values[0, :, 0].T.reshape(*position.shape[:-1], -1)

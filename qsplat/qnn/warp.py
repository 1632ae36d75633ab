"""Photos warped into a view by its depth: what each of them shows of the surface, and how far it is to be believed."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float16
from torch import Tensor
from torch.nn import functional

from qsplat import kernels
from qsplat.cameras import Camera
from qsplat.reprojection import reproject, sample, world_points


@dataclass(frozen=True)
class Photo:
    """What a view may learn from a photo: its residual, and the depth of its surface (world units along z; 0 where
    there is none) behind it."""

    camera: Camera
    image: Float16[Tensor, "h w 4"]

    def __post_init__(self) -> None:
        assert self.image.shape == (self.camera.height, self.camera.width, 4)
        assert self.image.dtype == torch.float16


@dataclass(frozen=True)
class Trust:
    """How far two views may differ. A weight is 1/e for depths that differ by ``tolerance``, a share of them, and for
    lines of sight that differ by ``angle`` radians."""

    tolerance: float
    angle: float

    def nearness(self, angles: Tensor) -> Tensor:
        """1 along the same line of sight, given in radians."""
        return torch.exp(-angles / self.angle)


def agreement(depth: Tensor, seen: Tensor, tolerance: float) -> Tensor:
    """1 where the depth of a surface is the one that was seen there, 0 where another surface hides it."""
    return torch.exp(-(((depth - seen) / (tolerance * depth.clamp_min(1e-6))) ** 2))


@dataclass(frozen=True)
class Sums:
    """Of the weights of the photos at each pixel, and of what counts with them: residuals, their squares (mean of the
    colours), and angles in radians."""

    weight: Float[Tensor, "h w"]
    residual: Float[Tensor, "h w 3"]
    square: Float[Tensor, "h w"]
    angle: Float[Tensor, "h w"]


@torch.no_grad()
def warp(
    camera: Camera, depth: Float[Tensor, "h w"], *, photos: Sequence[Photo], shares: Float[Tensor, " k"], trust: Trust
) -> Sums:
    """Sums over ``photos`` at the pixels that ``camera`` renders, whose expected depth is ``depth``.

    The weight of a photo is its share, times the agreement of the surface's depth with the one that the photo shows in
    its place, times the nearness of the two lines of sight; 0 where the surface lies outside of the photo, or where
    there is none (a depth that is not above 0, or no number). In float32 on a CPU a compiled kernel does it, otherwise
    ``portable_warp``.
    """
    told = {"photos": photos, "shares": shares, "trust": trust}
    held = [depth, camera.cam_from_world, *(photo.image for photo in photos)]
    exact = any(tensor.dtype != torch.float32 for tensor in held[:2])
    if exact or any(tensor.device.type != "cpu" for tensor in held) or not kernels.available():
        return portable_warp(camera, depth, **told)
    library = kernels.load(kernels.best_binary())
    return compiled_warp(camera, depth, **told, threads=torch.get_num_threads(), library=library)


def compiled_warp(
    camera: Camera,
    depth: Float[Tensor, "h w"],
    *,
    photos: Sequence[Photo],
    shares: Float[Tensor, " k"],
    trust: Trust,
    threads: int,
    library: ctypes.CDLL,
) -> Sums:
    """``warp`` by the kernel of ``library``."""
    part, depth = camera.view, depth.contiguous()
    assert depth.shape == (part.height, part.width)
    images = [photo.image.contiguous() for photo in photos]
    listed = (kernels.WarpedPhoto * len(photos))()
    for entry, photo, image, share in zip(listed, photos, images, shares.tolist(), strict=True):
        _describe(entry, photo.camera)
        entry.width, entry.height, entry.share = photo.camera.width, photo.camera.height, share
        entry.point(image=image)
    sums = depth.new_empty(6, part.height, part.width)
    arguments = kernels.Warp(
        tolerance=trust.tolerance,
        angle_scale=trust.angle,
        x=part.x,
        y=part.y,
        width=part.width,
        height=part.height,
        count=len(photos),
        threads=threads,
        photos=listed,
    )
    _describe(arguments, camera)
    arguments.point(depth=depth, sums=sums)
    library.qsplat_warp(ctypes.byref(arguments))
    return Sums(sums[0], sums[1:4].permute(1, 2, 0), sums[4], sums[5])


def _describe(arguments: kernels.Warp | kernels.WarpedPhoto, camera: Camera) -> None:
    arguments.pose[:] = camera.cam_from_world[:3].flatten().tolist()
    arguments.fx, arguments.fy, arguments.cx, arguments.cy = camera.fx, camera.fy, camera.cx, camera.cy


def portable_warp(
    camera: Camera, depth: Float[Tensor, "h w"], *, photos: Sequence[Photo], shares: Float[Tensor, " k"], trust: Trust
) -> Sums:
    """``warp`` in PyTorch, on any device and in the type of the camera's pose."""
    points = world_points(camera, depth.to(camera.cam_from_world))
    assert depth.shape == points.shape[:2]
    line = functional.normalize(camera.center - points, dim=-1)
    zero = points.new_zeros(points.shape[:2])
    total, angle, square = zero, zero, zero
    mean = points.new_zeros(points.shape)
    for photo, share in zip(photos, shares, strict=True):
        there = reproject(points, photo.camera)
        read = sample(photo.image.to(points), there.pixels)
        apart = angles_between(line, functional.normalize(photo.camera.center - points, dim=-1))
        weight = agreement(there.depth, read[..., 3], trust.tolerance) * trust.nearness(apart) * share
        shown = there.inside & (depth > 0)
        weight = torch.where(shown & (weight > 0), weight, zero)
        residual = torch.where(shown[..., None], read[..., :3], torch.zeros_like(points))
        total = total + weight
        mean = mean + weight[..., None] * residual
        square = square + weight * residual.square().mean(-1)
        angle = angle + weight * torch.where(shown, apart, zero)
    return Sums(total, mean, square, angle)


def angles_between(line: Float[Tensor, "*#n 3"], lines: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n"]:
    """Angles in radians between unit vectors."""
    chord = (lines - line).norm(dim=-1) / 2
    return 2 * torch.asin(chord.clamp(max=1))

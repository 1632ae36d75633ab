"""A pinhole camera in OpenCV axes (x right, y down, z forward) and the windows of its image."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SAME_POSE = 1e-5
"""Difference, relative to their size, up to which two poses are the same."""


@dataclass(frozen=True)
class Window:
    """A rectangle of whole pixels inside an image: column ``x``, row ``y`` of its first pixel, and its size."""

    x: int
    y: int
    width: int
    height: int

    def grown(self, margin: int, *, width: int, height: int) -> Window:
        """This rectangle with ``margin`` pixels around it, as far as an image of ``width`` x ``height`` has them."""
        left, top = max(0, self.x - margin), max(0, self.y - margin)
        right, bottom = min(width, self.x + self.width + margin), min(height, self.y + self.height + margin)
        return Window(left, top, right - left, bottom - top)

    def relative_to(self, other: Window) -> Window:
        """This rectangle in pixels of ``other``, which lies in the same image."""
        return Window(self.x - other.x, self.y - other.y, self.width, self.height)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion.

    ``cam_from_world`` maps homogeneous world points to camera axes; ``fx, fy, cx, cy`` are in pixels of the whole
    image of ``width`` x ``height`` pixels, with pixel centres at +0.5. ``window`` names the part of that image that is
    rendered (all of it when None): projection, culling and queries always refer to the whole image, so that the
    rendering of a window equals the window of the rendering.

    Raises:
        ValueError: a pose, size, focal length or window that no camera can have.
    """

    cam_from_world: Float[Tensor, "4 4"]
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    window: Window | None = None

    def __post_init__(self) -> None:
        if self.cam_from_world.shape != (4, 4):
            raise ValueError(f"cam_from_world has shape {tuple(self.cam_from_world.shape)}: a pose is a 4x4 matrix")
        if self.width < 1 or self.height < 1:
            raise ValueError(f"image size {self.width}x{self.height}: both sides must be at least 1 pixel")
        if not all(math.isfinite(value) for value in (self.fx, self.fy, self.cx, self.cy)):
            raise ValueError(f"intrinsics fx={self.fx} fy={self.fy} cx={self.cx} cy={self.cy} must be finite")
        if self.fx <= 0 or self.fy <= 0:
            raise ValueError(f"focal lengths fx={self.fx} fy={self.fy} must be positive")
        part = self.window
        if part is not None and not (
            0 <= part.x < part.x + part.width <= self.width and 0 <= part.y < part.y + part.height <= self.height
        ):
            raise ValueError(f"{part} does not lie inside the {self.width}x{self.height} image")

    @property
    def view(self) -> Window:
        """The part of the image that is rendered."""
        return self.window or Window(0, 0, self.width, self.height)

    @property
    def intrinsics(self) -> Float[Tensor, "3 3"]:
        """The matrix K of the whole image, in pixels, on the device and in the type of the pose."""
        rows = [[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]]
        return torch.tensor(rows, dtype=self.cam_from_world.dtype, device=self.cam_from_world.device)

    @property
    def center(self) -> Float[Tensor, "3"]:
        """The camera centre in world coordinates."""
        rotation, translation = self.cam_from_world[:3, :3], self.cam_from_world[:3, 3]
        return -rotation.T @ translation

    def cropped(self, window: Window | None) -> Camera:
        """The same camera looking through ``window``, given in pixels of the whole image."""
        return replace(self, window=window)

    def part(self, window: Window) -> Camera:
        """The same camera looking through ``window``, given in pixels of its ``view``."""
        whole = self.view
        return self.cropped(Window(whole.x + window.x, whole.y + window.y, window.width, window.height))

    def resized(self, width: int, height: int) -> Camera:
        """The same view sampled by ``width`` x ``height`` pixels. The window is dropped: its pixels no longer exist."""
        across, down = width / self.width, height / self.height
        return replace(
            self,
            fx=self.fx * across,
            fy=self.fy * down,
            cx=self.cx * across,
            cy=self.cy * down,
            width=width,
            height=height,
            window=None,
        )

    def to(self, device: torch.device | str) -> Camera:
        """The same camera with its pose on ``device``."""
        return replace(self, cam_from_world=self.cam_from_world.to(device))

    def pixel_centers(self) -> Float[Tensor, "h w 2"]:
        """Pixel centres (x, y) of the rendered part, in pixels of the whole image."""
        part, pose = self.view, self.cam_from_world
        x = torch.arange(part.x, part.x + part.width, device=pose.device, dtype=pose.dtype) + 0.5
        y = torch.arange(part.y, part.y + part.height, device=pose.device, dtype=pose.dtype) + 0.5
        return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)

    def cosines(self) -> Float[Tensor, "h w"]:
        """Of the angles between the rays of the pixel centres and the optical axis: depth along the axis as a share of
        the way along the ray."""
        return self.ray_directions() @ self.cam_from_world[2, :3]

    def ray_directions(self) -> Float[Tensor, "h w 3"]:
        """Unit viewing directions of the pixel centres in world axes."""
        pixels = self.pixel_centers()
        x = (pixels[..., 0] - self.cx) / self.fx
        y = (pixels[..., 1] - self.cy) / self.fy
        rays = torch.stack([x, y, torch.ones_like(x)], dim=-1) @ self.cam_from_world[:3, :3]
        return torch.nn.functional.normalize(rays, dim=-1)


def same_pose(poses: Float[Tensor, "n 4 4"], pose: Float[Tensor, "4 4"]) -> Bool[Tensor, " n"]:
    """Which of ``poses`` are ``pose``, but for rounding."""
    return (poses - pose).abs().amax((1, 2)) < SAME_POSE * (1 + pose.abs().max())

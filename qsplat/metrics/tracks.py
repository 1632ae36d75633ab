"""Where a pixel of one frame is in the next, by the depth of both, and comparing the two there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from qsplat.cameras import Camera
from qsplat.reprojection import reproject, sample, world_points

AGREEMENT = 0.02
"""Depths that differ by less than this share are of one surface."""
OPAQUE = 0.9
"""Coverage from which on the expected depth is that of a surface."""
MARGIN = 3.0
"""Pixels along the border that are not compared: smoothing and interpolation see beyond it there."""
SMOOTHING = (1.0, 4.0, 6.0, 4.0, 1.0)


@dataclass(frozen=True)
class Geometry:
    """A camera and what it sees: depth along z in world units, and True where a surface is opaque."""

    camera: Camera
    depth: Float[Tensor, "h w"]
    opaque: Bool[Tensor, "h w"]

    @staticmethod
    def of(camera: Camera, depth: Float[Tensor, "h w"], alpha: Float[Tensor, "h w"]) -> Geometry:
        return Geometry(camera.to(depth.device), depth, (alpha >= OPAQUE) & (depth > 0))


@dataclass(frozen=True)
class Track:
    """Where another frame shows the pixels of this one (x, y), and True where both show the same opaque surface."""

    pixels: Float[Tensor, "h w 2"]
    visible: Bool[Tensor, "h w"]


def track(here: Geometry, there: Geometry) -> Track:
    """The pixels of ``here`` in ``there``.

    Visible is what is opaque in both, not at a border, and as far away as the other frame says within 2 %. Its depth is
    looked up as 1/depth, which is linear in the pixels of a plane: a slanted one agrees exactly.
    """
    seen = reproject(world_points(here.camera, here.depth), there.camera)
    nearness = torch.where(there.opaque, 1 / there.depth, 0.0)
    planes = sample(torch.stack([nearness, there.opaque.to(nearness)], dim=-1), seen.pixels)
    agrees = (seen.depth * planes[..., 0] - 1).abs() < AGREEMENT
    whole = planes[..., 1] > 1 - 1e-4
    within = _within(here.camera, here.camera.pixel_centers()) & _within(there.camera, seen.pixels)
    return Track(seen.pixels, here.opaque & seen.inside & whole & agrees & within)


def smoothed(image: Float[Tensor, "h w c"]) -> Float[Tensor, "h w c"]:
    """``image`` under a binomial filter of 5x5 pixels (variance 1 square pixel)."""
    taps = image.new_tensor(SMOOTHING) / sum(SMOOTHING)
    reach, planes = len(taps) // 2, image.permute(2, 0, 1)[:, None]
    planes = functional.pad(planes, (reach,) * 4, mode="replicate")
    planes = functional.conv2d(functional.conv2d(planes, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
    return planes[:, 0].permute(1, 2, 0)


def change(here: Float[Tensor, "h w c"], there: Float[Tensor, "v u c"], along: Track) -> Float[Tensor, "h w c"]:
    """``there`` looked up along the track, minus ``here`` after the same loss of sharpness.

    A bilinear look-up at the fraction f between two pixels is a filter of two taps with variance f (1 - f): it blurs,
    and the sharper of two images loses more. ``here`` therefore goes through the symmetric filter of three taps
    (a, 1 - 2a, a) with the same variance, a = f (1 - f) / 2, in x and in y. What is left of the look-up is of third
    order in frequency.
    """
    offset = along.pixels - 0.5
    fraction = offset - offset.floor()
    side = fraction * (1 - fraction) / 2
    (left, top), middle = side.unbind(-1), 1 - 2 * side
    height, width, _ = here.shape
    padded = functional.pad(here.permute(2, 0, 1)[None], (1, 1, 1, 1), mode="replicate")[0].permute(1, 2, 0)
    blurred = torch.zeros_like(here)
    for row, down in enumerate((top, middle[..., 1], top)):
        for column, across in enumerate((left, middle[..., 0], left)):
            blurred += (down * across)[..., None] * padded[row : row + height, column : column + width]
    return sample(there, along.pixels) - blurred


def _within(camera: Camera, pixels: Float[Tensor, "h w 2"]) -> Bool[Tensor, "h w"]:
    size = pixels.new_tensor([camera.width, camera.height])
    return ((pixels > MARGIN) & (pixels < size - MARGIN)).all(-1)

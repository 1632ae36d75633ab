"""Photo queries: what the nearest photos show of a pixel that the Gaussians do not, warped into the view by depth."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from qsplat.cameras import Camera, same_pose
from qsplat.qnn.queries import pixel_queries
from qsplat.qnn.warp import Photo, Sums, Trust, agreement, angles_between, warp
from qsplat.reprojection import reproject, sample, world_points

LANDMARKS = 1024
"""Points of the surface by which the overlap of views is judged."""
FEWEST_SEEN = 1e-3
"""Weight below which a pixel counts as seen by no photo."""
FARTHEST = torch.finfo(torch.float16).max
"""Depth in world units that photos are kept with where the surface is farther away."""


@dataclass(frozen=True)
class PhotoConfig:
    """How photos are chosen and trusted.

    Args:
        count: photos per view.
        tolerance: disagreement of two depths, as a share of them, at which a pixel is seen with a weight of 1/e.
        angle: angle between two lines of sight at which a photo's weight is 1/e, in units of that between neighbours:
            the median over the photos of the angle to the nearest other one.
        fade: a photo has a weight by how much more of the view it shows than the first one that is not chosen; if not,
            this weight is 1 for all that are chosen, which come and go at once where the camera moves on.

    Raises:
        ValueError: a number that none of them can be.
    """

    count: int = 8
    tolerance: float = 0.1
    angle: float = 1.0
    fade: bool = True

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count={self.count}: at least 1 photo has to be warped into a view")
        if not (self.tolerance > 0 and self.angle > 0):
            raise ValueError(f"tolerance={self.tolerance}, angle={self.angle}: both must be above 0")


@dataclass(frozen=True)
class Source:
    """A photo with what the Gaussians make of it: what the image lacks (photo minus image), expected depth in world
    units along z, and coverage. All are of the whole image of the camera."""

    camera: Camera
    residual: Float[Tensor, "h w 3"]
    depth: Float[Tensor, "h w"]
    alpha: Float[Tensor, "h w"]

    def __post_init__(self) -> None:
        assert self.depth.shape == (self.camera.height, self.camera.width)


class PhotoQueries:
    """What the photos nearest to a view say about its pixels.

    Of each photo the residual (photo minus image of the Gaussians) is sampled where the pixel's surface lies in it. A
    photo counts at a pixel by the agreement of the two depths, by the angle between the two lines of sight, and, where
    photos fade, by how much of the view it shows, less what the first photo that was not chosen shows: where the camera
    moves on and another photo takes its place, its weight has gone to zero. The channels do not depend on the order of
    the photos:

        0..2  weighted mean of the residuals, times the confidence, times SCALE
        3     confidence w / (w + 1/10) for the sum w of the weights
        4     weighted mean of the angles, in units of that between neighbours, times the confidence
        5     weighted standard deviation of the residuals, times the confidence, times SCALE
        6, 7  coordinates (x, y) of the pixel from -1 to 1

    The first six are 0 where no photo sees the surface.

    Source: the weights follow Buehler et al. 2001, Unstructured Lumigraph Rendering; the channels are our choice.
    """

    channels, needs_depth = 8, True

    SCALE = 20.0
    """Residuals are small numbers, which a network with the usual initial weights hardly notices."""

    def __init__(self, sources: Sequence[Source], config: PhotoConfig | None = None) -> None:
        """Photos of any sizes, or none. They are kept in half precision."""
        self.config = config or PhotoConfig()
        self.cameras = tuple(source.camera for source in sources)
        self._left_out: int | None = None
        self._latest: tuple[list[float], tuple[Tensor, Tensor]] | None = None
        if not sources:
            return
        self._photos = [_photo(source) for source in sources]
        self._landmarks = _landmarks(sources)
        centers = torch.stack([camera.center for camera in self.cameras])
        self._poses = torch.stack([camera.cam_from_world for camera in self.cameras])
        self._lines = functional.normalize(centers[:, None] - self._landmarks, dim=-1)
        seen = [_visibility(photo, self._landmarks, self.config.tolerance) for photo in self._photos]
        self._seen = torch.stack(seen)
        self._neighbours = float(_angle_between_neighbours(self._lines, self._seen, self._poses))
        self._trust = Trust(self.config.tolerance, self.config.angle * self._neighbours)

    def without(self, index: int | None) -> PhotoQueries:
        """The same queries without photo ``index``, for the view that is that photo; with all photos if None.

        No pixel of that photo is read, nor of another one of exactly the same pose, so that the view is seen as one
        that was held out. What stays of them is geometry: the points by which overlap is judged come from the depths of
        all views.
        """
        other = copy.copy(self)
        other._left_out, other._latest = index, None
        return other

    @torch.no_grad()
    def chosen(self, camera: Camera) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
        """Indices of the photos that show most of what ``camera`` sees, most first, and their weights from 0 to 1.

        They depend on the whole image of ``camera``, not on its window, and are kept until another camera asks: crops
        and tiles of one view share them.
        """
        if not self.cameras:
            none = camera.cam_from_world.new_empty(0)
            return none.long(), none
        pose, size = camera.cam_from_world.flatten().tolist(), (camera.width, camera.height)
        view = [*pose, camera.fx, camera.fy, camera.cx, camera.cy, *size]
        latest = self._latest
        if latest is None or latest[0] != view:
            self._latest = latest = (view, self._choice(camera))
        return latest[1]

    def _choice(self, camera: Camera) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
        in_view = reproject(self._landmarks[None], camera).inside[0].float()
        angles = angles_between(functional.normalize(camera.center - self._landmarks, dim=-1), self._lines)
        shown = (self._seen * in_view * self._trust.nearness(angles)).sum(1)
        if self._left_out is not None:
            shown[same_pose(self._poses, self._poses[self._left_out])] = 0
        order = torch.argsort(shown, descending=True, stable=True)
        order = order[shown[order] > 0]
        first, following = order[: self.config.count], order[self.config.count : self.config.count + 1]
        if not self.config.fade:
            return first, torch.ones_like(shown[first])
        return first, 1 - shown[following].sum() / shown[first]

    @torch.no_grad()
    def __call__(self, camera: Camera, depth: Float[Tensor, "h w"] | None) -> Float[Tensor, "h w 8"]:
        """The channels for the pixels that ``camera`` renders, whose expected depth is ``depth``."""
        assert depth is not None
        places = pixel_queries(camera)
        if not self.cameras:
            return torch.cat([places.new_zeros(*places.shape[:2], 6), places], dim=-1)
        sums = self._sums(camera, depth)
        confidence, average = _confidence(sums.weight), 1 / sums.weight.clamp_min(FEWEST_SEEN)
        believed, mean = confidence * average, sums.residual * average[..., None]
        told = places.new_empty(*places.shape[:2], self.channels)
        told[..., :3] = mean * (self.SCALE * confidence)[..., None]
        told[..., 3] = confidence
        told[..., 4] = sums.angle * believed / self._neighbours
        told[..., 5] = (sums.square * average - mean.square().mean(-1)).clamp_min(0).sqrt() * (self.SCALE * confidence)
        told[..., 6:] = places
        return told

    @torch.no_grad()
    def seen(self, camera: Camera, depth: Float[Tensor, "h w"]) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w"]]:
        """The weighted mean of the residuals and the confidence, both 0 where no photo sees the surface. Unlike in the
        channels, the mean is as large as the residuals where the surface is hardly seen. There is a photo."""
        sums = self._sums(camera, depth)
        return sums.residual / sums.weight.clamp_min(torch.finfo(depth.dtype).tiny)[..., None], _confidence(sums.weight)

    def _sums(self, camera: Camera, depth: Float[Tensor, "h w"]) -> Sums:
        photos, shares = self.chosen(camera)
        asked = [self._photos[photo] for photo in photos.tolist()]
        return warp(camera, depth, photos=asked, shares=shares, trust=self._trust)


def _confidence(weight: Tensor) -> Tensor:
    return weight / (weight + 0.1)


def _photo(source: Source) -> Photo:
    """The residual, and the depth where the Gaussians cover the pixel, else 0."""
    depth = torch.where(source.alpha > 0.5, source.depth, torch.zeros_like(source.depth)).clamp_max(FARTHEST)
    return Photo(source.camera, torch.cat([source.residual, depth[..., None]], dim=-1).to(torch.float16))


def _landmarks(sources: Sequence[Source]) -> Float[Tensor, "m 3"]:
    """Points of the surface, evenly taken from all photos."""
    parts = []
    for source in sources:
        points = world_points(source.camera, source.depth)[source.alpha > 0.5]
        count = min(len(points), max(1, LANDMARKS // len(sources)))
        parts.append(points[torch.arange(count, device=points.device) * len(points) // max(1, count)])
    return torch.cat(parts)


def _visibility(photo: Photo, points: Float[Tensor, "m 3"], tolerance: float) -> Float[Tensor, " m"]:
    """How far each point is visible in a photo, from 0 to 1."""
    there = reproject(points[None], photo.camera)
    depth = sample(photo.image[..., 3:].to(points), there.pixels)[..., 0]
    return (there.inside * agreement(there.depth, depth, tolerance))[0]


def _angle_between_neighbours(
    lines: Float[Tensor, "n m 3"], seen: Float[Tensor, "n m"], poses: Float[Tensor, "n 4 4"]
) -> Float[Tensor, ""]:
    """Median over the photos of the angle in radians to the nearest one of another pose, as the landmarks see it:
    ``lines`` are the unit vectors from the landmarks to the photos."""
    nearest = []
    for index, line in enumerate(lines):
        common = seen[index] * seen
        angles = (common * angles_between(line, lines)).sum(1) / common.sum(1).clamp_min(1e-6)
        angles[common.sum(1) < 1] = torch.inf
        angles[same_pose(poses, poses[index])] = torch.inf
        nearest.append(angles.min())
    nearest = torch.stack(nearest)
    known = nearest[nearest.isfinite()]
    return known.median().clamp_min(1e-4) if len(known) else nearest.new_tensor(math.pi)

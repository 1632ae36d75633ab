"""What changes between the frames of a film, gathered frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qsplat.cameras import Camera
from qsplat.metrics.psnr import decibels
from qsplat.metrics.tracks import Geometry, Track, change, smoothed, track

Pair = tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w 3"]]
"""Of the base image, and of the image."""
STILL = 6**0.5
"""Standard deviation of (1, -2, 1) on independent noise of standard deviation 1."""


@runtime_checkable
class Frame(Protocol):
    """A model's image, that of its Gaussians alone, and their depth (world units along z) and coverage."""

    @property
    def rgb(self) -> Float[Tensor, "h w 3"]: ...
    @property
    def rgb_base(self) -> Float[Tensor, "h w 3"]: ...
    @property
    def depth(self) -> Float[Tensor, "h w"] | None: ...
    @property
    def alpha(self) -> Float[Tensor, "h w"]: ...


@dataclass(frozen=True)
class Steadiness:
    """One kind of image along a path; values of images are in [0, 1], squares are averaged over pixels and channels.

    ``short_rmse`` and ``long_rmse`` (and as PSNR, in dB) compare neighbouring frames, and frames the long range apart.
    ``flicker`` is the root mean square over pixels visible in three frames in a row of their second difference in time,
    over sqrt(6): frames that each differ from a steady film by independent noise of standard deviation s have a flicker
    of s. ``per_frame`` is that of each frame but the first and the last (None where nothing is visible in three).
    ``detail`` is the root mean square of the gradient of those pixels, per pixel.
    """

    short_rmse: float
    short_psnr: float
    long_rmse: float | None
    long_psnr: float | None
    flicker: float
    detail: float
    per_frame: tuple[float | None, ...]


@dataclass(frozen=True)
class Prepared:
    """A frame as it is compared: its geometry, and its images, smoothed."""

    geometry: Geometry
    images: Pair

    @staticmethod
    def of(number: int, camera: Camera, frame: Frame) -> Prepared:
        if frame.depth is None:
            raise ValueError("the frames come without depth: ask for it with RasterConfig(depth=True)")
        if not all(bool(torch.isfinite(values).all()) for values in (frame.rgb, frame.rgb_base, frame.depth)):
            raise ValueError(f"frame {number} holds NaN or infinity: the training has diverged")
        images = smoothed(frame.rgb_base.clamp(0, 1)), smoothed(frame.rgb.clamp(0, 1))
        return Prepared(Geometry.of(camera, frame.depth, frame.alpha), images)


@dataclass
class Tally:
    """Squares of a pair, averaged over channels and summed over the ``seen`` pixels out of all."""

    seen: int = 0
    of: int = 0
    squares: tuple[float, float] = (0.0, 0.0)

    def add(self, pair: Pair, visible: Bool[Tensor, "h w"]) -> None:
        base, head = (values[visible].double().square().mean(dim=-1).sum().item() for values in pair)
        self.seen += int(visible.sum())
        self.of += visible.numel()
        self.squares = self.squares[0] + base, self.squares[1] + head

    def mean(self, which: int) -> float | None:
        """The mean square of one of the pair; None where nothing was seen."""
        return self.squares[which] / self.seen if self.seen else None

    @staticmethod
    def total(tallies: Sequence[Tally]) -> Tally:
        bases, heads = zip(*(tally.squares for tally in tallies), strict=True)
        return Tally(sum(tally.seen for tally in tallies), sum(tally.of for tally in tallies), (sum(bases), sum(heads)))


@dataclass
class Film:
    """What was measured so far: ``threes`` holds the second differences of each frame with neighbours on both sides."""

    short: Tally = field(default_factory=Tally)
    long: Tally = field(default_factory=Tally)
    detail: Tally = field(default_factory=Tally)
    threes: list[Tally] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)

    def add_three(self, before: Prepared, here: Prepared, after: Prepared) -> None:
        """Add the changes from ``here`` to both of its neighbours, and their sum, the second difference."""
        (back, past), (forth, future) = _changes(here, before), _changes(here, after)
        self.short.add(back, past.visible)
        self.short.add(forth, future.visible)
        visible = past.visible & future.visible
        self.threes.append(Tally())
        self.threes[-1].add((back[0] + forth[0], back[1] + forth[1]), visible)
        self.detail.add((_steepness(here.images[0]), _steepness(here.images[1])), visible)
        if bool(visible.any()):
            moved = future.pixels - here.geometry.camera.pixel_centers()
            self.steps.append(moved[visible].norm(dim=-1).median().item())

    def add_far(self, one: Prepared, other: Prepared) -> None:
        """Add the changes between two frames the long range apart, both ways."""
        for here, there in ((one, other), (other, one)):
            pair, along = _changes(here, there)
            self.long.add(pair, along.visible)

    def steadiness(self, which: int) -> Steadiness:
        """That of one of the pair."""
        short, long = _root(self.short.mean(which)), _root(self.long.mean(which))
        flicker, detail = _root(Tally.total(self.threes).mean(which)), _root(self.detail.mean(which))
        assert short is not None
        assert flicker is not None
        assert detail is not None
        return Steadiness(
            short_rmse=short,
            short_psnr=decibels(short**2),
            long_rmse=long,
            long_psnr=None if long is None else decibels(long**2),
            flicker=flicker / STILL,
            detail=detail,
            per_frame=tuple(
                None if (root := _root(three.mean(which))) is None else root / STILL for three in self.threes
            ),
        )


def _changes(here: Prepared, there: Prepared) -> tuple[Pair, Track]:
    """How both images change along the track from one frame to another."""
    along = track(here.geometry, there.geometry)
    base, head = (change(mine, other, along) for mine, other in zip(here.images, there.images, strict=True))
    return (base, head), along


def _root(mean_square: float | None) -> float | None:
    return None if mean_square is None else mean_square**0.5


def _steepness(image: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w 3"]:
    """Length of the gradient of each channel, per pixel; 0 in the outermost pixels."""
    steepness = torch.zeros_like(image)
    across = image[1:-1, 2:] - image[1:-1, :-2]
    down = image[2:, 1:-1] - image[:-2, 1:-1]
    steepness[1:-1, 1:-1] = torch.hypot(across, down) / 2
    return steepness

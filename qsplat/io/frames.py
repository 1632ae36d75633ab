"""A capture before its pixels are read: where each photo lies, what took it, and how it is split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from qsplat.cameras import Camera
from qsplat.io.lens import Lens
from qsplat.io.scene import PointCloud


@dataclass(frozen=True)
class Frame:
    """One photo to be read: ``camera`` is the pinhole camera at full resolution that is left after ``lens`` (None
    where the photo has no distortion) is removed."""

    name: str
    path: Path
    mask_path: Path | None
    camera: Camera
    lens: Lens | None

    def camera_at(self, *, downscale: float | int = 1.0, max_side: int | None = None) -> Camera:
        """The camera of the photo shrunk by ``downscale``, or so that no side is longer than ``max_side``.

        Sizes are rounded to whole pixels and the intrinsics follow the size that results.

        Raises:
            ValueError: the photo would be enlarged, or both are given.
        """
        if max_side is not None:
            if downscale != 1.0 or max_side < 1:
                raise ValueError(f"max_side={max_side} with downscale={downscale}: give one of them, at least 1")
            downscale = max(1.0, max(self.camera.width, self.camera.height) / max_side)
        if not downscale >= 1:
            raise ValueError(f"downscale={downscale} would enlarge the photos: it must be at least 1")
        width, height = (max(1, round(side / downscale)) for side in (self.camera.width, self.camera.height))
        return self.camera.resized(width, height)


@dataclass(frozen=True)
class Frames:
    """The photos of a capture to train on and to hold out, each in the order of names, and its sparse points.

    Everything is in the normalised world, where the similarity ``world_from_original`` moved poses and points of the
    files.
    """

    name: str
    train: tuple[Frame, ...]
    test: tuple[Frame, ...]
    points: PointCloud | None
    world_from_original: Float[Tensor, "4 4"]

"""What training and evaluation read: views (camera and photo), sparse points, and the scene that holds them."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from qsplat.cameras import Camera


@dataclass(frozen=True)
class View:
    """A photo and the camera that took it, without distortion and of the same size.

    ``image`` holds RGB in [0, 1]; where the file has an alpha channel the colours are premultiplied by ``alpha``, so
    that ``image + (1 - alpha) * background`` composites them. ``mask`` is True where a pixel counts in the loss.
    """

    name: str
    camera: Camera
    image: Float[Tensor, "h w 3"]
    alpha: Float[Tensor, "h w"] | None = None
    mask: Bool[Tensor, "h w"] | None = None


@dataclass(frozen=True)
class PointCloud:
    """Sparse points in world coordinates and their RGB in [0, 1]."""

    positions: Float[Tensor, "n 3"]
    colors: Float[Tensor, "n 3"]


@dataclass(frozen=True)
class Scene:
    """Views to train on, views held out, and sparse points if the capture has any.

    ``world_from_original`` is the similarity that moved the poses and points of the files to where they are here.
    """

    name: str
    train: tuple[View, ...]
    test: tuple[View, ...]
    points: PointCloud | None
    world_from_original: Float[Tensor, "4 4"]

"""Which views of a capture are held out: one in eight, or a block of neighbours, where a model has to extrapolate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from qsplat.io.scene import Scene, View

HoldOut = Literal["every8", "block"]
EVERY = 8


def held_out(scene: Scene, way: HoldOut) -> Scene:
    """``scene``, as ``load_scene`` split it, with its views held out in one of two ways.

    ``every8`` leaves the split as it is: every 8th view, or those that the capture itself lists. ``block`` holds out an
    eighth of all views, next to each other: in the order of the capture where that has no split of its own, by their
    angle around the middle of the cameras where it has one, because its order is that of its lists. Of all such blocks
    it takes the one whose cameras lie farthest, on average, from the nearest one that is left.

    Raises:
        ValueError: too few views to hold a block out.
    """
    if way == "every8":
        return scene
    views = sorted((*scene.train, *scene.test), key=lambda view: view.name)
    if split_by_itself(scene):
        views.sort(key=_angle)
    size = -(-len(views) // EVERY)
    if size == len(views):
        raise ValueError(f"{scene.name} has {len(views)} views: a block is held out of at least 2")
    first = _loneliest(views, size)
    block = {view.name for view in views[first : first + size]}
    return replace(
        scene,
        train=tuple(view for view in views if view.name not in block),
        test=tuple(view for view in views if view.name in block),
    )


def split_by_itself(scene: Scene) -> bool:
    """Whether the capture says which views are held out, so that they are not every 8th."""
    names = sorted(view.name for view in (*scene.train, *scene.test))
    return {view.name for view in scene.test} != set(names[::EVERY])


def gaps(scene: Scene) -> dict[str, float]:
    """Distance from each held-out camera to the nearest training camera, in units of the normalised scene."""
    import torch

    train, test = (torch.stack([view.camera.center for view in views]) for views in (scene.train, scene.test))
    nearest = torch.cdist(test, train).min(dim=1).values.tolist()
    return {view.name: distance for view, distance in zip(scene.test, nearest, strict=True)}


def _loneliest(views: Sequence[View], size: int) -> int:
    """Where the block of ``size`` views begins that lies farthest from the others."""
    import torch

    centers = torch.stack([view.camera.center for view in views]).double()
    distances = torch.cdist(centers, centers)
    gaps = []
    for first in range(len(views) - size + 1):
        left = [index for index in range(len(views)) if not first <= index < first + size]
        gaps.append(float(distances[first : first + size][:, left].min(dim=1).values.mean()))
    return gaps.index(max(gaps))


def _angle(view: View) -> float:
    """Angle in radians of the camera's centre around the vertical through the origin, the middle of the cameras."""
    import math

    x, y, _ = view.camera.center.tolist()
    return math.atan2(y, x)

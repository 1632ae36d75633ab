"""nerfstudio's cameras and ours, the only place where OpenGL axes meet OpenCV axes.

nerfstudio's ``camera_to_worlds`` is world_from_cam [3, 4] with x right, y up, z backward; ours is cam_from_world with x
right, y down, z forward. The world is the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from qsplat.cameras import Camera

_MEASURED = "measured"
"""The key in the metadata of nerfstudio's cameras."""


def cam_from_world_of(world_from_cam: Float[Tensor, "3 4"]) -> Float[Tensor, "4 4"]:
    """The OpenCV pose of an OpenGL camera, differentiable."""
    cam_from_world_axes = _flipped(world_from_cam[:, :3]).T
    translation = -cam_from_world_axes @ world_from_cam[:, 3:]
    last_row = world_from_cam.new_tensor([[0.0, 0.0, 0.0, 1.0]])
    return torch.cat([torch.cat([cam_from_world_axes, translation], dim=1), last_row])


def world_from_cam_of(cam_from_world: Float[Tensor, "4 4"]) -> Float[Tensor, "3 4"]:
    """The OpenGL pose of an OpenCV camera."""
    world_axes = cam_from_world[:3, :3].T
    center = -world_axes @ cam_from_world[:3, 3:]
    return torch.cat([_flipped(world_axes), center], dim=1)


def camera_of(cameras: Cameras, world_from_cam: Float[Tensor, "3 4"] | None = None) -> Camera:
    """The one camera that ``cameras`` holds, at ``world_from_cam`` instead of its own pose when that is given."""
    pose = cameras.camera_to_worlds.reshape(3, 4) if world_from_cam is None else world_from_cam
    columns = (cameras.fx, cameras.fy, cameras.cx, cameras.cy, cameras.width, cameras.height)
    fx, fy, cx, cy, width, height = torch.cat([column.reshape(1).double() for column in columns]).tolist()
    return Camera(cam_from_world_of(pose), fx, fy, cx, cy, int(width), int(height))


def cameras_of(cameras: Sequence[Camera]) -> Cameras:
    """nerfstudio's record of these cameras, at least one."""

    def column(name: str) -> Tensor:
        return torch.tensor([getattr(camera, name) for camera in cameras])

    return Cameras(
        camera_to_worlds=torch.stack([world_from_cam_of(camera.cam_from_world) for camera in cameras]),
        fx=column("fx"),
        fy=column("fy"),
        cx=column("cx"),
        cy=column("cy"),
        width=column("width"),
        height=column("height"),
    )


def mark_as_measured(cameras: Cameras) -> None:
    """Say of ``cameras`` that what is shown of them is compared with the photos that they took."""
    cameras.metadata = {**(cameras.metadata or {}), _MEASURED: True}


def is_measured(cameras: Cameras) -> bool:
    """Whether that was said."""
    return bool(cameras.metadata and cameras.metadata.get(_MEASURED))


def _flipped(axes: Float[Tensor, "3 3"]) -> Float[Tensor, "3 3"]:
    """Columns x, y, z to x, -y, -z: from one convention of camera axes to the other, and back."""
    return axes * axes.new_tensor([1.0, -1.0, -1.0])

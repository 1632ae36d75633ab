"""A closed path of cameras around whatever the cameras of a capture look at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from qsplat.cameras import Camera


def turntable(cameras: Sequence[Camera], count: int) -> list[Camera]:
    """``count`` cameras on a circle about the vertical through the point that ``cameras`` look at.

    Up is +z, as in a normalised capture. The circle has the mean distance and the mean height of ``cameras``, and the
    lens of the first.
    """
    import torch

    from qsplat.training.seeding import focus_point

    centers, target = torch.stack([camera.center for camera in cameras]), focus_point(cameras)
    radius = (centers - target)[:, :2].norm(dim=1).mean()
    height = centers[:, 2].mean()
    path = []
    for k in range(count):
        angle = 2 * math.pi * k / count
        center = torch.stack([target[0] + radius * math.cos(angle), target[1] + radius * math.sin(angle), height])
        path.append(replace(cameras[0], cam_from_world=look_at(center, target).to(cameras[0].cam_from_world)))
    return path


def look_at(center: Float[Tensor, "3"], target: Float[Tensor, "3"]) -> Float[Tensor, "4 4"]:
    """``cam_from_world`` of an upright OpenCV camera at ``center`` that looks at ``target``; up is +z."""
    import torch

    z = torch.nn.functional.normalize(target - center, dim=0)
    x = torch.nn.functional.normalize(torch.linalg.cross(z, torch.tensor([0.0, 0.0, 1.0]).to(z)), dim=0)
    pose = torch.eye(4).to(center)
    pose[:3, :3] = torch.stack([x, torch.linalg.cross(z, x), z])
    pose[:3, 3] = -pose[:3, :3] @ center
    return pose

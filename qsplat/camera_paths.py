"""Smooth paths of cameras, for films."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from qsplat.cameras import Camera

KNOTS = 24
"""Cameras at most that a path runs through: more of them only make it tremble as the hand that held the camera did."""
SAMPLES = 64
"""Poses between two knots, of which those of even steps are taken."""
TURN = 0.5
"""What turning by a radian counts in a step, as a share of the cameras' extent."""
EPSILON = 1e-6


def smooth_path(cameras: Sequence[Camera], count: int) -> list[Camera]:
    """``count`` cameras in even steps along a smooth curve from one end of ``cameras`` to the other.

    The cameras are put in the order of a short walk past all of them, at most 24 evenly chosen ones become knots of a
    cubic spline (position, and the axes z and y, made orthogonal again), and the curve is divided into steps of the
    same length, where turning counts, too. The lens is that of the first camera.

    Raises:
        ValueError: fewer than 2 cameras in different places, or ``count`` below 2.
    """
    if count < 2:
        raise ValueError(f"{count} frames: a path has at least 2")
    if not cameras:
        raise ValueError("0 cameras: a path needs at least 2 in different places")
    poses = np.stack([_place(camera) for camera in cameras])
    extent = float(np.linalg.norm(poses[:, 0] - poses[:, 0].mean(axis=0), axis=-1).mean())
    walk = poses[_walk(_steps(poses[:, None], poses[None], extent))]
    walk = walk[np.insert(_steps(walk[1:], walk[:-1], extent) > EPSILON * max(extent, EPSILON), 0, True)]
    if extent == 0 or len(walk) < 2:
        raise ValueError(f"all {len(cameras)} cameras are in one place: a path needs at least 2 different ones")
    knots = walk[np.unique(np.linspace(0, len(walk) - 1, KNOTS).round().astype(int))]
    lengths = np.insert(np.cumsum(_steps(knots[1:], knots[:-1], extent)), 0, 0.0)
    curve = CubicSpline(lengths, knots, bc_type="natural")
    dense = curve(np.linspace(0, lengths[-1], SAMPLES * (len(knots) - 1) + 1))
    walked = np.insert(np.cumsum(_steps(dense[1:], dense[:-1], extent)), 0, 0.0)
    even = np.linspace(0, walked[-1], count)
    times = np.interp(even, walked, np.linspace(0, lengths[-1], len(dense)))
    return [_camera(place, cameras[0]) for place in curve(times)]


def _place(camera: Camera) -> NDArray[np.float64]:
    """Centre, z axis and y axis in the world, as rows."""
    pose = camera.cam_from_world.detach().cpu().double()
    center = -pose[:3, :3].T @ pose[:3, 3]
    return torch.stack([center, pose[2, :3], pose[1, :3]]).numpy()


def _camera(place: NDArray[np.float64], lens: Camera) -> Camera:
    """The camera at a place whose axes are nearly orthonormal: z keeps its direction."""
    center, z, y = torch.from_numpy(place)
    z = torch.nn.functional.normalize(z, dim=0)
    x = torch.nn.functional.normalize(torch.linalg.cross(y, z), dim=0)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.stack([x, torch.linalg.cross(z, x), z])
    pose[:3, 3] = -pose[:3, :3] @ center
    return replace(lens, cam_from_world=pose.to(lens.cam_from_world), window=None)


def _steps(a: NDArray[np.float64], b: NDArray[np.float64], extent: float) -> NDArray[np.float64]:
    """How far places are apart, in world units."""
    moved = np.linalg.norm(a[..., 0, :] - b[..., 0, :], axis=-1)
    turned = np.linalg.norm(a[..., 1:, :] - b[..., 1:, :], axis=(-2, -1))
    return moved + TURN * extent * turned


def _walk(distances: NDArray[np.float64]) -> list[int]:
    """A short walk past all places: from the outermost to the nearest not yet seen, then without crossings (2-opt)."""
    count = len(distances)
    walk = [int(distances.sum(axis=1).argmax())]
    left = set(range(count)) - set(walk)
    while left:
        walk.append(min(left, key=lambda other: (distances[walk[-1], other], other)))
        left.remove(walk[-1])
    shorter = True
    while shorter:
        shorter = False
        for i in range(count - 1):
            for j in range(i + 1, count):
                before = distances[walk[i - 1], walk[i]] if i else 0.0
                after = distances[walk[j], walk[j + 1]] if j + 1 < count else 0.0
                joined = distances[walk[i - 1], walk[j]] if i else 0.0
                rejoined = distances[walk[i], walk[j + 1]] if j + 1 < count else 0.0
                if joined + rejoined < before + after - EPSILON * (before + after):
                    walk[i : j + 1] = reversed(walk[i : j + 1])
                    shorter = True
    return walk if walk[0] < walk[-1] else walk[::-1]

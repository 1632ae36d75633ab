"""The photographer's walk: three rings around the table, with a hand that is not quite steady."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
TARGET = (-0.02, 0.0, 0.215)
RINGS = ((17.0, 0.40), (31.0, 0.35), (47.0, 0.25))
"""Elevation in degrees and share of the views, per ring."""


@dataclass(frozen=True)
class Orbit:
    """Poses ``world_from_cam`` (``n 4 4``, OpenGL axes: x right, y up, z backwards) and intrinsics in pixels."""

    poses: Array
    focal: float
    width: int
    height: int

    def project(self, index: int, points: Array) -> tuple[Array, Array]:
        """Pixel positions ``n 2`` (pixel centres at +0.5) and depths ``n`` of world ``points`` in view ``index``."""
        pose = self.poses[index]
        local = (points - pose[:3, 3]) @ pose[:3, :3] * np.array([1, -1, -1])
        center = np.array([self.width / 2, self.height / 2])
        return local[:, :2] / local[:, 2:] * self.focal + center, local[:, 2]

    def rays(self, index: int, pixels: Array) -> Array:
        """Unit world directions ``n 3`` through ``pixels`` of view ``index``."""
        center = np.array([self.width / 2, self.height / 2])
        local = np.concatenate([(pixels - center) / self.focal, np.ones((len(pixels), 1))], axis=1)
        directions = (local * np.array([1, -1, -1])) @ self.poses[index][:3, :3].T
        return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def orbit(rng: np.random.Generator, count: int, *, width: int, height: int, fov_degrees: float = 46.0) -> Orbit:
    """``count`` poses looking at the still life, ring after ring."""
    shares = np.array([share for _, share in RINGS])
    ends = np.round(np.cumsum(shares) * count).astype(int)
    poses = []
    for (elevation, _), start, end in zip(RINGS, [0, *ends[:-1]], ends, strict=True):
        phase = rng.uniform(0, 360)
        for k in range(end - start):
            azimuth = np.radians(phase + 360 * (k + rng.uniform(-0.15, 0.15)) / (end - start))
            slope = np.radians(elevation + rng.uniform(-2, 2))
            distance = 1.42 * rng.uniform(0.93, 1.07)
            offset = [np.cos(azimuth) * np.cos(slope), np.sin(azimuth) * np.cos(slope), np.sin(slope)]
            target = np.array(TARGET) + rng.uniform(-0.03, 0.03, 3)
            poses.append(_look_at(np.array(TARGET) + distance * np.array(offset), target))
    return Orbit(np.array(poses), width / 2 / np.tan(np.radians(fov_degrees) / 2), width, height)


def _look_at(position: Array, target: Array) -> Array:
    back = (position - target) / np.linalg.norm(position - target)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :4] = np.stack([right, np.cross(back, right), back, position], axis=1)
    return pose

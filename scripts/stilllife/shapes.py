"""Triangle meshes with texture coordinates: grids, surfaces of revolution, tubes and leaves. z points up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """Vertices ``v 3``, texture coordinates ``v 2`` (v = 0 is the first row of the texture), triangles ``t 3``."""

    vertices: Array
    uv: Array
    triangles: NDArray[np.int64]

    def moved(self, offset: Sequence[float], *, turn_degrees: float = 0.0, tilt_degrees: float = 0.0) -> Shape:
        """Tilted about x, turned about z, then shifted."""
        turn, tilt = np.radians(turn_degrees), np.radians(tilt_degrees)
        about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
        about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        return Shape(self.vertices @ (about_z @ about_x).T + np.asarray(offset), self.uv, self.triangles)

    def normals(self) -> Array:
        """Unit vertex normals, weighted by area."""
        a, b, c = (self.vertices[self.triangles[:, i]] for i in range(3))
        faces = np.cross(b - a, c - a)
        total = np.zeros_like(self.vertices)
        for i in range(3):
            np.add.at(total, self.triangles[:, i], faces)
        return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


def grid(points: Array) -> Shape:
    """The surface through a ``rows columns 3`` array of points; u runs along the columns, v along the rows."""
    rows, columns = points.shape[:2]
    v, u = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    lower = np.stack([corner, corner + columns, corner + 1], axis=1)
    upper = np.stack([corner + 1, corner + columns, corner + columns + 1], axis=1)
    return Shape(points.reshape(-1, 3), np.stack([u, v], axis=-1).reshape(-1, 2), np.concatenate([lower, upper]))


def revolution(profile: Sequence[tuple[float, float]], *, samples: int = 64, around: int = 96) -> Shape:
    """A smooth curve through ``profile`` = (radius, height) turned about the z axis; v runs along the curve."""
    knots = np.asarray(profile, dtype=float)
    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    curve = _smooth(knots, lengths / lengths[-1], samples)
    angle = -np.linspace(0, 2 * np.pi, around + 1)
    radius = np.maximum(curve[:, 0], 0)[:, None]
    height = np.broadcast_to(curve[:, 1][:, None], (samples, around + 1))
    return grid(np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=-1))


def tube(path: Array, radii: Array, *, around: int = 12) -> Shape:
    """A round tube along a ``k 3`` path with one radius per point."""
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    reference = np.where(np.abs(tangent[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
    side = np.cross(tangent, reference)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    other = np.cross(tangent, side)
    angle = np.linspace(0, 2 * np.pi, around + 1)[None, :, None]
    ring = np.cos(angle) * side[:, None] + np.sin(angle) * other[:, None]
    return grid(path[:, None] + radii[:, None, None] * ring)


def leaf(root: Array, direction: Array, up: Array, *, length: float, width: float, droop: float) -> Shape:
    """A pointed leaf growing from ``root`` along ``direction``, bent down by ``droop`` and folded along its rib."""
    forward = direction / np.linalg.norm(direction)
    side = np.cross(forward, up)
    side /= np.linalg.norm(side)
    normal = np.cross(side, forward)
    along = np.linspace(0, 1, 7)
    half = width / 2 * np.sin(np.pi * along**0.8) ** 0.9
    across = np.linspace(-1, 1, 5)
    rise = 0.25 * np.abs(across)[:, None] * half - droop * length * along**2
    return grid(
        root
        + along[None, :, None] * length * forward
        + (across[:, None] * half)[..., None] * side
        + rise[..., None] * normal
    )


def merged(shapes: Sequence[Shape]) -> Shape:
    """All shapes as one mesh."""
    starts = np.cumsum([0, *(len(s.vertices) for s in shapes[:-1])])
    return Shape(
        np.concatenate([s.vertices for s in shapes]),
        np.concatenate([s.uv for s in shapes]),
        np.concatenate([s.triangles + start for s, start in zip(shapes, starts, strict=True)]),
    )


def _smooth(knots: Array, at: Array, samples: int) -> Array:
    """Monotone cubic (PCHIP) interpolation: no overshoot at the sharp turns of a rim."""
    from scipy.interpolate import PchipInterpolator

    return np.asarray(PchipInterpolator(at, knots, axis=0)(np.linspace(0, 1, samples)))

"""The points that structure from motion would leave: corners in the photographs, seen from several sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stilllife.orbit import Array, Orbit

MIN_VIEWS = 3
NOISE = 0.0012
"""Standard deviation of a point's position in world units, about a third of a pixel."""
SHINY = "pot"
"""Reflections move with the camera, so matching finds nothing on this item."""


@dataclass(frozen=True)
class SparsePoints:
    """World positions ``n 3`` and 8 bit colours ``n 3``."""

    positions: Array
    colors: NDArray[np.uint8]


def sparse_points(
    mi: Any, scene: Any, orbit: Orbit, photos: NDArray[np.uint8], rng: np.random.Generator, *, count: int
) -> SparsePoints:
    """At most ``count`` points seen in at least three ``photos`` (``n h w 3``), displaced by about a millimetre.

    The colour is the median over the views that see the point.
    """
    per_view = max(1, 3 * count // len(photos))
    corners = [_corners(photo, rng, per_view) for photo in photos]
    points = np.concatenate([_first_hits(mi, scene, orbit, index, pixels) for index, pixels in enumerate(corners)])
    samples = np.full((len(photos), len(points), 3), np.nan)
    for index, photo in enumerate(photos):
        seen, pixels = _visible(mi, scene, orbit, index, points)
        samples[index, seen] = photo[pixels[seen, 1], pixels[seen, 0]]
    kept = np.flatnonzero(np.isfinite(samples[..., 0]).sum(axis=0) >= MIN_VIEWS)
    kept = rng.permutation(kept)[:count]
    colors = np.round(np.nanmedian(samples[:, kept], axis=0)).astype(np.uint8)
    return SparsePoints(points[kept] + rng.normal(0, NOISE, (len(kept), 3)), colors)


def _corners(photo: NDArray[np.uint8], rng: np.random.Generator, count: int, *, margin: int = 4) -> Array:
    """Pixel positions drawn by the root of the local contrast, so that quiet patterns get their share."""
    gray = photo.astype(np.float64).mean(axis=-1)
    down, across = np.gradient(gray)
    strength = (down**2 + across**2) ** 0.25
    inner = np.zeros_like(strength)
    inner[margin:-margin, margin:-margin] = strength[margin:-margin, margin:-margin]
    chosen = rng.choice(inner.size, size=count, p=inner.ravel() / inner.sum())
    y, x = np.unravel_index(chosen, inner.shape)
    return np.stack([x, y], axis=1) + rng.uniform(0, 1, (count, 2))


def _first_hits(mi: Any, scene: Any, orbit: Orbit, index: int, pixels: Array) -> Array:
    origin = orbit.poses[index][:3, 3]
    found = []
    for direction in orbit.rays(index, pixels):
        hit = scene.ray_intersect(mi.Ray3f(origin, direction))
        if hit.is_valid() and hit.shape.id() != SHINY and not hit.shape.is_emitter():
            found.append(np.array(hit.p, dtype=np.float64))
    return np.array(found).reshape(-1, 3)


def _visible(
    mi: Any, scene: Any, orbit: Orbit, index: int, points: Array
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which points nothing hides in view ``index``, and the pixel (x, y) of each."""
    positions, depth = orbit.project(index, points)
    size = np.array([orbit.width, orbit.height])
    seen = (depth > 0) & (positions > 1).all(axis=1) & (positions < size - 1).all(axis=1)
    origin = orbit.poses[index][:3, 3]
    for k in np.flatnonzero(seen):
        ray = points[k] - origin
        length = float(np.linalg.norm(ray))
        blocked = scene.ray_test(mi.Ray3f(origin, ray / length, length - 2e-3, 0.0, []))
        seen[k] = not blocked
    return seen, np.where(seen[:, None], np.floor(positions), 0).astype(np.int64)

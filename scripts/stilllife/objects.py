"""The things of the still life as shapes, each standing at the origin. One unit is about a metre."""

from __future__ import annotations

import numpy as np

from stilllife import shapes
from stilllife.shapes import Array, Shape
from stilllife.textures import noise

VASE_HEIGHT = 0.40


def disk(radius: float, height: float) -> Shape:
    """A round slab with its top at ``height``, textured from above."""
    slab = shapes.revolution([(0.0, height), (radius, height), (radius, height - 0.04)], samples=48, around=128)
    return Shape(slab.vertices, slab.vertices[:, :2] / (2 * radius) + 0.5, slab.triangles)


def wall() -> Shape:
    """A round room without a ceiling."""
    return shapes.revolution([(3.2, 1.25), (3.2, -0.75)], samples=4, around=160)


def cloth(rng: np.random.Generator, *, side: float = 1.04, cells: int = 120) -> Shape:
    """A square cloth, flat in the middle, with gentle folds towards its edge."""
    x, y = np.meshgrid(np.linspace(-1, 1, cells), np.linspace(-1, 1, cells))
    edge = np.clip((np.maximum(np.abs(x), np.abs(y)) - 0.62) / 0.38, 0, 1) ** 1.5
    height = 0.005 + 0.022 * edge * (0.55 + 0.45 * noise(rng, (cells, cells), (9, 9)))
    wobble = [0.012 * edge * noise(rng, (cells, cells), (6, 6)) for _ in range(2)]
    return shapes.grid(np.stack([x * side / 2 + wobble[0], y * side / 2 + wobble[1], height], axis=-1))


def vase() -> Shape:
    """A bellied vase with a narrow neck."""
    upper = [(0.046, VASE_HEIGHT), (0.040, 0.375), (0.036, 0.34), (0.052, 0.29), (0.098, 0.23)]
    lower = [(0.112, 0.165), (0.092, 0.085), (0.058, 0.02), (0.060, 0.0)]
    return shapes.revolution(upper + lower, samples=96)


def plate() -> Shape:
    """A shallow plate with a turned-up rim."""
    upper = [(0.0, 0.006), (0.07, 0.006), (0.10, 0.010), (0.125, 0.020), (0.148, 0.027)]
    return shapes.revolution([*upper, (0.151, 0.025), (0.12, 0.009), (0.08, 0.0)])


def oranges() -> Shape:
    """Three oranges lying on a plate at the origin."""
    ball = shapes.revolution(_ellipse(0.047, 0.045), samples=40, around=56)
    return shapes.merged(
        [
            ball.moved((-0.045, -0.025, 0.058), tilt_degrees=25, turn_degrees=40),
            ball.moved((0.035, -0.035, 0.058), tilt_degrees=-60, turn_degrees=10),
            ball.moved((-0.015, 0.055, 0.058), tilt_degrees=70, turn_degrees=-80),
        ]
    )


def lemon() -> Shape:
    """A lemon lying along -y, its middle at the origin."""
    profile = [(radius, 1.3 * height) for radius, height in _ellipse(0.033, 0.036)]
    profile[0] = (0.0, profile[0][1] + 0.006)
    return shapes.revolution(profile, samples=40, around=48).moved((0, 0, 0), tilt_degrees=86)


def pot() -> Shape:
    """A round pot with a lid, a knob, a spout along x and a handle."""
    lid = [(0.0, 0.236), (0.011, 0.233), (0.017, 0.222), (0.010, 0.208), (0.016, 0.203), (0.045, 0.195), (0.066, 0.180)]
    bowl = [(0.070, 0.174), (0.074, 0.171), (0.104, 0.140), (0.122, 0.095), (0.112, 0.045), (0.085, 0.012)]
    body = shapes.revolution([*lid, *bowl, (0.085, 0.0)], samples=120, around=128)
    t = np.linspace(0, 1, 28)
    rise = t**2 * (1.6 - 0.6 * t)
    spout = np.stack([0.095 + 0.125 * t, 0 * t, 0.065 + 0.11 * rise], axis=1)
    angle = np.linspace(-1.9, 1.75, 36)
    handle = np.stack([-0.118 - 0.062 * np.cos(angle), 0 * angle, 0.108 + 0.062 * np.sin(angle)], axis=1)
    return shapes.merged(
        [
            body,
            shapes.tube(spout, np.linspace(0.030, 0.012, 28), around=24),
            shapes.tube(handle, np.full(36, 0.009), around=16),
        ]
    )


def page(side: int, *, width: float = 0.26, height: float = 0.36) -> Shape:
    """The left (-1) or right (1) half of an open book: it rises from the fold and falls towards the edge."""
    t = np.linspace(0, 1, 40)[::side]
    lift = 0.012 + 0.030 * np.sin(np.pi * np.clip(t * 1.15, 0, 1)) ** 0.7 * (1 - 0.55 * t)
    x, y = np.meshgrid(side * width * t, np.linspace(height / 2, -height / 2, 12))
    return shapes.grid(np.stack([x, y, np.broadcast_to(lift, x.shape)], axis=-1))


def binding(*, width: float = 0.54, height: float = 0.375) -> Shape:
    """The cover on which an open book lies."""
    x, y = np.meshgrid([-width / 2, width / 2], [height / 2, -height / 2])
    return shapes.grid(np.stack([x, y, np.full_like(x, 0.004)], axis=-1))


def card(*, width: float = 0.165, height: float = 0.22, lean_degrees: float = 14.0) -> Shape:
    """A folded card standing like a tent, its print on both sides (the first towards -y)."""
    x, z = np.meshgrid([-width / 2, width / 2], [height, 0.0])
    face = shapes.grid(np.stack([x, np.zeros_like(x), z], axis=-1))
    foot = height * np.sin(np.radians(lean_degrees))
    return shapes.merged(
        [
            face.moved((0, -foot, 0), tilt_degrees=-lean_degrees),
            face.moved((0, foot, 0), tilt_degrees=-lean_degrees, turn_degrees=180),
        ]
    )


def twigs(rng: np.random.Generator, *, count: int = 9) -> tuple[Shape, Shape]:
    """Arching twigs from the mouth of a vase at the origin, and their leaves in opposite pairs."""
    bark: list[Shape] = []
    leaves: list[Shape] = []
    for i in range(count):
        azimuth = 2 * np.pi * (i + rng.uniform(-0.25, 0.25)) / count
        reach, rise = rng.uniform(0.12, 0.25), rng.uniform(0.17, 0.28)
        t = np.linspace(0, 1, 24)
        outward = 0.02 + reach * t**1.6
        height = VASE_HEIGHT - 0.03 + rise * (t - 0.25 * t**3)
        path = np.stack([np.cos(azimuth) * outward, np.sin(azimuth) * outward, height], axis=1)
        bark.append(shapes.tube(path, np.linspace(0.0042, 0.0016, 24), around=6))
        leaves += _leaf_pairs(rng, path)
    return shapes.merged(bark), shapes.merged(leaves)


def _leaf_pairs(rng: np.random.Generator, path: Array) -> list[Shape]:
    found = []
    for k in range(5, len(path), 2):
        tangent = _unit(path[k] - path[k - 1])
        side = _unit(np.cross(tangent, [0.0, 0.0, 1.0]))
        spin = rng.uniform(-0.6, 0.6)
        side = np.cos(spin) * side + np.sin(spin) * np.cross(side, tangent)
        for sign in (-1, 1):
            direction = 0.55 * tangent + sign * side + rng.uniform(-0.2, 0.2, 3)
            up = np.cross(side, tangent) + rng.uniform(-0.2, 0.2, 3)
            length = rng.uniform(0.062, 0.085) * (1 - 0.35 * k / len(path))
            droop = rng.uniform(0.1, 0.4)
            found.append(shapes.leaf(path[k], direction, up, length=length, width=0.42 * length, droop=droop))
    return found


def _unit(vector: Array) -> Array:
    return vector / np.linalg.norm(vector)


def _ellipse(radius: float, half_height: float) -> list[tuple[float, float]]:
    return [(radius * np.sin(angle), half_height * np.cos(angle)) for angle in np.linspace(0, np.pi, 13)]

"""Small scenes that each show one thing, tuned to keep away from the cutoffs."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.nn.functional import normalize

from qsplat.cameras import Camera
from qsplat.gaussians import Splats

NamedScene = Callable[[], tuple[Splats, Camera]]


def camera(width: int = 34, height: int = 27, *, pose: torch.Tensor | None = None) -> Camera:
    """A camera with an off-centre principal point and two focal lengths."""
    return Camera(torch.eye(4) if pose is None else pose, 30.0, 33.0, 0.47 * width, 0.54 * height, width, height)


def random_splats(
    count: int,
    *,
    seed: int = 0,
    size: tuple[float, float] = (0.02, 0.3),
    opacity: tuple[float, float] = (0.05, 0.9),
    depth: tuple[float, float] = (2.0, 5.0),
    degree: int = 3,
    features: int = 0,
) -> Splats:
    """Splats all over the view, with axes log-uniform in ``size``."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator) * (high - low) + low

    z = uniform(*depth, count, 1)
    return Splats(
        means=torch.cat([uniform(-0.6, 0.6, count, 2) * z, z], dim=1),
        quats=normalize(torch.randn(count, 4, generator=generator), dim=-1),
        scales=torch.exp(uniform(math.log(size[0]), math.log(size[1]), count, 3)),
        opacities=uniform(*opacity, count),
        sh=torch.randn(count, (degree + 1) ** 2, 3, generator=generator) * 0.3,
        features=torch.randn(count, features, generator=generator) if features else None,
    )


def turned_pose() -> torch.Tensor:
    """A pose that turns and moves about every axis."""
    pose = torch.eye(4)
    skew = torch.tensor([[0.0, -0.2, 0.15], [0.2, 0.0, -0.1], [-0.15, 0.1, 0.0]])
    pose[:3, :3] = torch.linalg.matrix_exp(skew)
    pose[:3, 3] = torch.tensor([0.2, -0.1, 0.4])
    return pose


def one_splat() -> tuple[Splats, Camera]:
    """A single splat in the middle."""
    return random_splats(1, seed=4, size=(0.1, 0.4)), camera()


def crowd() -> tuple[Splats, Camera]:
    """Many splats of all sizes."""
    return random_splats(150), camera()


def needles() -> tuple[Splats, Camera]:
    """Splats ten times longer than wide."""
    splats = random_splats(60, seed=1)
    return _replaced(splats, scales=torch.tensor([0.3, 0.03, 0.03]).repeat(60, 1)), camera()


def dust() -> tuple[Splats, Camera]:
    """Splats much smaller than a pixel."""
    return random_splats(60, seed=2, size=(0.01, 0.02)), camera(14, 11)


def giants() -> tuple[Splats, Camera]:
    """Splats larger than the image."""
    return random_splats(20, seed=3, size=(1.0, 3.0), opacity=(0.05, 0.4)), camera()


def wall_in_front() -> tuple[Splats, Camera]:
    """Strong splats in front of others: pixels stop before the end."""
    front = random_splats(60, seed=5, size=(0.3, 0.6), opacity=(0.6, 0.9), depth=(1.5, 2.0))
    behind = random_splats(100, seed=6, depth=(3.0, 5.0))
    return _joined(front, behind), camera()


def opaque() -> tuple[Splats, Camera]:
    """Opacity one: alpha is clamped near the means."""
    return random_splats(30, seed=7, opacity=(1.0, 1.0)), camera()


def around_the_camera() -> tuple[Splats, Camera]:
    """Splats in front of, behind and beside the camera."""
    splats = random_splats(200, seed=8)
    generator = torch.Generator().manual_seed(8)
    return _replaced(splats, means=torch.randn(200, 3, generator=generator) * 3), camera(pose=turned_pose())


def over_the_border() -> tuple[Splats, Camera]:
    """Means outside the image, shapes that reach into it."""
    splats = random_splats(80, seed=9, size=(0.2, 0.5))
    angle = torch.linspace(0, 2 * math.pi, 80)
    z = splats.means[:, 2]
    ring = torch.stack([0.75 * angle.cos() * z, 0.65 * angle.sin() * z, z], dim=1)
    return _replaced(splats, means=ring), camera()


def equal_depths() -> tuple[Splats, Camera]:
    """All at one depth: the order is that of the indices."""
    splats = random_splats(120, seed=10, depth=(3.0, 3.0))
    return splats, camera()


def tall_image() -> tuple[Splats, Camera]:
    """An image of several tiles whose sides are not multiples of anything."""
    return random_splats(100, seed=11, size=(0.1, 0.4)), camera(27, 71, pose=turned_pose())


SCENES: tuple[NamedScene, ...] = (
    one_splat,
    crowd,
    needles,
    dust,
    giants,
    wall_in_front,
    opaque,
    around_the_camera,
    over_the_border,
    equal_depths,
    tall_image,
)


def _replaced(splats: Splats, **values: torch.Tensor) -> Splats:
    return Splats(**{**vars(splats), **values})


def _joined(one: Splats, other: Splats) -> Splats:
    both = {name: (value, getattr(other, name)) for name, value in vars(one).items() if value is not None}
    return Splats(**{name: torch.cat(pair) for name, pair in both.items()})

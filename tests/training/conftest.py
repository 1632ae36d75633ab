"""A small made-up capture: coloured blobs photographed from a ring of cameras by the reference rasterizer."""

import math

import pytest
import torch
from photo_views import two_miscoloured

from qsplat.cameras import Camera
from qsplat.gaussians import Gaussians, seed_from_points
from qsplat.io.scene import PointCloud, Scene, View
from qsplat.render import rasterize
from qsplat.training.photo_head import ShownView
from qsplat.training.plus_model import PlusModel


def look_at_origin(center: torch.Tensor) -> torch.Tensor:
    """The pose of a camera at ``center`` that looks at the origin, with z up in the world."""
    forward = -center / center.norm()
    right = torch.linalg.cross(forward, torch.tensor([0.0, 0.0, 1.0]))
    right = right / right.norm()
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, -rotation @ center
    return pose


def blobs(count: int = 60, *, radius: float = 0.3) -> Gaussians:
    generator = torch.Generator().manual_seed(5)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    points = directions * radius * torch.rand(count, 1, generator=generator) ** (1 / 3)
    colors = torch.rand(count, 3, generator=generator)
    return seed_from_points(points, colors, opacity=0.9, sh_degree=1, generator=generator)


def ring(count: int, *, width: int = 48, height: int = 36) -> list[Camera]:
    cameras = []
    for index in range(count):
        angle = 2 * math.pi * index / count
        center = torch.tensor([math.cos(angle), math.sin(angle), 0.3 * (-1) ** index])
        cameras.append(Camera(look_at_origin(center), 60.0, 60.0, width / 2, height / 2, width, height))
    return cameras


@pytest.fixture(scope="session")
def truth() -> Gaussians:
    return blobs()


@pytest.fixture(scope="session")
def capture(truth) -> Scene:
    """12 views of the blobs with alpha, two more held out, and points near the blobs."""
    views = []
    for index, camera in enumerate(ring(14)):
        with torch.no_grad():
            drawn = rasterize(truth.activate(), camera, backend="reference")
        views.append(View(f"view{index}", camera, drawn.color.clamp(0, 1), drawn.alpha))
    generator = torch.Generator().manual_seed(6)
    positions = truth.means + 0.02 * torch.randn(len(truth), 3, generator=generator)
    points = PointCloud(positions, torch.full((len(truth), 3), 0.5))
    return Scene("blobs", tuple(views[2:]), tuple(views[:2]), points, torch.eye(4))


@pytest.fixture(scope="module")
def model(truth: Gaussians) -> PlusModel:
    """Two sets whose colours are off, each in its own way."""
    return two_miscoloured(truth)


@pytest.fixture(scope="module")
def views(model: PlusModel, capture: Scene) -> list[ShownView]:
    """What ``model`` shows of the photos."""
    return model.shown(capture.train)

"""Real captures: sparse points, projected into the undistorted photos, meet their own colours."""

import os
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from qsplat.io.transforms import load_scene, load_view, read_frames

DATA = os.environ.get("QSPLAT_DATA")
pytestmark = pytest.mark.skipif(DATA is None, reason="QSPLAT_DATA does not name a folder with scenes")


def scenes() -> Path:
    return Path(str(DATA)) / "scenes"


def visible(positions, pixels):
    """Indices of points in front of all others of their 16x16 pixel cell, within 5 % of depth."""
    depth = positions[:, 2]
    cells = (pixels[:, 1] // 16).long() * 4096 + (pixels[:, 0] // 16).long()
    nearest = torch.full((4096 * 4096 // 16,), torch.inf).scatter_reduce(0, cells, depth, "amin")
    return depth < 1.05 * nearest[cells]


def agreement(view, points, *, mirror=None, shift=(0.0, 0.0)):
    """Correlation between the colours of visible points and of the pixels they project to."""
    camera = view.camera
    positions = points.positions @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]
    if mirror is not None:
        positions[:, mirror] *= -1
    pixels = positions[:, :2] / positions[:, 2:] * torch.tensor([camera.fx, camera.fy])
    pixels = pixels + torch.tensor([camera.cx, camera.cy])
    size = torch.tensor([camera.width, camera.height])
    inside = (positions[:, 2] > 0.01) & (pixels > 4).all(dim=1) & (pixels < size - 4).all(dim=1)
    positions, pixels, colors = positions[inside], pixels[inside], points.colors[inside]
    keep = visible(positions, pixels)
    grid = ((pixels[keep] + torch.tensor(shift)) / size * 2 - 1)[None, None]
    seen = functional.grid_sample(view.image.permute(2, 0, 1)[None], grid, align_corners=False)[0, :, 0].T
    return torch.corrcoef(torch.stack([seen.flatten(), colors[keep].flatten()]))[0, 1].item()


@pytest.mark.parametrize(("name", "downscale", "bar"), [("plush", 2, 0.38), ("fern", 1, 0.55)])
def test_points_meet_their_colours(name, downscale, bar):
    """Right axes beat mirrored ones by far, and no shift by three pixels, in either direction, does better."""
    frames = read_frames(scenes() / name)
    views = [load_view(frame, downscale=downscale) for frame in frames.train[:: max(1, len(frames.train) // 4)]]

    def mean(**change):
        return sum(agreement(view, frames.points, **change) for view in views) / len(views)

    straight = mean()
    assert straight > bar
    for mirror in (0, 1):
        assert mean(mirror=mirror) < straight / 2
    for shift in ((-3.0, 0.0), (3.0, 0.0), (0.0, -3.0), (0.0, 3.0)):
        assert mean(shift=shift) < straight - 0.05


@pytest.mark.parametrize(
    ("name", "downscale", "train", "test", "size"),
    [("fox", 8, 43, 7, (135, 240)), ("fern", 2, 17, 3, (252, 189)), ("chair", 1, 100, 50, (200, 200))],
)
def test_real_captures_load(name, downscale, train, test, size):
    scene = load_scene(scenes() / name, downscale=downscale)
    assert (len(scene.train), len(scene.test)) == (train, test)
    for view in (*scene.train, *scene.test):
        assert (view.camera.width, view.camera.height) == size
        assert view.image.shape == (size[1], size[0], 3)
        assert (view.alpha is not None) == (name == "chair")

"""Smooth paths through the cameras of a capture."""

import math
import random

import pytest
import torch

from qsplat.camera_paths import smooth_path
from qsplat.cameras import Camera, Window


def ring(count: int, degrees: float = 300.0) -> list[Camera]:
    """Cameras on an arc of radius 2 that look at its centre."""
    cameras = []
    for index in range(count):
        angle = math.radians(degrees * index / (count - 1))
        z = -torch.tensor([math.cos(angle), math.sin(angle), 0.0])
        y = torch.tensor([0.0, 0.0, -1.0])
        pose = torch.eye(4)
        pose[:3, :3] = torch.stack([torch.linalg.cross(y, z), y, z])
        pose[:3, 3] = -pose[:3, :3] @ (-2 * z)
        cameras.append(Camera(pose, 20.0, 21.0, 16.0, 12.0, 32, 24))
    return cameras


def centers(cameras):
    return torch.stack([camera.center for camera in cameras])


def test_the_path_runs_along_the_arc_from_one_end_to_the_other():
    cameras = ring(12)
    path = smooth_path(cameras, 101)
    torch.testing.assert_close(path[0].cam_from_world, cameras[0].cam_from_world, atol=1e-5, rtol=0)
    torch.testing.assert_close(path[-1].cam_from_world, cameras[-1].cam_from_world, atol=1e-5, rtol=0)
    assert (centers(path).norm(dim=1) - 2).abs().max() < 0.03
    for camera in path:
        looks_at_origin = torch.nn.functional.normalize(-camera.center, dim=0) @ camera.cam_from_world[2, :3]
        assert looks_at_origin > 0.999
        assert camera.fx == 20.0
        assert (camera.width, camera.height) == (32, 24)


def test_the_path_passes_every_camera_in_any_order():
    cameras = ring(12)
    shuffled = random.Random(0).sample(cameras, len(cameras))
    path = centers(smooth_path(shuffled, 400))
    for camera in cameras:
        assert (path - camera.center).norm(dim=1).min() < 0.03


def test_steps_are_even_and_poses_are_poses():
    path = smooth_path(ring(9), 80)
    steps = (centers(path)[1:] - centers(path)[:-1]).norm(dim=1)
    assert steps.max() / steps.min() < 1.05
    for camera in path:
        rotation = camera.cam_from_world[:3, :3]
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(3), atol=1e-5, rtol=0)
        assert torch.linalg.det(rotation) > 0.999
        assert camera.cam_from_world.dtype == torch.float32


def test_many_shaking_cameras_make_a_path_that_does_not_shake():
    generator = torch.Generator().manual_seed(0)
    cameras = ring(200)
    for camera in cameras:
        camera.cam_from_world[:3, 3] += 0.01 * torch.randn(3, generator=generator)
    path, there = centers(smooth_path(cameras, 200)), centers(cameras)
    bends = [(line[2:] - 2 * line[1:-1] + line[:-2]).norm(dim=1).mean() for line in (path, there)]
    assert bends[0] < bends[1] / 5


def test_repeated_cameras_and_windows_do_not_disturb():
    cameras = ring(5)
    plain = smooth_path(cameras, 20)
    disturbed = smooth_path([cameras[0].cropped(Window(0, 0, 8, 8)), *cameras], 20)
    assert disturbed[0].window is None
    torch.testing.assert_close(centers(disturbed), centers(plain))


@pytest.mark.parametrize(
    ("cameras", "count", "words"),
    [
        (ring(3), 1, "1 frames: a path has at least 2"),
        ([], 10, "0 cameras"),
        (ring(3)[:1], 10, "all 1 cameras are in one place"),
        (ring(3)[:1] * 4, 10, "all 4 cameras are in one place"),
    ],
)
def test_what_is_no_path_is_refused(cameras, count, words):
    with pytest.raises(ValueError, match=words):
        smooth_path(cameras, count)

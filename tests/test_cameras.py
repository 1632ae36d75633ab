"""Cameras, windows and the rays of pixels."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qsplat.cameras import Camera, Window


def looking(width: int = 8, height: int = 6, *, seed: int = 0) -> Camera:
    """A camera somewhere, turned somehow."""
    generator = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    rotation = rotation * torch.linalg.det(rotation).sign()
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3], pose[:3, 3] = rotation, torch.randn(3, generator=generator, dtype=torch.float64)
    return Camera(pose, 7.0, 9.0, 3.5, 2.75, width, height)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 10))
def test_a_point_on_a_pixels_ray_projects_onto_its_centre(seed, distance):
    camera = looking(seed=seed)
    points = camera.center + distance * camera.ray_directions()
    local = points @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]
    pixels = local @ camera.intrinsics.T
    torch.testing.assert_close(pixels[..., :2] / pixels[..., 2:], camera.pixel_centers())
    assert bool((local[..., 2] > 0).all())
    torch.testing.assert_close(distance * camera.cosines(), local[..., 2])


def test_first_pixel_centre_is_half_a_pixel_from_the_corner():
    torch.testing.assert_close(looking().pixel_centers()[0, 0], torch.tensor([0.5, 0.5], dtype=torch.float64))


def test_window_names_pixels_of_the_whole_image():
    camera = looking()
    part = camera.cropped(Window(2, 1, 3, 4))
    assert torch.equal(part.pixel_centers(), camera.pixel_centers()[1:5, 2:5])
    assert torch.equal(part.ray_directions(), camera.ray_directions()[1:5, 2:5])
    assert part.cropped(None).view == Window(0, 0, 8, 6)


def test_a_window_grows_as_far_as_the_image():
    window = Window(3, 1, 4, 5)
    assert window.grown(2, width=20, height=20) == Window(1, 0, 8, 8)
    assert window.grown(2, width=8, height=7) == Window(1, 0, 7, 7)
    assert window.grown(0, width=8, height=7) == window
    assert window.relative_to(Window(1, 0, 8, 8)) == Window(2, 1, 4, 5)


def test_resizing_keeps_the_directions_of_the_corners():
    camera, small = looking(), looking().resized(4, 2)
    corner = camera.pixel_centers()[:3, :2].mean(dim=(0, 1))
    expected = torch.stack([(corner[0] - camera.cx) / camera.fx, (corner[1] - camera.cy) / camera.fy])
    found = small.pixel_centers()[0, 0]
    found = torch.stack([(found[0] - small.cx) / small.fx, (found[1] - small.cy) / small.fy])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cam_from_world": torch.eye(3)}, "shape (3, 3): a pose is a 4x4 matrix"),
        ({"width": 0}, "image size 0x6"),
        ({"fx": 0.0}, "fx=0.0 fy=9.0 must be positive"),
        ({"cy": float("nan")}, "cy=nan must be finite"),
        ({"window": Window(5, 0, 4, 2)}, "does not lie inside the 8x6 image"),
        ({"window": Window(0, 0, 0, 2)}, "does not lie inside"),
    ],
)
def test_impossible_camera_is_refused_with_the_value(wrong, message):
    camera = object.__new__(Camera)
    for name, value in {**vars(looking()), **wrong}.items():
        object.__setattr__(camera, name, value)
    with pytest.raises(ValueError, match=re.escape(message)):
        Camera.__post_init__(camera)  # as outside the tests, where annotations are not executed

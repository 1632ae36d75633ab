"""Reprojection in a scene whose depth is known exactly: a slanted plane, cast by rays that know nothing of it."""

import pytest
import torch

from qsplat.cameras import Camera, Window
from qsplat.reprojection import reproject, sample, world_points

NORMAL, OFFSET = torch.tensor([0.3, -0.2, 1.0], dtype=torch.float64), 4.0


def looking(x: float, turn: float) -> Camera:
    """A camera at x that is turned about y and rolled a little; its centre is not that of the image."""
    angle = torch.tensor([turn, 0.1], dtype=torch.float64)
    (c, roll_c), (s, roll_s) = angle.cos(), angle.sin()
    about_y = torch.tensor([[c, 0, -s], [0, 1, 0], [s, 0, c]], dtype=torch.float64)
    about_z = torch.tensor([[roll_c, -roll_s, 0], [roll_s, roll_c, 0], [0, 0, 1]], dtype=torch.float64)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = about_z @ about_y
    pose[:3, 3] = -pose[:3, :3] @ torch.tensor([x, 0.1, 0.0], dtype=torch.float64)
    return Camera(pose, 50.0, 55.0, 31.0, 22.5, 64, 48)


def cast(camera: Camera):
    """Points of the plane behind the pixel centres, and their depth."""
    rays = camera.ray_directions()
    length = (OFFSET - camera.center @ NORMAL) / (rays @ NORMAL)
    points = camera.center + length[..., None] * rays
    return points, (points - camera.center) @ camera.cam_from_world[2, :3]


def projected(points, camera):
    """(x, y) by the matrix K."""
    local = torch.cat([points, torch.ones_like(points[..., :1])], dim=-1) @ camera.cam_from_world.T
    pixels = local[..., :3] @ camera.intrinsics.T
    return pixels[..., :2] / pixels[..., 2:]


def test_a_visible_pixel_lands_within_a_tenth_of_a_pixel():
    here, there = looking(0.0, 0.0), looking(0.4, -0.05)
    points, depth = cast(here)
    landed = reproject(world_points(here, depth), there)
    assert (landed.pixels - here.pixel_centers()).norm(dim=-1).median() > 2
    assert (landed.pixels - projected(points, there)).norm(dim=-1).max() < 1e-6
    # What the other image shows there is the same point of the plane: it holds the points as its colours.
    shown = sample(cast(there)[0], landed.pixels)
    away = (projected(shown, there) - landed.pixels).norm(dim=-1)[landed.inside]
    border = 1.0
    size = landed.pixels.new_tensor([there.width, there.height])
    interior = ((landed.pixels > border) & (landed.pixels < size - border)).all(-1)[landed.inside]
    assert interior.sum() > 1000
    assert away[interior].max() < 0.1


def test_a_camera_sees_its_own_points_at_the_pixel_centres():
    camera = looking(0.2, 0.3)
    points, depth = cast(camera)
    torch.testing.assert_close(world_points(camera, depth), points)
    seen = reproject(points, camera)
    torch.testing.assert_close(seen.pixels, camera.pixel_centers())
    torch.testing.assert_close(seen.depth, depth)
    assert bool(seen.inside.all())
    torch.testing.assert_close(seen.pixels[0, 0], torch.tensor([0.5, 0.5], dtype=torch.float64))


def test_a_window_reprojects_as_its_part_of_the_whole():
    here, there, part = looking(0.0, 0.0), looking(0.4, -0.05), Window(5, 7, 20, 9)
    _, depth = cast(here)
    whole = reproject(world_points(here, depth), there)
    cut = reproject(world_points(here.cropped(part), depth[7:16, 5:25]), there.cropped(part))
    torch.testing.assert_close(cut.pixels, whole.pixels[7:16, 5:25])
    assert torch.equal(cut.inside, whole.inside[7:16, 5:25])


def test_points_behind_the_camera_are_not_inside():
    camera = looking(0.0, 0.0)
    axis = camera.cam_from_world[2, :3]
    points = torch.stack([camera.center + 2 * axis, camera.center - 2 * axis, camera.center])[None]
    seen = reproject(points, camera)
    assert seen.inside.tolist() == [[True, False, False]]
    assert bool(torch.isfinite(seen.pixels).all())
    torch.testing.assert_close(seen.depth, torch.tensor([[2.0, -2.0, 0.0]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("pixel", "inside"),
    [
        ((0.01, 24.0), True),
        ((-0.01, 24.0), False),
        ((63.99, 24.0), True),
        ((64.01, 24.0), False),
        ((9.0, 48.01), False),
    ],
)
def test_the_image_ends_at_the_outer_edges_of_its_pixels(pixel, inside):
    camera = looking(0.0, 0.0)
    x, y = (pixel[0] - camera.cx) / camera.fx, (pixel[1] - camera.cy) / camera.fy
    local = 3 * torch.tensor([x, y, 1.0], dtype=torch.float64)
    point = camera.center + local @ camera.cam_from_world[:3, :3]
    assert reproject(point[None, None], camera).inside.item() is inside


def test_an_image_is_looked_up_at_its_pixel_centres_and_between_them():
    image = torch.rand(4, 6, 3, generator=torch.Generator().manual_seed(0))
    camera = Camera(torch.eye(4), 1.0, 1.0, 0.0, 0.0, 6, 4)
    torch.testing.assert_close(sample(image, camera.pixel_centers()), image)
    between = sample(image, torch.tensor([[[2.0, 1.5], [2.5, 2.0], [3.25, 1.5]]]))
    torch.testing.assert_close(between[0, 0], (image[1, 1] + image[1, 2]) / 2)
    torch.testing.assert_close(between[0, 1], (image[1, 2] + image[2, 2]) / 2)
    torch.testing.assert_close(between[0, 2], 0.25 * image[1, 2] + 0.75 * image[1, 3])


def test_beyond_the_border_an_image_goes_on_as_at_the_border():
    image = torch.rand(4, 6, 3, generator=torch.Generator().manual_seed(0))
    beyond = sample(image, torch.tensor([[[-5.0, 1.5], [0.2, 1.5], [9.0, 1.5], [2.5, 99.0]]]))[0]
    torch.testing.assert_close(beyond, torch.stack([image[1, 0], image[1, 0], image[1, 5], image[3, 2]]))

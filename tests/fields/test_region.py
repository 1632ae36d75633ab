"""Regions: coordinates, the ends of rays, and where scenes lie."""

import math

import pytest
import torch

from qsplat.cameras import Camera
from qsplat.fields.rays import CameraTable, Rays, camera_rays, rays_through
from qsplat.fields.region import FARTHEST, NEAREST, Box, Region, overlap, region_of

CENTER = torch.tensor([1.0, 2.0, 3.0])
BOX = Region(CENTER, 2.0, 0.1, 50.0, bounded=True)
EVERYTHING = Region(CENTER, 2.0, 0.1, 200.0, bounded=False)


def looking_at(target: torch.Tensor, center: torch.Tensor) -> Camera:
    forward = torch.nn.functional.normalize(target - center, dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, torch.tensor([0.1, 0.2, 1.0])), dim=0)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, -rotation @ center
    return Camera(pose, 50.0, 50.0, 20.0, 15.0, 40, 30)


def test_a_box_has_linear_coordinates_from_minus_1_to_1():
    corners = CENTER + 2.0 * torch.tensor([[-1.0, -1.0, -1.0], [1.0, 0.0, 0.5]])
    torch.testing.assert_close(BOX.coordinates(corners), torch.tensor([[-1.0, -1.0, -1.0], [1.0, 0.0, 0.5]]))


def test_contraction_is_linear_inside_and_maps_infinity_to_length_1():
    direction = torch.nn.functional.normalize(torch.tensor([1.0, -2.0, 0.5]), dim=0)
    for length, expected in ((0.0, 0.0), (1.0, 0.25), (2.0, 0.5), (4.0, 0.75), (20.0, 0.95), (2e6, 1.0)):
        found = EVERYTHING.coordinates(CENTER + length * direction)
        torch.testing.assert_close(found, expected * direction, atol=1e-5, rtol=0)


def test_rays_enter_and_leave_a_box_where_they_meet_its_sides():
    origins = CENTER + torch.tensor([[-10.0, 0.5, 0.0], [0.0, 0.0, 0.0], [-10.0, 0.0, 0.0], [-10.0, 0.0, 0.0]])
    directions = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]])
    span = BOX.span(Rays(origins, directions))
    torch.testing.assert_close(span[:2], torch.tensor([[8.0, 12.0], [0.1, 2.0]]))
    assert torch.equal(span[2:, 0], span[2:, 1])


def test_slanted_rays_meet_a_box_in_points_on_its_surface():
    origins = CENTER + 6 * torch.nn.functional.normalize(torch.randn(50, 3), dim=-1)
    rays = Rays(origins, torch.nn.functional.normalize(CENTER + torch.rand(50, 3) - origins, dim=-1))
    ends = BOX.coordinates(rays.at(BOX.span(rays)))
    torch.testing.assert_close(ends.abs().amax(dim=-1), torch.ones(50, 2), atol=1e-4, rtol=0)


@pytest.mark.parametrize("region", [BOX, EVERYTHING])
def test_shares_of_the_way_ascend_from_the_near_end_to_the_far_end(region):
    span = torch.tensor([[0.5, 9.0], [0.1, 150.0]])
    distances = region.distances(torch.linspace(0, 1, 65).expand(2, -1), span)
    torch.testing.assert_close(distances[:, [0, -1]], span, rtol=1e-4, atol=0)
    assert bool((distances[:, 1:] > distances[:, :-1]).all())


def test_half_of_the_samples_of_an_endless_ray_lie_within_a_radius():
    distances = Region(CENTER, 2.0, 0.0, 1e6, bounded=False).distances(
        torch.linspace(0, 1, 1001)[None], torch.tensor([[0.0, 1e6]])
    )
    assert int((distances < 2.0).sum()) == pytest.approx(500, abs=2)


def test_the_box_around_an_object_holds_what_the_cameras_see_of_it():
    target = torch.tensor([0.3, -0.2, 0.1])
    cameras = [looking_at(target, target + 3 * torch.tensor([math.cos(a), math.sin(a), 0.0])) for a in (0.0, 2.0, 4.0)]
    region = region_of(cameras, target, bounded=True)
    assert region.bounded
    assert region.radius == pytest.approx(1.1 * 3 * 0.4, rel=1e-4)
    for camera in cameras:
        span = region.span(camera_rays(camera))
        assert bool((span[:, 1] > span[:, 0]).all())
        assert span[:, 1].max() < region.far


def test_an_endless_region_begins_before_the_nearest_point():
    target = torch.tensor([0.0, 0.0, 5.0])
    cameras = [looking_at(target, torch.tensor([x, 0.0, 0.0])) for x in (-0.5, 0.0, 0.5)]
    points = torch.tensor([[0.0, 0.0, 2.0]]) + 0.01 * torch.randn(2000, 3)
    behind = torch.tensor([[0.0, 0.0, -1.0]]).expand(500, 3)
    plain = region_of(cameras, target, bounded=False)
    informed = region_of(cameras, target, bounded=False, points=torch.cat([behind, points]))
    assert plain.near == pytest.approx(NEAREST * plain.radius)
    assert informed.near == pytest.approx(1.0, rel=0.05)
    assert plain.radius == pytest.approx(math.sqrt(25.25), rel=1e-3)
    assert informed.far == pytest.approx(FARTHEST * informed.radius)
    assert region_of(cameras, target, bounded=False, points=behind) == plain


def test_rays_through_pixels_are_those_of_the_camera():
    cameras = [looking_at(CENTER, torch.tensor([x, 0.0, 0.0])) for x in (-1.0, 0.5, 3.0)]
    table = CameraTable.of(cameras, "cpu")
    for index, camera in enumerate(cameras):
        expected = camera_rays(camera)
        pixels = camera.pixel_centers().reshape(-1, 2)
        rays = rays_through(pixels, table, torch.full([len(pixels)], index))
        torch.testing.assert_close(rays.origins, expected.origins)
        torch.testing.assert_close(rays.directions, expected.directions)


@pytest.mark.parametrize(
    "values", [(0.0, 0.1, 1.0), (math.inf, 0.1, 1.0), (1.0, 2.0, 1.0), (1.0, -0.1, 1.0), (1.0, 0.1, math.inf)]
)
def test_regions_that_cannot_be_are_refused(values):
    with pytest.raises(ValueError, match="0 <= near < far"):
        Region(CENTER, *values, bounded=True)


def turned_box() -> Box:
    """Half sides 1, 2 and 0.5, turned and moved."""
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2))).Q
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, torch.tensor([0.2, -0.1, 0.4])
    return Box(pose, torch.tensor([1.0, 2.0, 0.5]))


def test_a_ray_is_inside_a_box_exactly_between_its_ends():
    generator = torch.Generator().manual_seed(0)
    box, count = turned_box(), 200
    rays = Rays(
        2 * torch.randn(count, 3, generator=generator),
        torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1),
    )
    span = box.span(rays)
    distances = torch.linspace(-8, 8, 400).expand(count, -1)
    local = rays.at(distances) @ box.box_from_world[:3, :3].T + box.box_from_world[:3, 3]
    inside = (local.abs() < box.half).all(dim=-1)
    between = (distances > span[:, :1]) & (distances < span[:, 1:])
    assert (inside != between).sum() <= 2
    assert 0.05 < inside.any(dim=1).float().mean() < 0.95


def test_the_overlap_of_spans_is_empty_where_they_are_apart():
    first = torch.tensor([[1.0, 3.0], [1.0, 3.0], [4.0, 5.0]])
    other = torch.tensor([[2.0, 9.0], [5.0, 6.0], [3.0, 2.0]])
    assert overlap(first, other).tolist() == [[2.0, 3.0], [5.0, 5.0], [4.0, 4.0]]

"""What a head is told about a pixel."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_images import camera, windows

from qsplat.cameras import Camera, Window
from qsplat.qnn import QNN, QnnConfig, Queries, part_queries, pixel_queries
from qsplat.qnn.queries import LocationQueries, PlacedQueries, RayQueries, queries_of
from qsplat.reprojection import reproject

KINDS = ["pixels", "locations", "rays"]


def placed(kind, width: int, height: int) -> Queries:
    """Queries that know where the scene is."""
    queries = queries_of(kind)
    if isinstance(queries, PlacedQueries):
        points = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
        queries.place([camera(width, height), Camera(torch.eye(4), 1.0, 1.0, 0.5, 0.5, 1, 1)], points)
    return queries


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(1, 60), st.integers(1, 60), st.sampled_from(KINDS))
def test_queries_of_a_crop_are_the_crop_of_the_queries(data, width, height, kind):
    part = data.draw(windows(width, height))
    queries = placed(kind, width, height)
    depth = torch.rand(height, width) + 1
    whole = queries(camera(width, height), depth)
    assert whole.shape == (height, width, queries.channels)
    crop = part_queries(queries, camera(width, height), depth)(part)
    inside = whole[part.y : part.y + part.height, part.x : part.x + part.width]
    torch.testing.assert_close(crop, inside, rtol=1e-6, atol=1e-6)
    if kind == "pixels":
        assert torch.equal(crop, inside)


@pytest.mark.parametrize(("width", "height"), [(8, 6), (64, 64), (3, 1)])
def test_queries_span_the_image_at_any_resolution(width, height):
    queries = pixel_queries(camera(width, height))
    assert queries.shape == (height, width, 2)
    torch.testing.assert_close(queries[0, 0], torch.tensor([1 / width - 1, 1 / height - 1]))
    torch.testing.assert_close(queries[-1, -1], torch.tensor([1 - 1 / width, 1 - 1 / height]))
    halved = pixel_queries(camera(2 * width, 2 * height).resized(width, height))
    torch.testing.assert_close(halved, queries)


@pytest.mark.parametrize("kind", KINDS)
def test_twice_the_resolution_has_the_same_queries_in_the_same_places(kind):
    queries, coarse = placed(kind, 40, 30), camera(40, 30)
    fine = queries(coarse.resized(80, 60), torch.full((60, 80), 2.0))
    between = fine.reshape(30, 2, 40, 2, queries.channels).mean(dim=(1, 3))
    torch.testing.assert_close(queries(coarse, torch.full((30, 40), 2.0)), between, rtol=0, atol=2e-3)


def test_locations_are_those_of_the_surface():
    queries, eye, depth = placed("locations", 20, 15), camera(20, 15), torch.rand(15, 20) + 0.5
    assert isinstance(queries, LocationQueries)
    queries.radius.fill_(100.0)
    points = queries(eye, depth) * queries.radius + queries.center
    seen = reproject(points, eye)
    torch.testing.assert_close(seen.depth, depth, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen.pixels, eye.pixel_centers(), rtol=1e-4, atol=1e-3)


def test_locations_lie_in_the_box_of_the_scene_and_pass_no_gradient_to_the_depth():
    queries, depth = placed("locations", 20, 15), torch.rand(15, 20, requires_grad=True)
    near, far = queries(camera(20, 15), depth), queries(camera(20, 15), depth + 1000)
    assert not near.requires_grad
    assert near.abs().max() <= 1
    assert far.abs().max() == 1


def test_the_box_holds_the_scene_but_for_what_strayed():
    queries = LocationQueries()
    points = torch.cat([torch.rand(99, 3) - 0.5, torch.full((1, 3), 1e6)])
    queries.place([], points)
    assert 0.3 < float(queries.radius) < 1.0
    assert queries.center.abs().max() < 0.3


def test_rays_have_unit_directions_and_normalised_origins():
    queries, first, second = RayQueries(), camera(20, 15), Camera(torch.eye(4), 9.0, 9.0, 4.0, 3.0, 8, 6)
    queries.place([first, second], torch.zeros(1, 3))
    rays = [queries(eye, None) for eye in (first, second)]
    for ray, eye in zip(rays, (first, second), strict=True):
        torch.testing.assert_close(ray[..., :3], eye.ray_directions())
        torch.testing.assert_close(
            ray[..., 3:] * queries.radius + queries.center, eye.center.expand(ray[..., 3:].shape)
        )
        assert ray[..., 3:].abs().max() <= 1.0001


@pytest.mark.parametrize("kind", KINDS)
def test_queries_pass_no_gradient_to_the_pose(kind):
    pose = camera(8, 6).cam_from_world.clone().requires_grad_()
    eye = Camera(pose, 50.0, 50.0, 4.0, 3.0, 8, 6)
    assert not placed(kind, 8, 6)(eye, torch.ones(6, 8)).requires_grad


@pytest.mark.parametrize("kind", ["locations", "rays"])
def test_where_the_scene_is_belongs_to_the_heads_state(kind):
    head, other = QNN(QnnConfig(query=kind)), QNN(QnnConfig(query=kind))
    assert isinstance(head.queries, PlacedQueries)
    head.queries.place([camera(8, 6), Camera(torch.eye(4), 9.0, 9.0, 4.0, 3.0, 8, 6)], torch.rand(9, 3) + 5)
    other.load_state_dict(head.state_dict())
    assert isinstance(other.queries, LocationQueries | RayQueries)
    depth = torch.ones(6, 8)
    assert torch.equal(other.queries(camera(8, 6), depth), head.queries(camera(8, 6), depth))


def test_a_part_of_a_window_is_counted_from_the_window():
    eye = camera(40, 30)
    queries = queries_of("pixels")
    part = part_queries(queries, eye.cropped(Window(10, 5, 20, 20)))(Window(2, 3, 4, 5))
    assert torch.equal(part, pixel_queries(eye)[8:13, 12:16])

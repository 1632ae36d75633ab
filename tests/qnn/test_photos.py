"""What photos say of a view, against a scene of which all is known."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_images import windows
from two_planes import (
    BACK,
    FEW,
    FRONT,
    ROW,
    SCALE,
    away_from_edges,
    depth_of,
    eye,
    flat,
    own_pixels,
    painted,
    residual,
    seen_by,
    source,
    surface,
    told,
)

from qsplat.cameras import Camera, Window
from qsplat.qnn import part_queries, pixel_queries
from qsplat.qnn.photos import PhotoConfig, PhotoQueries


@pytest.mark.parametrize(
    "photo", [eye(0.4), eye(-0.3, 0.2, -0.5), eye(0.2, turn=-0.15), eye(0.5, 0.1, 0.3, turn=-0.2, width=120, height=70)]
)
def test_a_visible_pixel_lands_where_the_photo_shows_it_and_a_hidden_one_is_masked(photo):
    camera = eye()
    points = surface(camera).points
    pixels, visible = seen_by(photo, points)
    channels = told(PhotoQueries([source(photo, own_pixels)], PhotoConfig(tolerance=0.05)), camera)
    clear = visible & away_from_edges(photo, pixels, 1)
    assert 0.4 < clear.double().mean() < 1
    assert channels[clear][:, 3].min() > 0.7
    found = residual(channels)[..., :2] * photo.width
    assert (found[clear] - pixels[clear]).norm(dim=-1).max() < 0.1
    on_front = residual(channels)[..., 2]
    torch.testing.assert_close(on_front[clear].double(), surface(camera).front[clear].double(), rtol=0, atol=1e-3)

    behind = (pixels > 0).all(-1) & (pixels < pixels.new_tensor([photo.width, photo.height])).all(-1) & ~visible
    hidden = behind & away_from_edges(photo, pixels, 1)
    assert hidden.sum() > 40
    assert channels[hidden][:, :6].abs().max() < 1e-6
    outside = ~visible & ~behind
    assert bool((channels[outside][:, :6] == 0).all())


def test_all_photos_together_say_what_is_painted_on_the_surface():
    queries, camera = PhotoQueries([source(one) for one in ROW]), eye(0.1, 0.05, 0.1, turn=0.03)
    channels = told(queries, camera)
    points = surface(camera).points
    clear = torch.zeros(camera.height, camera.width, dtype=torch.bool)
    unclear = clear.clone()
    for photo in ROW:
        pixels, visible = seen_by(photo, points)
        there = away_from_edges(photo, pixels, 1)
        clear |= visible & there
        unclear |= ~there & (pixels > -1).all(-1) & (pixels < pixels.new_tensor([81.0, 61.0])).all(-1)
    assert (clear & ~unclear).double().mean() > 0.5
    here = clear & ~unclear & (channels[..., 3] > 0.5)
    assert here.double().mean() > 0.5
    torch.testing.assert_close(residual(channels)[here].double(), painted(points)[here], rtol=0, atol=2e-3)
    assert channels[here][:, 5].max() < 2e-3 * SCALE, "photos that agree have no spread"


def test_coordinates_are_those_of_the_pixels():
    camera = eye()
    assert torch.equal(told(PhotoQueries([source(one) for one in ROW]), camera)[..., 6:], pixel_queries(camera))


def test_weights_follow_the_angle_and_the_share_of_the_view():
    """Three photos at known angles from the middle of the view, of which two are chosen."""
    sources = [flat(eye(0.2), 0.3), flat(eye(-0.6), -0.1), flat(eye(1.4), 0.0)]
    queries, camera = PhotoQueries(sources, PhotoConfig(count=2)), eye(width=81, height=61)
    camera = replace(camera, cx=40.5, cy=30.5)
    photos, shares = queries.chosen(camera)
    assert photos.tolist() == [0, 1]
    assert 1 > shares[0] > shares[1] > 0
    near, far = (math.atan(0.2 / FRONT), math.atan(0.6 / FRONT))
    unit = float(queries._neighbours)
    assert 0.8 * math.atan(0.8 / BACK) < unit < 1.2 * math.atan(0.8 / FRONT)
    weights = [float(share) * math.exp(-angle / unit) for share, angle in zip(shares, (near, far), strict=True)]
    total = sum(weights)
    mean = (0.3 * weights[0] - 0.1 * weights[1]) / total
    spread = math.sqrt((0.09 * weights[0] + 0.01 * weights[1]) / total - mean**2)
    angle = (near * weights[0] + far * weights[1]) / total / unit
    confidence = total / (total + 0.1)
    expected = [mean * SCALE, mean * SCALE, mean * SCALE, 1, angle, spread * SCALE]
    found = told(queries, camera)[30, 40, :6]
    torch.testing.assert_close(found, torch.tensor(expected) * confidence, rtol=2e-3, atol=2e-3)


def test_angles_are_counted_in_those_between_neighbours_whatever_strays():
    camera = eye(0.05)
    close = [flat(eye(x), 0.1) for x in (0.0, 0.1, 0.2)]
    near, strayed = told(PhotoQueries(close), camera), told(PhotoQueries([*close, flat(eye(1.5), 0.1)]), camera)
    assert (near - strayed).abs().mean() < 0.05
    alone = told(PhotoQueries(close[:1]), camera)
    assert (alone[..., 4] / alone[..., 3].clamp_min(1e-3)).median() < 0.01, "one photo has no neighbours: half a turn"


def test_photos_that_show_most_of_the_view_are_chosen_first():
    queries = PhotoQueries([source(one) for one in ROW], PhotoConfig(count=3))
    assert queries.chosen(ROW[4])[0].tolist()[0] == 4
    assert sorted(queries.chosen(ROW[4])[0].tolist()) == [3, 4, 5]
    assert sorted(queries.without(4).chosen(ROW[4])[0].tolist()) in ([2, 3, 5], [3, 5, 6])


def test_what_is_hidden_from_a_photo_does_not_speak_for_it():
    """A photo of the other side of a wall is as near as any, and shows nothing of the view."""
    behind = flat(eye(0.05), 0.5)
    behind = replace(behind, depth=torch.full_like(behind.depth, 0.5))
    queries = PhotoQueries([behind, *(source(one) for one in ROW)], PhotoConfig(count=4))
    assert 0 not in queries.chosen(eye())[0].tolist()


@settings(max_examples=25, deadline=None)
@given(st.data(), st.integers(1, 50), st.integers(1, 50))
def test_queries_of_a_crop_are_the_crop_of_the_queries(data, width, height):
    part = data.draw(windows(width, height))
    queries = FEW.without(data.draw(st.sampled_from([None, 0, 1])))
    camera = eye(0.1, turn=0.02, width=width, height=height)
    whole, crop = told(queries, camera), part_queries(queries, camera, depth_of(camera))(part)
    assert whole.shape == (height, width, PhotoQueries.channels)
    inside = whole[part.y : part.y + part.height, part.x : part.x + part.width]
    torch.testing.assert_close(crop, inside, rtol=1e-4, atol=1e-4)


def test_a_crop_of_a_window_is_where_it_is_in_the_whole_image():
    camera = eye(0.1)
    whole, cut = told(FEW, camera), camera.cropped(Window(20, 10, 50, 40))
    part = part_queries(FEW, cut, depth_of(camera)[10:50, 20:70])(Window(5, 6, 30, 20))
    torch.testing.assert_close(part, whole[16:36, 25:55], rtol=1e-4, atol=1e-4)


def test_other_cameras_are_not_told_what_the_last_one_was():
    """The choice of photos is kept from one crop to the next; pose, focal length and size all tell views apart."""
    queries = PhotoQueries([source(one) for one in ROW], PhotoConfig(count=2))
    wider, closer = replace(ROW[0], width=400), replace(ROW[7], fx=400.0, fy=400.0)
    for camera in (ROW[0], wider, ROW[7], closer, eye(turn=0.3), eye(turn=0.3, width=20)):
        fresh = PhotoQueries([source(one) for one in ROW], PhotoConfig(count=2))
        assert torch.equal(told(queries, camera), told(fresh, camera))
    pose = ROW[1].cam_from_world.clone()
    moving = replace(ROW[1], cam_from_world=pose)
    before = told(queries, moving)
    pose.copy_(ROW[6].cam_from_world)
    assert queries.chosen(moving)[0].tolist() == queries.chosen(ROW[6])[0].tolist()
    assert not torch.equal(told(queries, moving), before)


@pytest.mark.parametrize("order", [[8, 7, 6, 5, 4, 3, 2, 1, 0], [3, 1, 4, 0, 5, 2, 6, 8, 7]])
def test_the_order_of_the_photos_does_not_matter(order):
    sources = [source(one) for one in ROW]
    first = PhotoQueries(sources, PhotoConfig(count=4))
    second = PhotoQueries([sources[index] for index in order], PhotoConfig(count=4))
    camera = eye(0.13, 0.04)
    assert sorted(first.chosen(camera)[0].tolist()) == sorted(order[one] for one in second.chosen(camera)[0].tolist())
    one, other = told(first, camera), told(second, camera)
    # The spread is the root of a difference of sums, which may round to just above 0: it is compared before the root.
    for queries in (one, other):
        queries[..., 5].square_()
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def path(steps: int, start: float = -0.3, end: float = 0.3) -> list[Camera]:
    return [eye(start + (end - start) * index / steps, width=40, height=30) for index in range(steps + 1)]


def moves(queries: PhotoQueries, cameras: Sequence[Camera]) -> list[float]:
    """Mean absolute change of the channels from each camera to the next."""
    seen = [told(queries, camera)[..., :6] for camera in cameras]
    return [float((after - before).abs().mean()) for before, after in pairwise(seen)]


def test_channels_change_little_where_another_photo_is_chosen():
    """Half the step makes the largest change much smaller, though photos that contradict each other come and go. Where
    they come and go at full weight it does not."""
    sources = [flat(one, 0.2 * (-1) ** index) for index, one in enumerate(ROW)]
    queries = PhotoQueries(sources, PhotoConfig(count=3))
    assert len({tuple(sorted(queries.chosen(camera)[0].tolist())) for camera in path(48)}) > 2
    coarse, fine = max(moves(queries, path(24))), max(moves(queries, path(48)))
    assert fine < 0.75 * coarse
    queries = PhotoQueries(sources, PhotoConfig(count=3, fade=False))
    coarse, abrupt = max(moves(queries, path(24))), max(moves(queries, path(48)))
    assert abrupt > 0.9 * coarse
    assert abrupt > 4 * fine


def test_queries_pass_no_gradient():
    camera = eye()
    depth = depth_of(camera).requires_grad_()
    assert not FEW(camera, depth).requires_grad

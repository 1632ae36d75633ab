"""Photo queries where there is little to ask, or much that is odd."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from two_planes import (
    FEW,
    ROW,
    SCALE,
    away_from_edges,
    depth_of,
    eye,
    flat,
    painted,
    residual,
    seen_by,
    source,
    surface,
    told,
)

from qsplat.cameras import Camera
from qsplat.qnn import pixel_queries
from qsplat.qnn.photos import PhotoConfig, PhotoQueries, Source


def test_fewer_photos_than_asked_for_are_all_taken_at_full_weight():
    queries = PhotoQueries([source(one) for one in ROW[3:6]], PhotoConfig(count=8))
    photos, shares = queries.chosen(ROW[4])
    assert sorted(photos.tolist()) == [0, 1, 2]
    assert bool((shares == 1).all())
    assert len(queries.without(1).chosen(ROW[4])[0]) == 2


def test_without_photos_there_are_coordinates_alone():
    camera = eye()
    for queries in (PhotoQueries([]), PhotoQueries([]).without(0), PhotoQueries([source(camera)]).without(0)):
        channels = told(queries, camera)
        assert bool((channels[..., :6] == 0).all())
        assert torch.equal(channels[..., 6:], pixel_queries(camera))
        assert [len(one) for one in queries.chosen(camera)] == [0, 0]


def test_photos_may_be_of_different_sizes():
    cameras = [ROW[2], ROW[3].resized(160, 120), ROW[5].resized(57, 41), ROW[6].resized(40, 60)]
    queries, camera = PhotoQueries([source(one) for one in cameras]), eye(0.0, 0.05)
    channels, points = told(queries, camera), surface(camera).points
    error = (residual(channels) - painted(points)).abs().amax(-1)
    assert error[channels[..., 3] > 0.6].median() < 1e-3
    assert (channels[..., 3] > 0.6).double().mean() > 0.5


@pytest.mark.parametrize("turn", [math.pi, math.pi / 2])
def test_a_camera_that_looks_away_is_told_nothing(turn):
    queries, camera = PhotoQueries([source(one) for one in ROW]), eye(turn=turn)
    channels = queries(camera, torch.full((60, 80), 3.0))
    assert len(queries.chosen(camera)[0]) == 0
    assert bool((channels[..., :6] == 0).all())


def test_pixels_without_a_surface_are_told_nothing():
    """Not even what a photo shows of the place where the camera is."""
    camera, from_behind = eye(), flat(eye(z=-1), 0.5)
    from_behind = replace(from_behind, depth=torch.ones_like(from_behind.depth))
    queries = PhotoQueries([from_behind, *(source(one) for one in ROW)], PhotoConfig(count=10))
    depth = depth_of(camera)
    covered = queries(camera, depth)
    depth[:30] = 0
    channels = queries(camera, depth)
    assert 0 in queries.chosen(camera)[0].tolist()
    assert bool((channels[:30, :, :6] == 0).all())
    assert torch.equal(channels[30:], covered[30:])


def test_what_the_gaussians_do_not_cover_in_a_photo_is_no_surface():
    camera, photo = eye(), source(eye(0.1))
    alpha = photo.alpha.clone()
    alpha[:, 40:] = 0.4
    channels = told(PhotoQueries([replace(photo, alpha=alpha)]), camera)
    pixels, visible = seen_by(photo.camera, surface(camera).points)
    assert channels[visible & (pixels[..., 0] > 41)][:, :6].abs().max() < 1e-6
    assert channels[visible & (pixels[..., 0] < 39) & away_from_edges(photo.camera, pixels, 1)][:, 3].min() > 0.5


def test_photos_that_no_gaussian_covers_say_nothing():
    camera = eye()
    bare = [replace(source(one), alpha=torch.zeros(60, 80)) for one in ROW[:2]]
    channels = told(PhotoQueries(bare), camera)
    assert bool((channels[..., :6] == 0).all())
    one_bare = told(PhotoQueries([*bare, source(ROW[4])]), camera)
    assert one_bare[..., 3].max() > 0.5
    assert bool(one_bare.isfinite().all())


def test_photos_from_one_place_are_as_good_as_one():
    alone, twins = PhotoQueries([source(ROW[4])]), PhotoQueries([source(ROW[4]), source(ROW[4])])
    channels = told(twins, ROW[4])
    assert bool(channels.isfinite().all())
    here = told(alone, ROW[4])[..., 3] > 0.5
    torch.testing.assert_close(residual(channels)[here], residual(told(alone, ROW[4]))[here], rtol=0, atol=1e-4)
    other = told(twins, eye(0.3))
    assert bool(other.isfinite().all())


@settings(max_examples=40, deadline=None)
@given(
    st.floats(-3, 3),
    st.floats(-3, 3),
    st.floats(-3, 8),
    st.floats(-math.pi, math.pi),
    st.sampled_from([0.0, 1e-6, 3, 1e9]),
)
def test_wherever_a_camera_is_the_channels_are_finite_and_bounded(x, y, z, turn, depth):
    camera = eye(x, y, z, turn=turn, width=12, height=9)
    channels = FEW(camera, torch.full((9, 12), float(depth)))
    assert bool(channels.isfinite().all())
    assert channels[..., 3].min() >= 0
    assert channels[..., 3].max() < 1
    assert channels[..., :3].abs().max() <= 0.1 * SCALE * 1.01


@pytest.mark.parametrize("far", [7e4, 1e8])
def test_surfaces_too_far_for_half_precision_are_finite(far):
    """The largest number that half precision has is 65504. Of a photo's own camera every pixel lands on a pixel, and
    its neighbours count with a weight of exactly 0, which is no number where they are infinite."""
    camera = Camera(torch.eye(4), 64.0, 64.0, 32.0, 32.0, 64, 64)
    depth = torch.full((64, 64), 2.0)
    depth[:, 32:] = far
    photo = Source(camera, torch.full((64, 64, 3), 0.2), depth, torch.ones(64, 64))
    channels = PhotoQueries([photo, photo])(camera, depth)
    assert bool(channels.isfinite().all())
    assert channels[:, :32, 3].min() > 0.5
    if far < 1e5:
        assert channels[:, 32:, 3].min() > 0.5, "what is little too far is found nevertheless"


def test_surfaces_that_half_precision_can_tell_are_found_at_any_scale():
    camera = eye()
    expected = told(PhotoQueries([source(one) for one in ROW]), camera)
    for scale in (1e-2, 1e3):
        sources = [source(one) for one in ROW]
        grown = [replace(one, camera=scaled(one.camera, scale), depth=one.depth * scale) for one in sources]
        channels = PhotoQueries(grown)(scaled(camera, scale), depth_of(camera) * scale)
        assert (channels - expected).abs().median() < 1e-3


def scaled(camera: Camera, scale: float) -> Camera:
    """The camera of a scene that is ``scale`` times larger."""
    pose = camera.cam_from_world.clone()
    pose[:3, 3] *= scale
    return replace(camera, cam_from_world=pose)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"count": 0}, "count=0"),
        ({"tolerance": 0.0}, "tolerance=0.0"),
        ({"tolerance": math.nan}, "tolerance=nan"),
        ({"angle": -1.0}, "angle=-1.0"),
        ({"angle": math.nan}, "angle=nan"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, said):
    with pytest.raises(ValueError, match=said):
        PhotoConfig(**values)

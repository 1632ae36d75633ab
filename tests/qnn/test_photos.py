"""Photo queries, against a scene of two planes of which every depth and every line of sight is known."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_images import windows
from torch import Tensor

from qsplat.cameras import Camera, Window
from qsplat.qnn import part_queries, pixel_queries
from qsplat.qnn.photos import PhotoConfig, PhotoQueries, Source

FRONT, BACK, HALF_SIDE = 2.0, 4.0, 0.4
"""Depths of the planes, and half the side of the front one, a square around the z axis. The other goes on forever."""
SCALE = PhotoQueries.SCALE


def eye(
    x: float = 0.0, y: float = 0.0, z: float = 0.0, *, turn: float = 0.0, width: int = 80, height: int = 60
) -> Camera:
    """A camera at (x, y, z) that looks along z, turned to the right by ``turn`` radians and rolled by half of that."""
    cosine, sine = math.cos(turn), math.sin(turn)
    about_y = torch.tensor([[cosine, 0.0, -sine], [0.0, 1.0, 0.0], [sine, 0.0, cosine]])
    cosine, sine = math.cos(turn / 2), math.sin(turn / 2)
    about_z = torch.tensor([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    pose = torch.eye(4)
    pose[:3, :3] = about_z @ about_y
    pose[:3, 3] = -pose[:3, :3] @ torch.tensor([x, y, z])
    return Camera(pose, 0.9 * width, 0.9 * width, width / 2 + 0.7, height / 2 - 0.4, width, height)


@dataclass(frozen=True)
class Surface:
    """What lines of sight hit: points [..., 3], and whether they are on the front plane."""

    points: Tensor
    front: Tensor


def hit(origin: Tensor, directions: Tensor) -> Surface:
    """Where lines from ``origin`` end."""
    near, far = (origin + directions * ((plane - origin[2]) / directions[..., 2:]) for plane in (FRONT, BACK))
    front = near[..., :2].abs().amax(-1) < HALF_SIDE
    return Surface(torch.where(front[..., None], near, far), front)


def surface(camera: Camera) -> Surface:
    """What the pixels of ``camera`` see, in float64."""
    camera = replace(camera, cam_from_world=camera.cam_from_world.double())
    return hit(camera.center, camera.ray_directions())


def depth_of(camera: Camera) -> Tensor:
    pose = camera.cam_from_world.double()
    return (surface(camera).points @ pose[2, :3] + pose[2, 3]).float()


def seen_by(camera: Camera, points: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels of ``camera`` in which ``points`` lie, and whether nothing hides them."""
    pose = camera.cam_from_world.double()
    there = points @ pose[:3, :3].T + pose[:3, 3]
    x = camera.fx * there[..., 0] / there[..., 2] + camera.cx
    y = camera.fy * there[..., 1] / there[..., 2] + camera.cy
    center = -pose[:3, :3].T @ pose[:3, 3]
    within = (x > 0) & (x < camera.width) & (y > 0) & (y < camera.height)
    visible = (hit(center, points - center).points - points).norm(dim=-1) < 1e-6
    return torch.stack([x, y], dim=-1), visible & within


def away_from_edges(camera: Camera, pixels: Tensor, margin: int) -> Tensor:
    """Whether ``pixels`` are more than ``margin`` pixels from where the planes meet in the image of ``camera``, and
    more than half a pixel from its border."""
    front = surface(camera).front[None, None].double()
    size = 2 * margin + 1
    most = torch.nn.functional.max_pool2d(front, size, 1, margin)[0, 0]
    least = -torch.nn.functional.max_pool2d(-front, size, 1, margin)[0, 0]
    alone = most == least
    x, y = (pixels[..., axis].floor().long() for axis in (0, 1))
    inside = (x >= 1) & (y >= 1) & (x < camera.width - 1) & (y < camera.height - 1)
    return inside & alone[y.clamp(0, camera.height - 1), x.clamp(0, camera.width - 1)]


def own_pixels(camera: Camera) -> Tensor:
    """A residual that says where in the image it is: x and y as shares of the width, and the surface."""
    places = camera.pixel_centers() / camera.width
    return torch.cat([places, surface(camera).front[..., None].float()], dim=-1)


def texture(camera: Camera) -> Tensor:
    """A residual that is painted on the planes."""
    return painted(surface(camera).points).float()


def painted(points: Tensor) -> Tensor:
    x, y, z = points.unbind(-1)
    return torch.stack([torch.sin(x + z), torch.cos(1.3 * y), torch.sin(x - y)], dim=-1) / 10


def source(camera: Camera, residual: Callable[[Camera], Tensor] = texture) -> Source:
    return Source(camera, residual(camera), depth_of(camera), torch.ones(camera.height, camera.width))


def flat(camera: Camera, value: float) -> Source:
    """A photo that lacks the same everywhere."""
    return source(camera, lambda one: torch.full((one.height, one.width, 3), value))


def told(queries: PhotoQueries, camera: Camera) -> Tensor:
    return queries(camera, depth_of(camera))


def residual(channels: Tensor) -> Tensor:
    """The residuals alone, where they are believed."""
    return channels[..., :3] / (SCALE * channels[..., 3:4].clamp_min(1e-6))


ROW = [eye(0.25 * index - 1.0, 0.1 * (-1) ** index, turn=0.05 - 0.0125 * index) for index in range(9)]
"""Cameras that pass the scene from left to right."""


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


@pytest.mark.parametrize(("index", "poison"), [(0, 1e6), (4, math.nan), (8, -math.inf)])
def test_leaving_a_photo_out_reads_nothing_of_it(index, poison):
    sources = [source(one) for one in ROW]
    spoilt = list(sources)
    spoilt[index] = replace(sources[index], residual=torch.full_like(sources[index].residual, poison))
    config = PhotoConfig(count=4)
    clean, poisoned = PhotoQueries(sources, config), PhotoQueries(spoilt, config)
    for camera in ROW:
        channels = told(poisoned.without(index), camera)
        assert torch.equal(channels, told(clean.without(index), camera))
        assert index not in poisoned.without(index).chosen(camera)[0].tolist()
    assert not torch.equal(told(clean, ROW[index]), told(poisoned, ROW[index])), "the photo counts where it is read"


def test_leaving_a_photo_out_is_like_not_having_it():
    """But for the points by which overlap is judged, which are of all photos."""
    sources, camera = [source(one) for one in ROW], eye(0.06, 0.05)
    left = PhotoQueries(sources, PhotoConfig(count=3)).without(4)
    fewer = PhotoQueries(sources[:4] + sources[5:], PhotoConfig(count=3))
    kept = torch.tensor([0, 1, 2, 3, 5, 6, 7, 8])
    assert torch.equal(left.chosen(camera)[0], kept[fewer.chosen(camera)[0]])
    torch.testing.assert_close(left.chosen(camera)[1], fewer.chosen(camera)[1], rtol=0, atol=0.05)
    first, second = told(left, camera), told(fewer, camera)
    assert (residual(first) - residual(second))[first[..., 3] > 0.5].abs().mean() < 2e-3


def test_leaving_none_out_again_gives_all_photos_back():
    queries = PhotoQueries([source(one) for one in ROW])
    before = told(queries, ROW[4])
    left = queries.without(4)
    assert torch.equal(told(queries, ROW[4]), before), "it is other queries that leave a photo out"
    assert not torch.equal(told(left, ROW[4]), before)
    assert torch.equal(told(left.without(None), ROW[4]), before)


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


FEW = PhotoQueries([source(eye(x, width=40, height=30)) for x in (-0.4, -0.1, 0.2, 0.5)], PhotoConfig(count=2))


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


def test_channels_change_little_where_another_photo_is_chosen(monkeypatch):
    """Half the step makes the largest change much smaller, though photos that contradict each other come and go. Where
    they come and go at full weight it does not."""
    sources = [flat(one, 0.2 * (-1) ** index) for index, one in enumerate(ROW)]
    queries, chosen = PhotoQueries(sources, PhotoConfig(count=3)), PhotoQueries.chosen
    assert len({tuple(sorted(queries.chosen(camera)[0].tolist())) for camera in path(48)}) > 2
    coarse, fine = max(moves(queries, path(24))), max(moves(queries, path(48)))
    assert fine < 0.75 * coarse

    def abruptly(self: PhotoQueries, camera: Camera) -> tuple[Tensor, Tensor]:
        photos, shares = chosen(self, camera)
        return photos, torch.ones_like(shares)

    monkeypatch.setattr(PhotoQueries, "chosen", abruptly)
    coarse, abrupt = max(moves(queries, path(24))), max(moves(queries, path(48)))
    assert abrupt > 0.9 * coarse
    assert abrupt > 4 * fine


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


def test_queries_pass_no_gradient():
    camera = eye()
    depth = depth_of(camera).requires_grad_()
    assert not FEW(camera, depth).requires_grad


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

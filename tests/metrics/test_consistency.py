"""Consistency of films whose surfaces, depths and flicker are known exactly."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from qsplat.cameras import Camera
from qsplat.metrics.consistency import Consistency, consistency
from qsplat.metrics.tracks import Geometry, change, track
from qsplat.reprojection import sample

FRAMES, WIDTH, HEIGHT = 14, 96, 72
NORMAL, OFFSET = torch.tensor([0.3, -0.2, 1.0]), 4.0
"""The plane that is looked at."""
COARSE, FINE = (24.0, 16.0), (8.0, 6.0)
"""Wavelengths in pixels, about, of its textures."""


@dataclass(frozen=True)
class Shot:
    rgb: Tensor
    rgb_base: Tensor
    depth: Tensor | None
    alpha: Tensor


def path(step: float = 0.027, frames: int = FRAMES) -> list[Camera]:
    """Cameras side by side: 0.027 moves the plane by about half a pixel."""
    cameras = []
    for index in range(frames):
        pose = torch.eye(4)
        pose[0, 3] = -step * index
        cameras.append(Camera(pose, 90.0, 92.0, 47.0, 36.5, WIDTH, HEIGHT))
    return cameras


def plane(camera: Camera) -> tuple[Tensor, Tensor]:
    """Points of the plane behind the pixels, and their depth."""
    rays = camera.ray_directions()
    length = (OFFSET - camera.center @ NORMAL) / (rays @ NORMAL)
    points = camera.center + length[..., None] * rays
    return points, points[..., 2]


def texture(points: Tensor, wavelengths: tuple[float, ...], contrast: float) -> Tensor:
    """Waves on the plane in three colours, each with the contrast over their number."""
    waves = torch.zeros_like(points)
    for index, wavelength in enumerate(wavelengths):
        frequency = 2 * math.pi * 22 / wavelength
        for channel, angle in enumerate((0.3, 1.1, 2.0)):
            along = math.cos(angle + index) * points[..., 0] + math.sin(angle + index) * points[..., 1]
            waves[..., channel] += torch.sin(frequency * along + channel) / len(wavelengths)
    return contrast * waves


def lambertian(camera: Camera, fine: float = 0.1) -> Shot:
    """The plane, painted with coarse and fine waves."""
    points, depth = plane(camera)
    image = 0.5 + texture(points, COARSE, 0.2) + texture(points, FINE, fine)
    return Shot(image, image, depth, torch.ones_like(depth))


def patches(number: int, size: float = 4.0, seed: int = 0) -> Tensor:
    """Noise of standard deviation 1 in patches about as large as a few ``size`` pixels, another in every frame."""
    noise = np.random.default_rng((seed, number)).normal(size=(HEIGHT, WIDTH, 3))
    smooth = gaussian_filter(noise, (size, size, 0))
    return torch.from_numpy(smooth / smooth.std()).float()


def film(change_frame: Callable[[int, Shot], Shot] = lambda _, shot: shot, **how) -> Consistency:
    """The film of the plane after ``change_frame(number, frame)``."""
    cameras = path(how.pop("step", 0.027))
    numbers = {id(camera): number for number, camera in enumerate(cameras)}
    return consistency(lambda camera: change_frame(numbers[id(camera)], lambertian(camera)), cameras, **how)


def flickering(amplitude: float):
    return film(lambda number, shot: replace(shot, rgb=shot.rgb + amplitude * patches(number)))


def test_a_lambertian_plane_is_consistent_up_to_interpolation():
    found = film()
    assert found.base == found.head
    assert found.base.flicker < 2e-4
    assert found.base.short_rmse < 3e-4
    assert found.base.long_rmse < 5e-4
    assert found.base.detail > 0.01
    assert found.short_share > 0.85
    assert found.step_pixels == pytest.approx(0.6, abs=0.2)


@pytest.mark.parametrize(("step", "long_pixels", "tolerance"), [(0.01, 2, 3e-4), (0.09, 17, 1.5e-3), (0.3, 63, 5e-3)])
def test_it_is_so_at_every_distance_between_the_frames(step, long_pixels, tolerance):
    """Far apart, a slanted plane has other sizes in pixels, and the smoothing takes other waves from it."""
    found = film(step=step)
    assert 8 * found.step_pixels == pytest.approx(long_pixels, abs=1)
    assert found.base.flicker < 2e-4
    assert found.base.long_rmse < tolerance


def test_a_plane_of_one_colour_does_not_flicker_at_all():
    found = film(lambda _, shot: replace(shot, rgb=torch.full_like(shot.rgb, 0.4), rgb_base=0 * shot.rgb + 0.4))
    assert found.base.flicker < 1e-6
    assert found.base.long_rmse < 1e-6


def test_flicker_is_recovered_and_grows_with_what_was_injected():
    amplitudes = [0.0, 0.002, 0.004, 0.008, 0.016]
    found = [flickering(amplitude).head.flicker for amplitude in amplitudes]
    assert found == sorted(found)
    assert found[1:] == pytest.approx(amplitudes[1:], rel=0.12)


def test_neighbours_differ_by_the_noise_of_both():
    found = flickering(0.008).head
    assert found.short_rmse == pytest.approx(0.008 * 2**0.5, rel=0.12)
    assert found.long_rmse == pytest.approx(0.008 * 2**0.5, rel=0.12)
    assert found.long_psnr == pytest.approx(-20 * math.log10(found.long_rmse), abs=1e-6)


def test_flicker_of_the_image_leaves_the_base_as_it_was():
    assert flickering(0.008).base == film().base


def test_a_steady_drift_is_no_flicker_but_shows_at_long_range():
    found = film(lambda number, shot: replace(shot, rgb=shot.rgb + 0.005 * number))
    assert found.head.flicker < 2e-4
    assert found.head.short_rmse == pytest.approx(0.005, rel=0.02)
    assert found.head.long_rmse == pytest.approx(0.04, rel=0.02)


def test_a_jump_shows_in_the_frames_around_it():
    found = film(lambda number, shot: replace(shot, rgb=shot.rgb + 0.02 * (number >= 7)))
    flickering_frames = [1 + index for index, value in enumerate(found.head.per_frame) if value and value > 0.005]
    assert flickering_frames == [6, 7]
    assert max(value or 0 for value in found.head.per_frame) == pytest.approx(0.02 / 6**0.5, rel=0.02)
    assert found.worst_frame_ratio > 2 * found.flicker_ratio


def test_a_sharper_image_that_flickers_as_much_as_the_base_is_not_held_to_flicker_more():
    cameras = path()
    numbers = {id(camera): number for number, camera in enumerate(cameras)}

    def render(camera):
        shot, noise = lambertian(camera, 0.05), 0.001 * patches(numbers[id(camera)])
        return replace(shot, rgb=lambertian(camera, 0.2).rgb + noise, rgb_base=shot.rgb_base + noise)

    found = consistency(render, cameras)
    assert found.head.detail > 1.4 * found.base.detail
    assert found.flicker_ratio == pytest.approx(1, abs=0.03)


def test_contrast_alone_is_no_flicker_at_equal_detail():
    found = film(
        lambda number, shot: replace(
            shot,
            rgb=0.5 + 1.2 * (shot.rgb - 0.5 + 0.002 * patches(number)),
            rgb_base=shot.rgb_base + 0.002 * patches(number),
        )
    )
    assert found.flicker_ratio == pytest.approx(1.2, abs=0.01)
    assert found.ratio_at_equal_detail == pytest.approx(1, abs=0.01)


def test_both_sides_of_a_look_up_lose_the_same_sharpness():
    cameras = path()[:2]
    shots = [lambertian(camera, 0.2) for camera in cameras]
    here, there = (Geometry.of(camera, shot.depth, shot.alpha) for camera, shot in zip(cameras, shots, strict=True))
    along = track(here, there)
    plain = sample(shots[1].rgb, along.pixels) - shots[0].rgb
    matched = change(shots[0].rgb, shots[1].rgb, along)
    left, lost = (values[along.visible].square().mean().sqrt() for values in (matched, plain))
    assert lost > 0.005
    assert left < lost / 4


def occluded(camera: Camera) -> tuple[Tensor, Tensor]:
    """Points and depth of a plane with a square at half the distance before it."""
    points, depth = plane(camera)
    rays = camera.ray_directions()
    before = camera.center + 2 / rays[..., 2:] * rays
    covered = (before[..., :2].abs() < 0.3).all(-1)
    return torch.where(covered[..., None], before, points), torch.where(covered, 2.0, depth)


def test_what_is_hidden_is_not_visible_and_what_is_visible_lands_within_a_tenth_of_a_pixel():
    cameras = path(0.3)[:2]
    (points, _), (other, _) = scenes = [occluded(camera) for camera in cameras]
    here, there = (
        Geometry.of(camera, depth, torch.ones_like(depth)) for camera, (_, depth) in zip(cameras, scenes, strict=True)
    )
    along = track(here, there)
    target = cameras[1]
    towards = points - target.center
    before = target.center + 2 / towards[..., 2:] * towards
    hidden = (points[..., 2] > 2.5) & (before[..., :2].abs() < 0.3).all(-1)
    assert hidden.sum() > 100
    assert not bool((hidden & along.visible).any())
    shown = sample(other, along.pixels) - target.center
    landed = shown[..., :2] / shown[..., 2:] * shown.new_tensor([target.fx, target.fy])
    landed = landed + landed.new_tensor([target.cx, target.cy])
    assert along.visible.sum() > 4000
    assert (landed - along.pixels).norm(dim=-1)[along.visible].max() < 0.1
    assert bool(along.visible[points[..., 2] == 2.0].any())


def test_slanted_planes_agree_with_themselves_and_see_through_ones_are_left_out():
    cameras = path()[:2]
    depths = [plane(camera)[1] for camera in cameras]
    clear = torch.ones(HEIGHT, WIDTH)
    clear[30:40, 30:50] = 0.5
    here, there = (Geometry.of(camera, depth, clear) for camera, depth in zip(cameras, depths, strict=True))
    visible = track(here, there).visible
    assert not bool(visible[30:40, 30:50].any())
    assert bool(visible[4:28, 5:-5].all())


def test_no_flicker_of_the_base_leaves_no_ratio():
    found = film()
    still = replace(found, base=replace(found.base, flicker=0.0, per_frame=(0.0,) * len(found.base.per_frame)))
    assert still.flicker_ratio is None
    assert still.ratio_at_equal_detail is None
    assert still.worst_frame_ratio is None


def test_frames_too_far_apart_leave_the_long_range_empty_and_the_record_valid_json():
    found = film(step=0.7)
    assert found.head.long_rmse is None
    assert found.head.long_psnr is None
    read = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert read["long_share"] == 0
    assert read["flicker_ratio"] == 1.0
    assert len(read["head"]["per_frame"]) == FRAMES - 2


def test_every_frame_is_handed_on_once_and_in_order():
    given = []
    film(on_frame=lambda number, frame: given.append((number, frame.rgb.shape)))
    assert given == [(number, (HEIGHT, WIDTH, 3)) for number in range(FRAMES)]


@pytest.mark.parametrize(
    ("how", "change_frame", "words"),
    [
        ({"long_range": 1}, lambda _, shot: shot, "a long range of 1 frames"),
        ({"long_range": FRAMES}, lambda _, shot: shot, "14 frames: a long range of 14 needs at least 15"),
        ({}, lambda _, shot: replace(shot, depth=None), "without depth"),
        ({}, lambda n, shot: replace(shot, rgb=shot.rgb / (n - 3)), "frame 3 holds NaN or infinity"),
        ({}, lambda _, shot: replace(shot, alpha=0 * shot.alpha), "no surface is seen by three of 14 frames"),
        ({}, lambda n, shot: replace(shot, depth=shot.depth * (1 + n % 2)), "no surface is seen by three of 14 frames"),
    ],
)
def test_what_cannot_be_measured_is_refused(how, change_frame, words):
    with pytest.raises(ValueError, match=words):
        film(change_frame, **how)

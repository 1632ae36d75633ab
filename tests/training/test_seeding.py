"""Points for captures that have none."""

from dataclasses import replace

import pytest
import torch

from qsplat.training.seeding import focus_point, seed_in_view


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_cameras_around_the_origin_look_at_it(capture):
    cameras = [view.camera for view in capture.train]
    torch.testing.assert_close(focus_point(cameras), torch.zeros(3), rtol=0, atol=0.05)


def test_parallel_cameras_look_at_a_point_in_front_of_them(capture):
    camera = capture.train[0].camera
    cameras = []
    for shift in (-0.2, 0.0, 0.2):
        pose = camera.cam_from_world.clone()
        pose[0, 3] += shift
        cameras.append(replace(camera, cam_from_world=pose))
    ahead = camera.cam_from_world[:3, :3] @ focus_point(cameras) + camera.cam_from_world[:3, 3]
    torch.testing.assert_close(ahead, torch.tensor([0.0, 0.0, 1.0]), rtol=0, atol=1e-4)


def test_seeds_lie_where_the_photos_agree(capture):
    """The blobs fill a ball of radius 0.3; rays leave the cameras at a distance of 1 and reach 5 units."""
    points = seed_in_view(capture.train, 400, generator=generator())
    assert 300 <= len(points.positions) <= 400
    distance = points.positions.norm(dim=-1)
    assert distance.median() < 0.4
    assert (distance < 0.6).float().mean() > 0.7


def test_seeds_have_the_colours_of_pixels_that_see_them(capture):
    points = seed_in_view(capture.train, 200, generator=generator())
    pixels = torch.cat([view.image.reshape(-1, 3) for view in capture.train])
    assert torch.cdist(points.colors, pixels).min(dim=1).values.max() < 1e-3


def test_seeds_are_seen_by_three_cameras(capture):
    points = seed_in_view(capture.train, 200, generator=generator())
    count = torch.zeros(len(points.positions))
    for view in capture.train:
        camera = view.camera
        local = points.positions @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]
        x = camera.fx * local[:, 0] / local[:, 2] + camera.cx
        y = camera.fy * local[:, 1] / local[:, 2] + camera.cy
        count += (local[:, 2] > 0) & (x > -0.01) & (x < 48.01) & (y > -0.01) & (y < 36.01)
    assert count.min() >= 3


def test_the_same_generator_gives_the_same_seeds(capture):
    first, second = (seed_in_view(capture.train, 100, generator=generator()) for _ in range(2))
    assert torch.equal(first.positions, second.positions)


def test_opaque_photos_and_a_single_one_are_enough(capture):
    opaque = [replace(view, alpha=None) for view in capture.train]
    assert len(seed_in_view(opaque, 100, generator=generator()).positions) > 50
    assert len(seed_in_view(opaque[:1], 100, generator=generator()).positions) == 100


def test_what_cannot_be_seeded_is_said(capture):
    with pytest.raises(ValueError, match="0 photos"):
        seed_in_view([], 10)
    empty = [replace(view, alpha=torch.zeros(36, 48)) for view in capture.train]
    with pytest.raises(ValueError, match="seen by three cameras"):
        seed_in_view(empty, 100)


def test_pixels_that_are_masked_out_seed_nothing(capture):
    left = torch.zeros(36, 48, dtype=torch.bool)
    left[:, :24] = True
    views = [replace(view, alpha=None, mask=left) for view in capture.train]
    points = seed_in_view(views, 60).positions
    local = torch.stack([points @ v.camera.cam_from_world[:3, :3].T + v.camera.cam_from_world[:3, 3] for v in views])
    columns = local[..., 0] / local[..., 2] * 60.0 + 24.0
    assert bool((columns.min(dim=0).values < 24).all()), "each point is on the ray of a pixel that counts"
    with pytest.raises(ValueError, match="no usable pixel"):
        seed_in_view([replace(view, mask=torch.zeros_like(left)) for view in capture.train], 60)

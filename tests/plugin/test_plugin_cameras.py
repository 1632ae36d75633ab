"""nerfstudio's cameras and ours."""

from __future__ import annotations

import torch
from nerfstudio.cameras.cameras import Cameras
from small_capture import looking_at_the_origin

from nerfstudio_plugin.cameras import cam_from_world_of, camera_of, cameras_of, world_from_cam_of
from qsplat.cameras import Camera


def pose(angle: float = 0.7) -> torch.Tensor:
    return torch.from_numpy(looking_at_the_origin(angle)[:3])


def test_the_two_flips_are_inverse_of_each_other():
    there_and_back = world_from_cam_of(cam_from_world_of(pose()))
    torch.testing.assert_close(there_and_back, pose())


def test_a_point_in_front_of_an_opengl_camera_has_positive_depth_and_what_is_above_it_has_smaller_y():
    cam_from_world = cam_from_world_of(pose())
    origin, above = (cam_from_world @ torch.tensor([0, 0, height, 1], dtype=torch.float64) for height in (0.0, 0.5))
    assert origin[2] > 0
    assert above[1] < origin[1]


def test_cameras_survive_the_way_to_nerfstudio_and_back():
    camera = Camera(cam_from_world_of(pose()).float(), fx=50.0, fy=51.0, cx=23.5, cy=18.25, width=48, height=36)
    back = camera_of(cameras_of([camera, camera])[1:2])
    torch.testing.assert_close(back.cam_from_world, camera.cam_from_world)
    assert (back.fx, back.fy, back.cx, back.cy) == (camera.fx, camera.fy, camera.cx, camera.cy)
    assert (back.width, back.height) == (camera.width, camera.height)


def test_gradients_pass_from_our_pose_to_nerfstudios():
    given = pose().requires_grad_()
    cam_from_world_of(given).sum().backward()
    assert given.grad is not None
    assert bool((given.grad != 0).any())


def test_rays_agree_with_those_of_nerfstudio():
    cameras = Cameras(pose()[None].float(), fx=50.0, fy=50.0, cx=24.0, cy=18.0, width=48, height=36)
    theirs = cameras.generate_rays(0).directions
    torch.testing.assert_close(camera_of(cameras[0:1]).ray_directions(), theirs, atol=1e-5, rtol=1e-5)

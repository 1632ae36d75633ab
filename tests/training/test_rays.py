"""Random rays of all photos: each with the colour of its pixel."""

from dataclasses import replace

import pytest
import torch

from qsplat.fields.rays import camera_rays
from qsplat.io.scene import View
from qsplat.training.rays import RayPool


def views(capture) -> list[View]:
    """Two photos of different sizes, without alpha, whose colours tell view and pixel."""
    made = []
    for index, (width, height) in enumerate(((7, 5), (4, 6))):
        camera = capture.train[index].camera.resized(width, height)
        image = torch.empty(height, width, 3)
        image[..., 0], image[..., 1] = index / 2, torch.arange(height)[:, None] / 10
        image[..., 2] = torch.arange(width) / 10
        made.append(View(f"{index}", camera, image))
    return made


def test_every_ray_has_the_colour_of_its_pixel(capture):
    made = views(capture)
    torch.manual_seed(0)
    rays, colors = RayPool.of(made, torch.zeros(3), device="cpu").sample(500)
    expected = [camera_rays(view.camera) for view in made]
    for row in range(500):
        view = round(2 * colors[row, 0].item())
        pixel = round(10 * colors[row, 1].item()) * made[view].camera.width + round(10 * colors[row, 2].item())
        torch.testing.assert_close(rays.origins[row], expected[view].origins[pixel])
        torch.testing.assert_close(rays.directions[row], expected[view].directions[pixel])


def test_every_pixel_is_drawn_equally_often(capture):
    torch.manual_seed(0)
    _, colors = RayPool.of(views(capture), torch.zeros(3), device="cpu").sample(59_000)
    _, counts = colors.unique(dim=0, return_counts=True)
    assert len(counts) == 35 + 24
    assert counts.min() > 800
    assert counts.max() < 1200


def test_masked_pixels_are_never_drawn(capture):
    made = views(capture)
    mask = torch.zeros(5, 7, dtype=torch.bool)
    mask[2, 3] = True
    made[0] = replace(made[0], mask=mask)
    _, colors = RayPool.of(made, torch.zeros(3), device="cpu").sample(500)
    first = colors[colors[:, 0] == 0].unique(dim=0)
    torch.testing.assert_close(first, torch.tensor([[0.0, 0.2, 0.3]]))
    assert int((colors[:, 0] > 0).sum()) > 400


def test_photos_with_alpha_lie_over_the_background(capture):
    view = capture.train[0]
    pool = RayPool.of([view], torch.tensor([1.0, 0.0, 0.5]), device="cpu")
    expected = view.image + (1 - view.alpha)[..., None] * torch.tensor([1.0, 0.0, 0.5])
    torch.testing.assert_close(pool.colors, expected.reshape(-1, 3))


def test_no_photos_and_no_pixels_are_refused(capture):
    with pytest.raises(ValueError, match="0 training views"):
        RayPool.of([], torch.zeros(3), device="cpu")
    view = views(capture)[0]
    with pytest.raises(ValueError, match="0 pixels"):
        RayPool.of([replace(view, mask=torch.zeros(5, 7, dtype=torch.bool))], torch.zeros(3), device="cpu")

"""Photos at the resolution and over the background of the moment."""

from dataclasses import replace

import torch

from qsplat.cameras import Window
from qsplat.training.targets import Target


def test_at_full_resolution_the_photo_is_as_it_was(capture):
    view = capture.train[0]
    target = Target.of(view, 1, "cpu")
    assert torch.equal(target.image, view.image)
    assert torch.equal(target.alpha, view.alpha)
    assert target.camera.width == 48


def test_a_smaller_photo_averages_areas(capture):
    view = capture.train[0]
    target = Target.of(view, 2, "cpu")
    assert target.image.shape == (18, 24, 3)
    assert (target.camera.width, target.camera.height, target.camera.fx) == (24, 18, 30.0)
    torch.testing.assert_close(target.image[3, 5], view.image[6:8, 10:12].mean(dim=(0, 1)))
    torch.testing.assert_close(target.alpha[3, 5], view.alpha[6:8, 10:12].mean())


def test_a_pixel_counts_where_its_whole_area_does(capture):
    mask = torch.ones(36, 48, dtype=torch.bool)
    mask[7, 11] = False
    target = Target.of(replace(capture.train[0], mask=mask), 2, "cpu")
    assert not target.mask[3, 5]
    assert target.mask.sum() == 18 * 24 - 1


def test_the_background_shows_where_the_photo_is_transparent(capture):
    view, red = capture.train[0], torch.tensor([1.0, 0.0, 0.0])
    over = Target.of(view, 1, "cpu").over(red)
    corner = view.alpha[0, 0]
    torch.testing.assert_close(over[0, 0], view.image[0, 0] + (1 - corner) * red)
    opaque = Target.of(replace(view, alpha=None), 1, "cpu").over(red)
    assert torch.equal(opaque, view.image)


def test_a_part_is_that_of_photo_coverage_mask_and_camera(capture):
    mask = torch.rand(36, 48, generator=torch.Generator().manual_seed(0)) > 0.5
    whole, black = Target.of(replace(capture.train[0], mask=mask), 1, "cpu"), torch.zeros(3)
    part = whole.part(Window(5, 8, 20, 10)).part(Window(2, 1, 6, 4))
    rows, columns = slice(9, 13), slice(7, 13)
    assert torch.equal(part.over(black), whole.over(black)[rows, columns])
    assert torch.equal(part.over(1 - black), whole.over(1 - black)[rows, columns])
    assert torch.equal(part.mask, mask[rows, columns])
    assert torch.equal(part.camera.pixel_centers(), whole.camera.pixel_centers()[rows, columns])
    bare = Target.of(replace(capture.train[0], alpha=None), 1, "cpu").part(Window(0, 0, 3, 2))
    assert bare.alpha is None
    assert bare.mask is None
    assert bare.image.shape == (2, 3, 3)


def test_no_photo_shrinks_below_one_pixel(capture):
    assert Target.of(capture.train[0], 64, "cpu").image.shape == (1, 1, 3)

"""What several sets of Gaussians show together, and what photos say of it."""

import math
from dataclasses import replace
from typing import cast

import pytest
import torch
from photo_views import SMALL, believing, photo_of, spoilt
from torch import Tensor

from qsplat.cameras import Window
from qsplat.qnn.photo_head import PhotoHead
from qsplat.render import rasterize
from qsplat.training.photo_head import photo_queries
from qsplat.training.plus_model import PlusModel


def test_the_mean_of_a_set_with_itself_is_the_set(truth, capture):
    background, camera = torch.tensor([0.2, 0.4, 0.6]), capture.train[0].camera
    alone, drawn = PlusModel((truth,), background=background).mean(camera), rasterize(truth.activate(), camera)
    twice = PlusModel((truth, truth), background=background).mean(camera)
    assert drawn.depth is not None
    assert torch.equal(alone.image, drawn.over(background))
    for mean in (alone, twice):
        torch.testing.assert_close(mean.first, drawn.over(background))
        torch.testing.assert_close(mean.image, drawn.over(background))
        torch.testing.assert_close(mean.depth, drawn.depth, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(mean.alpha, drawn.alpha)


def test_the_mean_is_that_of_images_and_of_depths_by_coverage(truth, capture):
    camera, center = capture.train[0].camera, capture.train[0].camera.center
    nearer = replace(truth, means=0.2 * truth.means + 0.3 * center, log_scales=truth.log_scales - 2)
    drawn = [rasterize(one.activate(), camera) for one in (truth, nearer)]
    mean = PlusModel((truth, nearer)).mean(camera)
    torch.testing.assert_close(mean.first, drawn[0].color)
    torch.testing.assert_close(mean.image, (drawn[0].color + drawn[1].color) / 2)
    torch.testing.assert_close(mean.alpha, (drawn[0].alpha + drawn[1].alpha) / 2)
    (first, second), depths = (one.alpha for one in drawn), [one.depth for one in drawn]
    assert depths[0] is not None
    assert depths[1] is not None
    both, alone = (first > 0.9) & (second > 0.9), (first > 0.9) & (second == 0)
    assert both.any()
    assert alone.any()
    expected = (first * depths[0] + second * depths[1]) / (first + second)
    torch.testing.assert_close(mean.depth[both], expected[both], rtol=1e-5, atol=1e-5)
    assert (depths[0] - depths[1])[both].min() > 0.05
    torch.testing.assert_close(mean.depth[alone], depths[0][alone], rtol=1e-5, atol=1e-5)


def test_a_view_is_the_image_of_the_first_set_and_a_residual(model, views, capture):
    camera, headed = capture.test[0].camera, replace(model, head=believing(views, 1.0))
    mean, view, plain = model.mean(camera), headed.render(camera), model.render(camera)
    assert torch.equal(plain.rgb, mean.image)
    assert torch.equal(view.rgb_base, mean.first)
    torch.testing.assert_close(view.rgb_base + view.residual, view.rgb)
    assert (view.rgb - mean.image).abs().max() > 0.01
    assert view.depth is not None
    assert torch.equal(view.depth, mean.depth)


def test_a_new_head_changes_nothing(model, views, capture):
    head, camera = PhotoHead(SMALL), capture.test[0].camera
    head.photos = photo_queries(views)
    assert torch.equal(replace(model, head=head).render(camera).rgb, model.render(camera).rgb)


def test_a_window_of_a_view_is_where_it_is_in_the_whole_one(model, views, capture):
    headed, camera = replace(model, head=believing(views, 1.0)), capture.test[0].camera
    part = headed.render(camera.cropped(Window(10, 5, 20, 16))).rgb
    torch.testing.assert_close(part, headed.render(camera).rgb[5:21, 10:30], rtol=1e-4, atol=1e-4)


def test_smaller_photos_lack_nothing_where_the_gaussians_are_right(model, capture):
    """Even fine ones: Gaussians drawn at half the size would be thicker than the photos."""
    fine = tuple(replace(one, log_scales=one.log_scales - 3) for one in model.sets)
    model, cameras, halved, whole = replace(model, sets=fine), [], [], []
    for view in capture.train[:3]:
        seen = model.mean(view.camera)
        small = view.camera.resized(24, 18)
        image = torch.nn.functional.avg_pool2d(seen.image.permute(2, 0, 1), 2).permute(1, 2, 0)
        halved.append(replace(view, camera=small, image=image, alpha=None))
        cameras.append(view.camera)
        whole.append(seen)
    for shown, seen in zip(model.shown(halved, cameras=cameras), whole, strict=True):
        torch.testing.assert_close(shown.source.residual, torch.zeros(18, 24, 3), atol=1e-6, rtol=0)
        assert seen.depth[seen.alpha > 0.1].min() - 1e-4 <= shown.depth[shown.alpha > 0.1].min()
        torch.testing.assert_close(shown.alpha.mean(), seen.alpha.mean())
    assert max(view.source.residual.abs().max() for view in model.shown(halved)) > 0.02


def test_training_views_are_shown_over_the_background_with_their_masks(model, capture):
    mask = torch.rand(36, 48) > 0.5
    view = replace(capture.train[3], mask=mask)
    shown = model.shown([capture.train[2], view])
    assert shown[0].mask is None
    assert torch.equal(cast(Tensor, shown[1].mask), mask)
    assert torch.equal(shown[1].photo, photo_of(model, view))
    assert torch.equal(shown[1].image, model.mean(view.camera).image)
    assert (shown[1].photo - view.image).max() > 0.02, "the background shows"


@pytest.mark.parametrize("poison", [math.nan, 1e6])
@pytest.mark.parametrize("index", [0, 7])
def test_a_view_that_is_left_out_is_rendered_without_its_photo(model, views, poison, index):
    camera = views[index].camera
    clean, poisoned = (replace(model, head=believing(photos, 1.0)) for photos in (views, spoilt(views, index, poison)))
    assert torch.equal(poisoned.render(camera, left_out=index).rgb, clean.render(camera, left_out=index).rgb)
    assert not torch.equal(poisoned.render(camera).rgb, clean.render(camera).rgb), "it is read where it is not left out"

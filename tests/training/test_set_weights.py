"""How far sets of Gaussians count: as far as photos agree with them, and all the same where no photo can tell."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_views import miscoloured, spoilt
from torch import Tensor

from qsplat.cameras import Camera, Window
from qsplat.gaussians import Gaussians, seed_from_points
from qsplat.qnn.photo_head import PhotoHead
from qsplat.qnn.photos import PhotoConfig
from qsplat.training.plus_model import PlusModel
from qsplat.training.set_weights import BLOCK, SetView, SetWeights, camera_of_blocks, window_of_blocks


def with_haze(truth: Gaussians, camera: Camera) -> Gaussians:
    """``truth`` and grey blobs in front of ``camera``, where no camera of a photo sees them."""
    points = camera.center * torch.tensor([[0.75], [0.78], [0.8]])
    grey = torch.full((3, 3), 0.5)
    haze = seed_from_points(points, grey, opacity=0.7, sh_degree=1, generator=torch.Generator().manual_seed(1))
    small = replace(haze, log_scales=torch.full((3, 3), math.log(0.02)))
    return Gaussians(**{name: torch.cat([value, getattr(small, name)]) for name, value in vars(truth).items()})


@pytest.fixture(scope="module")
def camera(capture) -> Camera:
    return capture.test[0].camera


@pytest.fixture(scope="module")
def model(truth, camera) -> PlusModel:
    """A set that is right, and one with haze before ``camera`` alone."""
    return PlusModel((truth, with_haze(truth, camera)), background=torch.tensor([0.1, 0.2, 0.3]))


@pytest.fixture(scope="module")
def weights(views) -> SetWeights:
    return SetWeights(views)


def shown_by(model: PlusModel, camera: Camera) -> list[SetView]:
    alone = [replace(model, sets=(one,)).mean(camera) for one in model.sets]
    return [SetView(one.image, one.depth, one.alpha) for one in alone]


def squared_error(image: Tensor, model: PlusModel, camera: Camera) -> float:
    """Against what the first set shows."""
    return float((image - replace(model, sets=model.sets[:1]).mean(camera).image).square().mean())


def test_haze_that_no_photo_sees_hardly_counts(model, weights, camera):
    first, second = (one.image for one in shown_by(model, camera))
    hazy = (first - second).abs().amax(-1) > 0.1
    assert hazy.sum() > 30
    shares = weights(camera, shown_by(model, camera))
    assert shares[1][hazy].median() < 0.2
    assert shares[1][hazy].mean() < 0.25
    weighed = replace(model, weights=weights).render(camera)
    assert squared_error(weighed.rgb, model, camera) < 0.15 * squared_error(model.mean(camera).image, model, camera)
    assert weighed.depth is not None
    depths = torch.stack([one.depth for one in shown_by(model, camera)])[:, hazy]
    assert ((weighed.depth[hazy] - depths[0]).abs() < (weighed.depth[hazy] - depths[1]).abs()).float().mean() > 0.9


def test_the_set_whose_colours_the_photos_have_counts_more(truth, capture):
    model = PlusModel((miscoloured(truth), truth), background=torch.zeros(3))
    camera, weights = capture.test[0].camera, SetWeights(model.shown(capture.train))
    shares = weights(camera, shown_by(model, camera))
    covered = shown_by(model, camera)[1].alpha > 0.9
    assert shares[1][covered].mean() > 0.6


def test_shares_have_the_sum_one_and_sets_that_are_the_same_count_the_same(model, weights, camera):
    shares = weights(camera, shown_by(model, camera))
    assert shares.shape == (2, 36, 48)
    torch.testing.assert_close(shares.sum(0), torch.ones(36, 48))
    first, _ = shown_by(model, camera)
    torch.testing.assert_close(weights(camera, [first] * 3), torch.full((3, 36, 48), 1 / 3))


def test_where_no_photo_sees_a_surface_all_sets_count_the_same(model, views, camera):
    """However different they are: the photos' masks leave nothing of them."""
    hidden = [replace(view, mask=torch.zeros_like(view.alpha, dtype=torch.bool)) for view in views]
    shares = SetWeights(hidden)(camera, shown_by(model, camera))
    torch.testing.assert_close(shares, torch.full((2, 36, 48), 0.5))


@pytest.mark.parametrize("poison", [math.nan, 1e4])
def test_a_view_that_is_left_out_is_weighed_without_its_photo(model, views, poison):
    camera, shown = views[3].camera, shown_by(model, views[3].camera)
    clean = SetWeights(views).without(3)(camera, shown)
    assert torch.equal(SetWeights(spoilt(views, 3, poison)).without(3)(camera, shown), clean)
    assert not torch.equal(SetWeights(spoilt(views, 3, poison))(camera, shown), clean)
    poisoned, weighed = (replace(model, weights=SetWeights(some)) for some in (spoilt(views, 3, poison), views))
    assert torch.equal(poisoned.render(camera, left_out=3).rgb, weighed.render(camera, left_out=3).rgb)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_window_is_weighed_as_in_the_whole_image(data, model, weights, camera):
    """At sizes that blocks do not divide, too."""
    width, height = data.draw(st.sampled_from([(48, 36), (47, 35), (33, 36)]))
    camera = replace(camera, width=width, height=height)
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    size = data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))
    weighed = replace(model, weights=weights)
    whole, part = weighed.render(camera), weighed.render(camera.cropped(Window(x, y, *size)))
    here = slice(y, y + size[1]), slice(x, x + size[0])
    torch.testing.assert_close(part.rgb, whole.rgb[here], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(part.alpha, whole.alpha[here], atol=1e-4, rtol=1e-4)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_windows_of_blocks_hold_their_pixels_and_begin_with_a_block(data, camera):
    width, height = data.draw(st.integers(1, 50)), data.draw(st.integers(1, 50))
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    part = Window(x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y)))
    drawn = window_of_blocks(replace(camera, width=width, height=height, window=part))
    for at, count, start, size, side in (
        (drawn.x, drawn.width, part.x, part.width, width),
        (drawn.y, drawn.height, part.y, part.height, height),
    ):
        assert at % BLOCK == 0
        assert at == 0 or at <= start - BLOCK
        assert at + count == side or ((at + count) % BLOCK == 0 and at + count >= start + size + BLOCK)


def test_a_block_is_a_pixel_of_the_smaller_camera(camera):
    """The centre of a block in one is the centre of a pixel in the other."""
    camera = replace(camera, width=47)
    small = camera_of_blocks(camera)
    assert (small.width, small.height) == (24, 18)
    corner = camera.ray_directions()[6:8, 10:12].mean((0, 1))
    torch.testing.assert_close(small.ray_directions()[3, 5], corner / corner.norm(), atol=1e-4, rtol=0)


def test_only_several_sets_are_weighed(model, views):
    head = PhotoHead()
    assert replace(model, sets=model.sets[:1]).asking(head, views).weights is None
    asking = model.asking(head, views)
    assert asking.weights is not None
    assert asking.head is head


@pytest.mark.parametrize("angle", [0.05, 0.08, 0.1, 0.12, 0.15, 0.3, 1.0])
def test_a_surface_that_photos_hardly_see_counts_no_less_than_a_hole(truth, capture, angle):
    model = PlusModel((replace(truth, opacity_logits=truth.opacity_logits - 20), truth), background=torch.zeros(3))
    camera, views = capture.test[0].camera, replace(model, sets=(truth,)).shown(capture.train)
    shown = shown_by(model, camera)
    shares = SetWeights(views, PhotoConfig(angle=angle))(camera, shown)
    assert shares[1][shown[1].alpha > 0.9].median() >= 0.5

"""Gaussians, the door to splats, and seeding."""

import math

import pytest
import torch

from qsplat.gaussians import SH_DC, Gaussians, Splats, seed_from_points


def seeded(count: int = 20) -> Gaussians:
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(count, 3, generator=generator)
    return seed_from_points(points, torch.rand(count, 3, generator=generator), generator=generator)


def test_activation_is_the_only_door_and_opens_both_ways():
    gaussians = seeded()
    splats = gaussians.activate()
    torch.testing.assert_close(splats.scales.log(), gaussians.log_scales)
    torch.testing.assert_close(torch.logit(splats.opacities), gaussians.opacity_logits)
    assert torch.equal(splats.quats, gaussians.quats)
    assert splats.sh.shape == (20, 16, 3)
    assert splats.channels == 3


@pytest.mark.parametrize(("degree", "coefficients"), [(0, 1), (1, 4), (2, 9), (3, 16), (7, 16), (None, 16)])
def test_degree_limits_the_harmonics(degree, coefficients):
    splats = seeded().activate(sh_degree=degree)
    assert splats.sh.shape[1] == coefficients


def test_features_follow_the_colour():
    splats = seeded().activate(features=torch.zeros(20, 5))
    assert splats.channels == 8


def test_seeds_have_the_colour_and_spacing_of_their_points():
    line = torch.stack([torch.arange(10.0) * 0.5, torch.zeros(10), torch.zeros(10)], dim=-1)
    colors = torch.rand(10, 3)
    gaussians = seed_from_points(line, colors)
    torch.testing.assert_close(gaussians.sh_dc * SH_DC + 0.5, colors)
    middle = gaussians.log_scales[5].exp()
    torch.testing.assert_close(middle, torch.full((3,), (0.5 + 0.5 + 1.0) / 3))
    torch.testing.assert_close(torch.sigmoid(gaussians.opacity_logits), torch.full((10,), 0.1))
    assert torch.equal(gaussians.sh_rest, torch.zeros(10, 15, 3))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_points_seed_finite_gaussians(count):
    gaussians = seed_from_points(torch.rand(count, 3), torch.rand(count, 3))
    assert len(gaussians) == count
    assert all(bool(torch.isfinite(value).all()) for value in vars(gaussians).values())


def test_coinciding_points_seed_gaussians_of_some_size():
    assert bool(torch.isfinite(seed_from_points(torch.zeros(5, 3), torch.zeros(5, 3)).log_scales).all())


@pytest.mark.parametrize(("points", "message"), [((0, 3), "0 points"), ((4, 3), "NaN or infinite")])
def test_unusable_points_are_refused(points, message):
    with pytest.raises(ValueError, match=message):
        seed_from_points(torch.full(points, math.nan), torch.zeros(points))


def test_splats_without_channels_are_refused():
    with pytest.raises(ValueError, match="need sh or features"):
        Splats(torch.zeros(1, 3), torch.zeros(1, 4), torch.zeros(1, 3), torch.zeros(1))


def test_splats_with_a_broken_degree_are_refused():
    with pytest.raises(ValueError, match="5 SH coefficients"):
        Splats(torch.zeros(1, 3), torch.zeros(1, 4), torch.zeros(1, 3), torch.zeros(1), sh=torch.zeros(1, 5, 3))

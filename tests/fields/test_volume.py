"""Volume rendering against values computed by hand, and its properties."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qsplat.fields.volume import composite, rendering_weights


def test_weights_of_two_samples_are_those_of_the_equation():
    density, lengths = torch.tensor([[0.5, 2.0]]), torch.tensor([[2.0, 0.25]])
    first = 1 - math.exp(-1.0)
    second = math.exp(-1.0) * (1 - math.exp(-0.5))
    torch.testing.assert_close(rendering_weights(density, lengths), torch.tensor([[first, second]]))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31 - 1), st.floats(-4, 6), st.integers(1, 200))
def test_weights_are_shares_and_sum_to_at_most_1(seed, exponent, samples):
    generator = torch.Generator().manual_seed(seed)
    density = torch.rand(8, samples, generator=generator) * 10**exponent
    lengths = torch.rand(8, samples, generator=generator)
    weights = rendering_weights(density, lengths)
    assert bool((weights >= 0).all())
    assert bool((weights.sum(dim=1) <= 1 + 1e-5).all())
    torch.testing.assert_close(weights.sum(1), -torch.expm1(-(density * lengths).sum(1)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("opaque", [0, 1, 3])
def test_a_single_opaque_sample_is_all_that_is_seen(opaque):
    density = torch.zeros(1, 4)
    density[0, opaque] = 1e6
    colors, distances = torch.rand(1, 4, 3), torch.tensor([[1.0, 2.0, 3.0, 5.0]])
    seen = composite(rendering_weights(density, torch.ones(1, 4)), colors, distances)
    torch.testing.assert_close(seen.color, colors[:, opaque])
    torch.testing.assert_close(seen.over(torch.ones(3)), colors[:, opaque])
    assert seen.alpha.item() == 1
    assert seen.distance.item() == distances[0, opaque]


def test_what_lies_behind_an_opaque_sample_does_not_matter():
    density = torch.tensor([[0.3, 1e6, 5.0]])
    weights = rendering_weights(density, torch.ones(1, 3))
    assert weights[0, 2] == 0
    torch.testing.assert_close(weights[0, 1].item(), math.exp(-0.3))


def test_an_empty_ray_shows_the_white_background():
    seen = composite(rendering_weights(torch.zeros(2, 5), torch.ones(2, 5)), torch.rand(2, 5, 3), torch.rand(2, 5))
    assert torch.equal(seen.over(torch.ones(3)), torch.ones(2, 3))
    assert torch.equal(seen.alpha, torch.zeros(2))
    assert torch.equal(seen.distance, torch.zeros(2))


def test_half_covered_rays_show_half_of_the_background():
    weights = rendering_weights(torch.tensor([[math.log(2.0)]]), torch.ones(1, 1))
    seen = composite(weights, torch.tensor([[[1.0, 0.0, 0.0]]]), torch.tensor([[7.0]]))
    torch.testing.assert_close(seen.over(torch.ones(3)), torch.tensor([[1.0, 0.5, 0.5]]))
    torch.testing.assert_close(seen.distance, torch.tensor([7.0]))


def test_splitting_a_sample_changes_nothing():
    whole = rendering_weights(torch.tensor([[2.0, 1.0]]), torch.tensor([[0.6, 0.5]]))
    parts = rendering_weights(torch.tensor([[2.0, 2.0, 2.0, 1.0]]), torch.tensor([[0.1, 0.3, 0.2, 0.5]]))
    torch.testing.assert_close(parts[:, :3].sum(), whole[0, 0])
    torch.testing.assert_close(parts[0, 3], whole[0, 1])


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    density = torch.rand(2, 5, dtype=torch.float64, requires_grad=True)
    lengths = torch.rand(2, 5, dtype=torch.float64) + 0.1
    assert torch.autograd.gradcheck(lambda values: rendering_weights(values, lengths), density)


def test_huge_densities_have_finite_gradients():
    density = torch.full((1, 6), 1e8, requires_grad=True)
    rendering_weights(density, torch.ones(1, 6)).square().sum().backward()
    assert bool(torch.isfinite(density.grad).all())

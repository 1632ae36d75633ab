"""Samples lie where they should."""

import numpy as np
import torch

from qsplat.fields.sampling import inverse_cdf, lengths_between, strata


def test_without_jitter_samples_are_the_middles_of_equal_parts():
    assert torch.equal(strata(2, 4, jitter=False), torch.tensor([[0.125, 0.375, 0.625, 0.875]]).expand(2, 4))


def test_with_jitter_there_is_one_sample_in_each_part():
    shares = strata(500, 8, jitter=True)
    assert torch.equal((shares * 8).long().clamp_max(7), torch.arange(8).expand(500, 8))
    within = shares * 8 - torch.arange(8)
    assert abs(within.mean() - 0.5) < 0.02
    assert abs(within.std() - 12**-0.5) < 0.02


def test_even_weights_leave_quantiles_where_they_are():
    quantiles = torch.tensor([[0.0, 0.1, 0.5, 0.999, 1.0]])
    torch.testing.assert_close(inverse_cdf(torch.full((1, 7), 3.0), quantiles), quantiles)


def test_quantiles_lie_where_the_integral_of_the_density_reaches_them():
    weights = torch.rand(20, 11, generator=torch.Generator().manual_seed(0))
    quantiles = torch.rand(20, 30, generator=torch.Generator().manual_seed(1)).sort(dim=1).values
    found = inverse_cdf(weights, quantiles).numpy()
    edges = np.arange(12) / 11
    for row in range(20):
        cdf = np.concatenate([[0], np.cumsum(weights[row].double().numpy())])
        np.testing.assert_allclose(found[row], np.interp(quantiles[row], cdf / cdf[-1], edges), atol=1e-5)
    assert bool((np.diff(found, axis=1) >= 0).all())


def test_parts_without_weight_have_no_samples():
    weights = torch.tensor([[0.0, 1.0, 0.0, 0.0, 2.0, 0.0]])
    shares = inverse_cdf(weights, torch.linspace(0.001, 0.999, 99)[None])
    part = (shares * 6).long()
    assert set(part.unique().tolist()) == {1, 4}
    assert 31 <= int((part == 1).sum()) <= 35


def test_the_ends_of_the_cdf_are_the_ends_of_what_has_weight():
    ends = inverse_cdf(torch.tensor([[0.0, 1.0, 1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(ends, torch.tensor([[0.25, 0.75]]))


def test_no_gradient_passes_from_samples_to_weights():
    weights = torch.rand(1, 4, requires_grad=True)
    assert not inverse_cdf(weights, torch.rand(1, 3)).requires_grad


def test_lengths_reach_from_sample_to_sample_and_to_the_end():
    lengths = lengths_between(torch.tensor([[1.0, 1.5, 4.0]]), torch.tensor([[6.0]]))
    assert torch.equal(lengths, torch.tensor([[0.5, 2.5, 2.0]]))

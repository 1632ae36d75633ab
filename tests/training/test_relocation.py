"""Equation 9 of the MCMC paper."""

import math

import pytest
import torch

from qsplat.training.relocation import MOST_COPIES, relocated_shapes


def as_written(opacity: float, copies: int) -> tuple[float, float]:
    """New opacity and factor of the scales by the double sum of the paper, exactly rounded."""
    new = 1 - (1 - opacity) ** (1 / copies)
    terms = [
        math.comb(i - 1, k) * (-1) ** k / math.sqrt(k + 1) * new ** (k + 1)
        for i in range(1, copies + 1)
        for k in range(i)
    ]
    return new, opacity / math.fsum(terms)


@pytest.mark.parametrize("opacity", [0.005, 0.1, 0.5, 0.9, 0.995])
@pytest.mark.parametrize("copies", [1, 2, 3, 10, 30, MOST_COPIES])
def test_shapes_are_those_of_the_formula(opacity, copies):
    new, factor = as_written(opacity, copies)
    scales = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64)
    shapes = relocated_shapes(torch.tensor([opacity], dtype=torch.float64), scales, torch.tensor([copies]))
    torch.testing.assert_close(shapes.opacities, torch.tensor([new], dtype=torch.float64), rtol=1e-9, atol=0)
    torch.testing.assert_close(shapes.scales, scales * factor, rtol=1e-7, atol=0)


def test_one_copy_is_the_original():
    opacities, scales = torch.rand(50) * 0.98 + 0.01, torch.rand(50, 3)
    shapes = relocated_shapes(opacities, scales, torch.ones(50, dtype=torch.long))
    torch.testing.assert_close(shapes.opacities, opacities)
    torch.testing.assert_close(shapes.scales, scales)


def test_copies_on_one_place_are_as_opaque_as_the_original():
    opacities, copies = torch.linspace(0.01, 0.99, 50), torch.arange(1, 51)
    shapes = relocated_shapes(opacities, torch.ones(50, 3), copies)
    torch.testing.assert_close(1 - (1 - shapes.opacities) ** copies, opacities, rtol=1e-5, atol=1e-6)


def test_copies_keep_the_light_that_a_line_across_the_gaussian_collects():
    """The formula makes the integral of the blended alpha along a line equal to that of the original."""
    x = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    for opacity, copies in [(0.3, 2), (0.8, 5), (0.95, 20)]:
        shapes = relocated_shapes(
            torch.tensor([opacity], dtype=torch.float64), torch.ones(1, 3, dtype=torch.float64), torch.tensor([copies])
        )
        one = opacity * torch.exp(-0.5 * x**2)
        many = 1 - (1 - shapes.opacities * torch.exp(-0.5 * (x / shapes.scales[0, 0]) ** 2)) ** copies
        torch.testing.assert_close(many.sum(), one.sum(), rtol=1e-6, atol=0)


def test_more_copies_than_the_limit_count_as_the_limit():
    opacities, scales = torch.tensor([0.5, 0.5]), torch.ones(2, 3)
    shapes = relocated_shapes(opacities, scales, torch.tensor([MOST_COPIES, 10 * MOST_COPIES]))
    assert torch.equal(shapes.opacities[0], shapes.opacities[1])
    assert torch.equal(shapes.scales[0], shapes.scales[1])


def test_an_opaque_gaussian_has_finite_copies():
    shapes = relocated_shapes(torch.tensor([1 - 6e-8]), torch.ones(1, 3), torch.tensor([MOST_COPIES]))
    assert torch.isfinite(shapes.scales).all()
    assert 0 < shapes.opacities[0] < 1

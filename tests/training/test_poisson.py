"""Poisson's equation by two networks: the pieces against known functions, and short solutions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch import nn

from qsplat.fields.rffca import RffcaNetwork
from qsplat.frequency_tokens import Tokens
from qsplat.training.optimizers import Rate
from qsplat.training.poisson import (
    DualNetwork,
    Poisson,
    PoissonConfig,
    _linearised,
    _loss,
    minus_laplacian,
    mixing_factor,
    solve,
)


@pytest.fixture(autouse=True)
def _double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def waves(mu: float, *, dims: int = 1) -> Poisson:
    """The sum of sin(mu x) over the axes."""
    return Poisson(
        lambda points: mu**2 * torch.sin(mu * points).sum(dim=1, keepdim=True),
        lambda points: torch.sin(mu * points).sum(dim=1, keepdim=True),
        low=0.0,
        dims=dims,
    )


def plain(width: int = 16, dims: int = 1) -> nn.Module:
    return nn.Sequential(nn.Linear(dims, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))


def attending(dims: int = 1) -> RffcaNetwork:
    return RffcaNetwork(Tokens(base=8, sigma=0.2), dims=dims, outputs=1, width=8, depth=1)


def error(network: nn.Module, problem: Poisson) -> float:
    """Relative L2 error inside."""
    with torch.no_grad():
        points = problem.inside(500)
        exact = problem.solution(points)
        return float((network(points) - exact).norm() / exact.norm())


@given(st.integers(0, 2**16), st.floats(0, 10))
def test_the_closed_factor_is_the_minimiser_that_scipy_finds(seed: int, gamma: float):
    generator = torch.Generator().manual_seed(seed)
    residual, low = (torch.randn(30, 1, generator=generator) for _ in range(2))
    boundary = torch.randn(4, 1, generator=generator)

    def loss(alpha: float) -> float:
        return float((residual + alpha * low).square().mean() + gamma * (alpha * boundary).square().mean())

    found = float(mixing_factor(residual, low, boundary, gamma=gamma))
    assert found == pytest.approx(float(minimize_scalar(loss).x), abs=1e-6)


def test_the_factor_of_a_network_that_changes_nothing_is_zero():
    nothing = torch.zeros(5, 1)
    assert mixing_factor(torch.ones(5, 1), nothing, nothing, gamma=3.0) == 0


@pytest.mark.parametrize(
    ("dims", "function", "expected"),
    [
        (1, lambda x: torch.sin(3 * x), lambda x: 9 * torch.sin(3 * x)),
        (1, lambda x: x**3, lambda x: -6 * x),
        (1, lambda x: 2 * x, lambda x: 0 * x),
        (1, lambda x: 0 * x + 2, lambda x: 0 * x),
        (
            2,
            lambda x: torch.sin(x.square()).sum(dim=1, keepdim=True),
            lambda x: (4 * x.square() * torch.sin(x.square()) - 2 * torch.cos(x.square())).sum(dim=1, keepdim=True),
        ),
        (
            2,
            lambda x: torch.sin(2 * x[:, :1]) * torch.cos(5 * x[:, 1:]),
            lambda x: 29 * torch.sin(2 * x[:, :1]) * torch.cos(5 * x[:, 1:]),
        ),
    ],
)
def test_the_laplacian_is_that_of_the_formula(dims: int, function: Any, expected: Any):
    points = torch.rand(20, dims)
    torch.testing.assert_close(minus_laplacian(function, points), expected(points))


def test_the_laplacian_has_gradients_to_the_weights_and_leaves_the_points_alone():
    weight, points = torch.tensor(3.0, requires_grad=True), torch.rand(9, 1)
    assert torch.autograd.gradcheck(lambda w: minus_laplacian(lambda x: torch.sin(w * x), points), weight)
    assert not points.requires_grad


def test_points_lie_inside_and_on_the_boundary():
    line, box = Poisson(torch.sin, torch.sin, -1.0, 3.0), Poisson(torch.sin, torch.sin, 0.0, 2.0, dims=3)
    assert line.inside(4).flatten().tolist() == [-0.5, 0.5, 1.5, 2.5]
    assert line.boundary(7).flatten().tolist() == [-1.0, 3.0]
    inside, boundary = box.inside(100), box.boundary(5)
    assert inside.shape == (100, 3)
    assert 0 <= inside.min() < inside.max() <= 2
    assert boundary.shape == (30, 3)
    assert bool(((boundary == 0) | (boundary == 2)).any(dim=1).all())


@pytest.mark.parametrize(
    ("dims", "steps", "refinements", "limit"), [(1, 300, 0, 0.1), (1, 30, 20, 1e-3), (2, 30, 20, 0.02)]
)
def test_a_short_run_solves_a_slow_wave(dims: int, steps: int, refinements: int, limit: float):
    problem = waves(3.0, dims=dims)
    torch.manual_seed(0)
    config = PoissonConfig(
        "none", steps, refinements, inside=100, boundary=20, gamma=10.0, rate=Rate(1e-2, 1e-3, "exponential")
    )
    network = solve(problem, plain(dims=dims), plain(dims=dims), config, on_step=lambda step, loss: None)
    assert error(network, problem) < limit


@pytest.mark.parametrize("mixing", ["closed", "learnt", "none"])
@pytest.mark.parametrize("dims", [1, 2])
def test_what_is_refined_has_the_value_and_the_gradient_of_the_loss(mixing: Any, dims: int):
    problem = waves(5.0, dims=dims)
    torch.manual_seed(2)
    network = DualNetwork(attending(dims), plain(dims=dims), learnt=mixing == "learnt")
    config, inside, boundary = PoissonConfig(mixing, gamma=3.0), problem.inside(20), problem.boundary(4)
    loss = _loss(network, problem, config, inside, boundary)
    loss.backward()
    expected = [one.grad.flatten() for one in network.parameters() if one.requires_grad and one.grad is not None]
    residuals, slopes = _linearised(network, problem, config, inside, boundary)
    torch.testing.assert_close(residuals.square().sum(), loss.detach())
    found = 2 * residuals @ slopes
    if mixing == "none":
        assert not found[sum(one.numel() for one in network.high.parameters() if one.requires_grad) :].any()
        found = found[: sum(len(one) for one in expected)]
    torch.testing.assert_close(found, torch.cat(expected))


@pytest.mark.parametrize("mixing", ["closed", "learnt", "none"])
def test_every_mixing_reduces_the_loss_and_says_every_step(mixing: Any):
    problem, said = waves(20.0), []
    torch.manual_seed(0)
    config = PoissonConfig(mixing, 20, 5, inside=60, rate=Rate(5e-3, 1e-3, "exponential"))
    network = solve(problem, attending(), plain(), config, on_step=lambda step, loss: said.append((step, loss)))
    assert [step for step, _ in said] == list(range(len(said)))
    assert len(said) == 25
    assert said[-1][1] < said[19][1] / 4 < said[0][1] / 4
    assert (network.factor.item() == 0) == (mixing == "none")


@pytest.mark.parametrize("refinements", [0, 2])
def test_the_closed_factor_is_the_best_one_for_the_networks_in_the_end(refinements: int):
    problem = waves(5.0)
    torch.manual_seed(1)
    config = PoissonConfig("closed", 3, refinements, inside=50, gamma=1.0)
    network = solve(problem, attending(), plain(), config, on_step=lambda step, loss: None)
    points, ends = problem.inside(50), problem.boundary(1)
    source = problem.source(points)
    residual = minus_laplacian(network.high, points).detach() - source
    added = minus_laplacian(network.low, points).detach()
    edge = network.low(ends).detach()

    def loss(alpha: float) -> float:
        square = (residual + alpha * added).square().mean() / source.square().mean()
        return float(square + (alpha * edge).square().mean())

    alpha = network.factor.item()
    assert alpha == pytest.approx(float(minimize_scalar(loss).x), rel=1e-4)
    assert loss(alpha) < loss(0.0)


def test_an_equation_without_a_source_is_refused():
    nothing = Poisson(lambda points: 0 * points, lambda points: points)
    with pytest.raises(ValueError, match="the source is 0 at all points"):
        solve(nothing, attending(), plain(), PoissonConfig(steps=1), on_step=lambda step, loss: None)


def test_the_solution_is_the_sum_of_both_networks():
    network, points = DualNetwork(attending(), plain(), learnt=True), torch.rand(6, 1)
    torch.testing.assert_close(network(points), network.high(points) + network.low(points))
    assert network.factor.requires_grad
    assert not DualNetwork(plain(), plain()).factor.requires_grad


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"inside": 0}, "inside=0"),
        ({"boundary": 0}, "boundary=0"),
        ({"refinements": -1}, "refinements=-1"),
        ({"gamma": -0.5}, "gamma=-0.5"),
        ({"gamma": math.nan}, "gamma=nan"),
        ({"gamma": math.inf}, "gamma=inf"),
    ],
)
def test_what_cannot_be_solved_with_is_refused_with_the_value(wrong: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        replace(PoissonConfig(), **wrong)


def test_a_mixing_that_there_is_not_is_refused_with_those_that_there_are():
    """Past the annotations, which the tests execute and a program does not."""
    config = PoissonConfig()
    object.__setattr__(config, "mixing", "best")
    with pytest.raises(ValueError, match="mixing='best': choose one of closed, learnt, none"):
        config.__post_init__()

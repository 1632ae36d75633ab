"""Poisson's equation by two networks: one for fast waves, one for what is left, mixed by a factor.

u = u_h + alpha u_l solves -laplace u = f in a box, with u = g on its boundary. The loss is

    mean over the inside of (N[u_h] + alpha N[u_l] - f)^2 / mean f^2
    + gamma (mean over the boundary of (u_h - g)^2 + alpha^2 u_l^2),        N = -laplace,

and is quadratic in alpha, so that the best alpha is known in closed form at every step.

Source: Feng, Tang, Wan and Zhou 2025 (arXiv 2512.18586), where u_h attends to waves and u_l is a plain network. To
divide by the mean of f^2 is our choice: it makes gamma a number without units.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from qsplat.training.optimizers import Rate
from qsplat.training.schedule import Schedule

Function = Callable[[Tensor], Tensor]
"""Points [n, dims] to values [n, 1]."""
Mixing = Literal["closed", "learnt", "none"]


@dataclass(frozen=True)
class Poisson:
    """-laplace u = ``source`` for points within ``low`` and ``high`` along each of ``dims`` axes, and u = ``solution``
    on the boundary. Inside, the solution is for measuring alone."""

    source: Function
    solution: Function
    low: float = -1.0
    high: float = 1.0
    dims: int = 1

    def inside(self, count: int) -> Float[Tensor, "n dims"]:
        """The middles of ``count`` equal parts of an interval, because fast errors at random points would pass for slow
        ones; random points of boxes of more dimensions."""
        shares = torch.rand(count, self.dims)
        if self.dims == 1:
            shares = (torch.arange(count)[:, None] + 0.5) / count
        return self.low + (self.high - self.low) * shares

    def boundary(self, count: int) -> Float[Tensor, "n dims"]:
        """The two ends of an interval; ``count`` random points on each face of a box of more dimensions."""
        faces = []
        for axis in range(self.dims):
            for end in (self.low, self.high):
                points = self.inside(1 if self.dims == 1 else count)
                points[:, axis] = end
                faces.append(points)
        return torch.cat(faces)


@dataclass(frozen=True)
class PoissonConfig:
    """How to solve.

    Args:
        mixing: alpha in closed form at every step, learnt with the networks, or 0, which leaves u_h alone.
        steps: of Adam, the norm of gradients clipped to 1.
        refinements: evaluations of the loss by L-BFGS after that, all at the same points. Our choice: an error of k
            waves counts k^4 in the loss, so that the slow ones are left over, and Adam, which the authors use alone,
            needs many times more steps to reach them.
        inside: points of each step.
        boundary: points of each face and step, in more than one dimension.
        gamma: weight of the boundary.
        rate: of Adam over the run.

    Raises:
        ValueError: no steps, no points, a weight below 0, or a mixing that is none.
    """

    mixing: Mixing = "closed"
    steps: int = 5000
    refinements: int = 0
    inside: int = 1000
    boundary: int = 100
    gamma: float = 100.0
    rate: Rate = field(default_factory=lambda: Rate(1e-3, 1e-5, "exponential"))

    def __post_init__(self) -> None:
        if min(self.steps, self.inside, self.boundary) < 1:
            raise ValueError(
                f"steps={self.steps}, inside={self.inside}, boundary={self.boundary}: a run has at least 1 of each"
            )
        if self.refinements < 0:
            raise ValueError(f"refinements={self.refinements}: there are 0 or more")
        if not 0 <= self.gamma < math.inf:
            raise ValueError(f"gamma={self.gamma}: the boundary's weight is finite and at least 0")
        if self.mixing not in get_args(Mixing):
            raise ValueError(f"mixing={self.mixing!r}: choose one of {', '.join(get_args(Mixing))}")


class DualNetwork(nn.Module):
    """u_h + alpha u_l. ``factor`` is alpha, 1 at birth if it is ``learnt`` (our choice) and 0 otherwise."""

    def __init__(self, high: nn.Module, low: nn.Module, *, learnt: bool = False) -> None:
        super().__init__()
        self.high, self.low = high, low
        self.factor = nn.Parameter(torch.full((), float(learnt)), requires_grad=learnt)

    def forward(self, points: Float[Tensor, "n dims"]) -> Float[Tensor, "n 1"]:
        """The solution at ``points``."""
        return self.high(points) + self.factor * self.low(points)


def solve(
    problem: Poisson, high: nn.Module, low: nn.Module, config: PoissonConfig, *, on_step: Callable[[int, float], None]
) -> DualNetwork:
    """Train ``high`` and ``low`` together. ``on_step`` is given each evaluation of the loss, by its number and value.

    Points and networks are of PyTorch's default type; so are the random numbers, from its global generator.
    """
    network = DualNetwork(high, low, learnt=config.mixing == "learnt")
    moved = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(moved, lr=config.rate.initial)
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.rate.at(step, Schedule(config.steps))
        loss = _loss(network, problem, config, problem.inside(config.inside), problem.boundary(config.boundary))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(moved, 1.0)
        optimizer.step()
        on_step(step, loss.item())
    if config.refinements:
        _refine(network, problem, config, moved, on_step)
    return network


def _refine(
    network: DualNetwork,
    problem: Poisson,
    config: PoissonConfig,
    moved: list[nn.Parameter],
    on_step: Callable[[int, float], None],
) -> None:
    """Go on by L-BFGS. Its line search may need a few evaluations more than there are."""
    inside, boundary = problem.inside(config.inside), problem.boundary(config.boundary)
    optimizer = torch.optim.LBFGS(
        moved,
        max_iter=config.refinements,
        max_eval=config.refinements,
        history_size=50,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )
    numbers = itertools.count(config.steps)

    def evaluate() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = _loss(network, problem, config, inside, boundary)
        loss.backward()
        on_step(next(numbers), loss.item())
        return loss

    optimizer.step(evaluate)


def mixing_factor(
    residual: Float[Tensor, "n 1"], low: Float[Tensor, "n 1"], boundary: Float[Tensor, "m 1"], *, gamma: float
) -> Float[Tensor, ""]:
    """The alpha that makes mean (residual + alpha low)^2 + gamma mean (alpha boundary)^2 smallest; 0 if any does.

    ``residual`` is N[u_h] - f, ``low`` N[u_l], ``boundary`` u_l on the boundary. The authors leave the term with gamma
    out in practice; we keep it, because it belongs to the loss that is made smallest.
    """
    square = low.square().mean() + gamma * boundary.square().mean()
    return torch.where(square > 0, -(residual * low).mean() / square, 0.0)


def minus_laplacian(function: Function, points: Float[Tensor, "n dims"]) -> Float[Tensor, "n 1"]:
    """-laplace of ``function``, whose value at a point depends on that point alone, with gradients to what it is made
    of."""
    points = points.detach().requires_grad_()
    (slopes,) = torch.autograd.grad(function(points).sum(), points, create_graph=True, materialize_grads=True)
    total = torch.zeros_like(points[:, :1])
    for axis, slope in enumerate(slopes.unbind(dim=1)):
        if slope.requires_grad:
            (curve,) = torch.autograd.grad(slope.sum(), points, create_graph=True, materialize_grads=True)
            total = total - curve[:, axis, None]
    return total


def _loss(
    network: DualNetwork,
    problem: Poisson,
    config: PoissonConfig,
    inside: Float[Tensor, "n dims"],
    boundary: Float[Tensor, "m dims"],
) -> Float[Tensor, ""]:
    """The loss, in the closed form with the best alpha, which is then the network's."""
    source = problem.source(inside)
    scale = source.square().mean().rsqrt()
    residual = scale * (minus_laplacian(network.high, inside) - source)
    wrong = (network.high(boundary) - problem.solution(boundary)).square().mean()
    if config.mixing == "none":
        return residual.square().mean() + config.gamma * wrong
    low, edge = scale * minus_laplacian(network.low, inside), network.low(boundary)
    if config.mixing == "closed":
        network.factor.data = mixing_factor(residual, low, edge, gamma=config.gamma).detach()
    mixed = residual + network.factor * low
    return mixed.square().mean() + config.gamma * (wrong + (network.factor * edge).square().mean())

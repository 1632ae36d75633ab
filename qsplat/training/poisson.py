"""Poisson's equation by two networks: one for fast waves, one for what is left, mixed by a factor.

u = u_h + alpha u_l solves -laplace u = f in a box, with u = g on its boundary. The loss is

    mean over the inside of (N[u_h] + alpha N[u_l] - f)^2 / mean f^2
    + gamma (mean over the boundary of (u_h - g)^2 + alpha^2 u_l^2),        N = -laplace,

and is quadratic in alpha, so that the best alpha is known in closed form at every step.

Source: Feng, Tang, Wan and Zhou 2025 (arXiv 2512.18586), where u_h attends to waves and u_l is a plain network. To
divide by the mean of f^2 is our choice: it makes gamma a number without units.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, hessian, vmap
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from qsplat.training.optimizers import Rate
from qsplat.training.schedule import Schedule

Function = Callable[[Tensor], Tensor]
"""Points [n, dims] to values [n, 1]."""
Mixing = Literal["closed", "learnt", "none"]
FIRST_DAMPING, TRIES = 1e-2, 12
"""Of the steps of Levenberg and Marquardt: the damping of the first, and how often one is damped more before they
end."""


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
        refinements: steps of Levenberg and Marquardt after that, all at the same points. Our choice: an error of k
            waves counts k^4 in the loss, so that the slow ones are left over, and Adam, which the authors use alone,
            needs thousands of steps to reach them. A step solves as many equations as there are points.
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
    """Train ``high`` and ``low`` together. ``on_step`` is given the number of each step and the loss that it found.

    Points and networks are of PyTorch's default type; so are the random numbers, from its global generator.

    Raises:
        ValueError: the source is 0 everywhere.
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
    inside, boundary = problem.inside(config.inside), problem.boundary(config.boundary)
    if config.refinements:
        _refine(network, problem, config, inside, boundary, moved, on_step)
    # In the closed form, the alpha of the last weights
    _loss(network, problem, config, inside, boundary)
    return network


def _refine(
    network: DualNetwork,
    problem: Poisson,
    config: PoissonConfig,
    inside: Float[Tensor, "n dims"],
    boundary: Float[Tensor, "m dims"],
    moved: list[nn.Parameter],
    on_step: Callable[[int, float], None],
) -> None:
    """Go on by damped steps of Gauss and Newton (Levenberg 1944, Marquardt 1963), each of which is taken if the loss
    falls, and damped more otherwise."""
    here, damping = parameters_to_vector(moved).detach(), FIRST_DAMPING

    def loss_at(place: Float[Tensor, " p"]) -> float:
        vector_to_parameters(place, moved)
        return _loss(network, problem, config, inside, boundary).item()

    for step in range(config.steps, config.steps + config.refinements):
        loss = loss_at(here)
        on_step(step, loss)
        residuals, slopes = _linearised(network, problem, config, inside, boundary)
        products = slopes @ slopes.T
        for _ in range(TRIES):
            damped = products + damping * torch.eye(len(products))
            there = here - slopes.T @ torch.linalg.solve(damped, residuals)
            if loss_at(there) < loss:
                here, damping = there, damping / 3
                break
            damping *= 4
        else:
            break
    vector_to_parameters(here, moved)


def _linearised(
    network: DualNetwork,
    problem: Poisson,
    config: PoissonConfig,
    inside: Float[Tensor, "n dims"],
    boundary: Float[Tensor, "m dims"],
) -> tuple[Float[Tensor, " r"], Float[Tensor, "r p"]]:
    """Numbers whose squares add up to the loss with alpha as it is, and their derivatives by what is learnt."""
    learnt = {name: parameter.detach() for name, parameter in network.named_parameters() if parameter.requires_grad}
    source = problem.source(inside)[:, 0]
    within = source.square().mean().rsqrt() / math.sqrt(len(inside))
    edge = math.sqrt(config.gamma / len(boundary))

    def part(of: nn.Module, prefix: str, values: dict[str, Tensor], point: Tensor) -> Tensor:
        own = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
        return functional_call(of, own, (point[None],))[0, 0]

    def high(values: dict[str, Tensor], point: Tensor) -> Tensor:
        return part(network.high, "high.", values, point)

    def low(values: dict[str, Tensor], point: Tensor) -> Tensor:
        return values.get("factor", network.factor.detach()) * part(network.low, "low.", values, point)

    def equation(values: dict[str, Tensor], point: Tensor, wanted: Tensor) -> Tensor:
        def mixed(place: Tensor) -> Tensor:
            return high(values, place) + low(values, place)

        return within * (-hessian(mixed)(point).trace() - wanted)

    def edge_high(values: dict[str, Tensor], point: Tensor, wanted: Tensor) -> Tensor:
        return edge * (high(values, point) - wanted)

    def edge_low(values: dict[str, Tensor], point: Tensor, wanted: Tensor) -> Tensor:
        del wanted
        return edge * low(values, point)

    given = problem.solution(boundary)[:, 0]
    residuals, rows = [], []
    for residual, points, wanted in (
        (equation, inside, source),
        (edge_high, boundary, given),
        (edge_low, boundary, given),
    ):
        slopes, values = vmap(grad_and_value(residual), (None, 0, 0))(learnt, points, wanted)
        residuals.append(values)
        rows.append(torch.cat([slopes[name].reshape(len(points), -1) for name in learnt], dim=1))
    return torch.cat(residuals), torch.cat(rows)


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
    if not scale.isfinite():
        raise ValueError("the source is 0 at all points: the loss is divided by it; there is nothing to solve by it")
    residual = scale * (minus_laplacian(network.high, inside) - source)
    wrong = (network.high(boundary) - problem.solution(boundary)).square().mean()
    if config.mixing == "none":
        return residual.square().mean() + config.gamma * wrong
    low, edge = scale * minus_laplacian(network.low, inside), network.low(boundary)
    if config.mixing == "closed":
        network.factor.data = mixing_factor(residual, low, edge, gamma=config.gamma).detach()
    mixed = residual + network.factor * low
    return mixed.square().mean() + config.gamma * (wrong + (network.factor * edge).square().mean())

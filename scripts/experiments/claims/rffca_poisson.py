"""Poisson's equation with fast waves: attention, and a second network for what is left.

Claim: under the loss of a differential equation the bias reverses, fast waves come first; for 1D Poisson with fast
    waves attention beats the same network without it, NN-CA is best, and a plain network added with a factor helps: a
    learnt factor has the smallest loss, the one in closed form the smallest error, none is worst.
Setting: -u'' = mu^2 sin(mu x) on [0, 1] with mu = 100 (the simplification of it that is known; the source's mixture has
    unknown coefficients), values on the boundary by a penalty. 50 steps of Adam at 5e-3, then 60 of Levenberg and
    Marquardt, at 512 even points, in double precision. The source has Adam alone for many more steps: an error of k
    waves counts k^4 in the loss, and after 500 steps of Adam, or 300 evaluations by L-BFGS, nothing was solved here.
    128 waves in 4 octaves, sigma 0.02, width 32, 1 block; the same without attention made wider until it is as large;
    the added network has 2 layers of 16 and vanishes on the boundary. The closed form keeps the boundary's term, which
    the authors leave out. Half as many waves, with sigma 0.04 and 256 points, were tried before: one seed of five was
    solved. Bias: u = sin(pi x) + sin(5 pi x) + sin(20 pi x), RFF-CA of width 16 with sigma 0.04, 400 steps of Adam at
    2e-3, the error of each of its waves. Relative L2 errors, at 2000 points.
Source: Feng et al. 2025 (arXiv 2512.18586), as others report it; the paper shows curves and no tables.
Expectation: the reversed bias. With second-order steps every network may solve the equation, so that the orders, which
    are of first-order training, need not show. Two networks are not compared where neither solves the
    equation (median errors above 0.5).
"""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from claims.drawing import bars, canvas, curves, save
from claims.record import Setting, Verdict, larger
from claims.waves import Kind, network_of
from torch import Tensor, nn

from qsplat.training.optimizers import Rate
from qsplat.training.poisson import Mixing, Poisson, PoissonConfig, solve

MU = 100.0
WIDTH, SIGMA = 32, 0.02
CASES: dict[str, tuple[Kind, Mixing]] = {
    "RFF-NN": ("RFF-NN", "none"),
    "NN-CA": ("NN-CA", "none"),
    "RFF-CA": ("RFF-CA", "none"),
    "RFF-CA, learnt": ("RFF-CA", "learnt"),
    "RFF-CA, closed": ("RFF-CA", "closed"),
}
HALF_WAVES = (1, 5, 20)
SOLVED, USEFUL = 0.1, 0.5
"""Relative errors of a solution, and of what can be compared with others at all."""


NO_LOSS = 1e-12
"""Losses below are not compared: networks that fit the points to the last digit differ there by their rounding."""


def measure(setting: Setting) -> dict[str, Any]:
    """Losses, errors and factors of every network, and the errors of three waves along a training, for every seed."""
    adam, refinements, points, biased, every = (2, 2, 16, 4, 2) if setting.quick else (50, 60, 512, 400, 5)
    torch.set_default_dtype(torch.float64)
    try:
        runs = [
            {
                "seed": seed,
                **{name: _solved(name, seed, adam, refinements, points) for name in CASES},
                "waves": _errors_of_waves(seed, biased, every),
            }
            for seed in setting.each_seed()
        ]
    finally:
        torch.set_default_dtype(torch.float32)
    return {"steps": list(range(0, biased, every)), "runs": runs}


def judge(figures: dict[str, Any]) -> list[Verdict]:
    """Which wave is learnt first; errors and losses against each other, in decades."""
    runs = figures["runs"]
    error, loss = (
        {name: [-math.log10(max(run[name][value], least)) for run in runs] for name in CASES}
        for value, least in (("error", 0.0), ("loss", NO_LOSS))
    )
    solved = {name: sum(run[name]["error"] < SOLVED for run in runs) for name in CASES}
    medians = ", ".join(f"{name} {statistics.median(run[name]['error'] for run in runs):.2g}" for name in CASES)
    factors = ", ".join(f"{name} {statistics.median(run[name]['factor'] for run in runs):+.2g}" for name in CASES)
    plain, learnt, closed = "RFF-CA", "RFF-CA, learnt", "RFF-CA, closed"

    def smaller(claim: str, one: str, other: str) -> Verdict:
        found = larger(claim, error[one], error[other], unit="decades")
        if min(statistics.median(run[name]["error"] for run in runs) for name in (one, other)) < USEFUL:
            return found
        return replace(found, held=None, by=f"{found.by}; open, because neither solves the equation")

    return [
        _bias(figures),
        Verdict(
            f"RFF-CA solves the equation to {SOLVED:.0%}",
            solved[plain] == len(runs),
            f"{solved[plain]} of {len(runs)} seeds; median errors: {medians}; median factors: {factors}",
        ),
        smaller("RFF-CA has a smaller error than RFF-NN", plain, "RFF-NN"),
        smaller("NN-CA has a smaller error than RFF-CA", "NN-CA", plain),
        larger("a learnt factor has a smaller loss than none", loss[learnt], loss[plain], unit="decades"),
        larger("a learnt factor has a smaller loss than the closed form", loss[learnt], loss[closed], unit="decades"),
        smaller("the closed form has a smaller error than no factor", closed, plain),
        smaller("the closed form has a smaller error than a learnt factor", closed, learnt),
    ]


def _bias(figures: dict[str, Any]) -> Verdict:
    """Whether the fastest wave is learnt before the slowest; open where some seeds learn neither."""
    runs = figures["runs"]
    when = [[_first_below(run["waves"], place) for place in range(len(HALF_WAVES))] for run in runs]
    fast, slow = (sum(one[first] < one[second] for one in when) for first, second in ((-1, 0), (0, -1)))
    neither = len(runs) - fast - slow
    return Verdict(
        f"the wave of {HALF_WAVES[-1]} halves is halved in error before that of {HALF_WAVES[0]}",
        None if neither and not slow else not slow,
        f"{fast} of {len(runs)} seeds; the other one first in {slow}, neither so far in {neither}",
    )


def draw(figures: dict[str, Any], path: Path) -> None:
    """Errors of the three waves, and errors and losses in the end."""
    runs = figures["runs"]
    with canvas(1, 3) as (figure, axes):
        waves = {
            f"{count} half waves": [[row[place] for row in run["waves"]] for run in runs]
            for place, count in enumerate(HALF_WAVES)
        }
        curves(axes[0, 0], figures["steps"], waves, label="error of the wave, relative")
        axes[0, 0].set(yscale="log", xlabel="step of Adam", title="bias under the loss of the equation")
        axes[0, 0].legend()
        for axis, value, label, least in (
            (axes[0, 1], "error", "relative L2 error (decades below 1)", 0.0),
            (axes[0, 2], "loss", f"loss, from {NO_LOSS:g} on (decades below 1)", NO_LOSS),
        ):
            bars(
                axis, {name: [-math.log10(max(run[name][value], least)) for run in runs] for name in CASES}, label=label
            )
            axis.set_title(f"mu = {MU:g}, in the end")
        save(figure, path)


def _first_below(waves: list[list[float]], place: int) -> int:
    """The first row in which a wave has less than half of its error at the start; one beyond the last if none."""
    return next((row for row, errors in enumerate(waves) if errors[place] < 0.5 * waves[0][place]), len(waves))


def _problem(*frequencies: float) -> Poisson:
    """Whose solution is a sum of sines of these frequencies, in radians per unit."""
    given = torch.tensor(frequencies)

    def source(points: Tensor) -> Tensor:
        return (given**2 * torch.sin(given * points)).sum(dim=1, keepdim=True)

    def solution(points: Tensor) -> Tensor:
        return torch.sin(given * points).sum(dim=1, keepdim=True)

    return Poisson(source, solution, low=0.0)


class Added(nn.Module):
    """A plain network of 2 layers times x (1 - x): with the boundary's term in its loss, one that does not vanish there
    is given a factor near 0, and never learns."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, points: Tensor) -> Tensor:
        return points * (1 - points) * self.layers(points)


def _solved(name: str, seed: int, steps: int, refinements: int, points: int) -> dict[str, float]:
    """Loss, as the last step found it, error and factor in the end."""
    kind, mixing = CASES[name]
    problem, high = _problem(MU), network_of(kind, SIGMA, seed, width=WIDTH, depth=1)
    config = PoissonConfig(mixing, steps, refinements, inside=points, rate=Rate(5e-3, 1e-3, "exponential"))
    losses: list[float] = []
    network = solve(problem, high, Added(), config, on_step=lambda step, loss: losses.append(loss))
    with torch.no_grad():
        between = problem.inside(2000)
        exact = problem.solution(between)
        error = float((network(between) - exact).norm() / exact.norm())
    return {"loss": losses[-1], "error": error, "factor": network.factor.item()}


def _errors_of_waves(seed: int, steps: int, every: int) -> list[list[float]]:
    """Relative errors [steps][waves] of the sines of the solution, by projection."""
    problem = _problem(*(math.pi * count for count in HALF_WAVES))
    high = network_of("RFF-CA", 0.04, seed, width=16, depth=1)
    points = problem.inside(500)
    sines = torch.sin(math.pi * points * torch.tensor(HALF_WAVES))
    rows: list[list[float]] = []

    def watch(step: int, loss: float) -> None:
        if step % every == 0:
            with torch.no_grad():
                found = 2 * (sines * (high(points) - problem.solution(points))).mean(dim=0)
            rows.append([round(abs(value), 5) for value in found.tolist()])

    config = PoissonConfig("none", steps, inside=128, rate=Rate(2e-3, 2e-3))
    solve(problem, high, Added(), config, on_step=watch)
    return rows

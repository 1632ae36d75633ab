"""The tangent kernel: what it predicts of training, and what Fourier features do to it.

Claim: the tangent kernel of a wide network is that of the infinite limit and predicts its training; for a ReLU network
    of coordinates it falls fast with the frequency, and Fourier features make it wide.
Setting: (a) three-layer ReLU networks in the parametrisation of the limit, 12 points in 3 dimensions, widths 16 to
    1024: relative distance of the empirical from the closed kernel. (b) Gradient descent at a quarter of the largest
    stable rate, 200 steps, on 24 samples of random waves: distance of the training curve from the predicted one,
    relative to the error at the start, at each width; the same of the outputs halfway between the samples, which are
    not learnt. (c) ReLU networks of 4 layers of 256 channels on 64 samples of
    a period laid on a circle, plain and with Fourier features of deviation 2, 6 and 12 cycles: the kernel by
    frequency, and the slope of its logarithm by that of the frequency from 1 to 16 cycles. Double precision.
Source: Jacot et al. 2018; Lee et al. 2019; Tancik et al. 2020. Exponents of the decay differ between sources: they are
    fitted, not compared. Sizes are our choice.
Expectation: (a) the distance falls as the root of the width; (b) so does that of the curves; (c) the plain kernel
    falls as a power of the frequency, with Fourier features it stays flat up to about their deviation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from claims.drawing import canvas, curves, save
from claims.record import Setting, Verdict, interval
from torch import Tensor, nn

from qsplat.encodings import Fourier, encoder
from qsplat.fields.mlp import Mlp
from qsplat.spectra.ntk import LinearisedTraining, empirical_ntk, fourier_eigenvalues, relu_ntk

WIDTHS = (16, 64, 256, 1024)
SCALES = (2.0, 6.0, 12.0)
PLAIN = "plain"
HIGHEST = 16


class WideNetwork(nn.Module):
    """Three layers with ReLU whose weights are standard normal and multiplied by sqrt(2 / inputs), the first ones by
    1 / sqrt(dims), as the closed kernel has it."""

    def __init__(self, dims: int, width: int, *, generator: torch.Generator) -> None:
        super().__init__()
        sizes = pairwise((dims, width, width, 1))
        drawn = (torch.randn(to, of, generator=generator, dtype=torch.float64) for of, to in sizes)
        self.weights = nn.ParameterList(nn.Parameter(weight) for weight in drawn)

    def forward(self, points: Tensor) -> Tensor:
        """Values [n, 1] at points [n, dims]."""
        first, *others = self.weights
        channels = points @ first.T / math.sqrt(points.shape[1])
        for weight in others:
            channels = math.sqrt(2 / weight.shape[1]) * channels.relu() @ weight.T
        return channels


def measure(setting: Setting) -> dict[str, Any]:
    """Distances by width, training curves, and kernels by frequency, for every seed."""
    widths, steps, samples = ((16, 64), 20, 20) if setting.quick else (WIDTHS, 200, 64)
    runs = []
    for seed in setting.each_seed():
        generator = torch.Generator().manual_seed(seed)
        points = torch.randn(12, 3, generator=generator, dtype=torch.float64)
        _, limit = relu_ntk(points, points, layers=3)
        distances = []
        for width in widths:
            found = empirical_ntk(WideNetwork(3, width, generator=generator), points)
            distances.append(float((found - limit).norm() / limit.norm()))
        trainings = [_training(width, steps, generator) for width in widths]
        runs.append(
            {
                "distance": distances,
                "off": [one.off for one in trainings],
                "between": [one.between for one in trainings],
                "curves": [trainings[-1].trained, trainings[-1].predicted],
                "kernels": {name: _kernel(name, samples, seed) for name in _names()},
            }
        )
    return {"widths": list(widths), "runs": runs}


def judge(figures: dict[str, Any]) -> list[Verdict]:
    """The limit, the prediction, and the widths of the kernels."""
    runs, widths = figures["runs"], figures["widths"]
    slopes = [_slope(widths, run["distance"]) for run in runs]
    verdicts = [
        Verdict(
            "the kernel of a network tends to the closed one as it gets wider",
            all(run["distance"][-1] < run["distance"][0] for run in runs),
            f"distance {_mean(runs, 'distance', 0):.2f} at width {widths[0]} and {_mean(runs, 'distance', -1):.3f} at "
            f"{widths[-1]}, as the power {interval(slopes)} of the width",
        ),
        Verdict(
            "the kernel at the start predicts the training curve of a wide network",
            all(run["off"][-1] < 0.1 for run in runs),
            f"largest distance of the curves, of the error at the start: {_mean(runs, 'off', 0):.2f} at width "
            f"{widths[0]}, {_mean(runs, 'off', -1):.3f} at {widths[-1]}",
        ),
        Verdict(
            "it predicts as well what a wide network then says between its samples",
            all(run["between"][-1] < 0.1 for run in runs),
            f"distance of the outputs after training, of how far they have moved: {_mean(runs, 'between', 0):.2f} at "
            f"width {widths[0]}, {_mean(runs, 'between', -1):.3f} at {widths[-1]}",
        ),
    ]
    falls = {name: [_fall(run["kernels"][name]) for run in runs] for name in _names()}
    shown = ", ".join(f"{name} {interval(values)}" for name, values in falls.items())
    flatter = [
        all(one > other for one, other in pairwise(falls[name][seed] for name in falls)) for seed in range(len(runs))
    ]
    verdicts.append(
        Verdict(
            "the higher the deviation of Fourier features, the slower the kernel falls with the frequency",
            all(flatter),
            f"fitted power of the frequency, 1 to {HIGHEST} cycles: {shown}; in order for {sum(flatter)} of "
            f"{len(runs)} seeds",
        )
    )
    return verdicts


def draw(figures: dict[str, Any], path: Path) -> None:
    """Distance by width, a training curve and its prediction, kernels by frequency."""
    runs = figures["runs"]
    with canvas(1, 3) as (figure, axes):
        left, middle, right = axes[0]
        shown = {
            "kernel, from its limit": [run["distance"] for run in runs],
            "training, from its prediction": [run["off"] for run in runs],
            "between the samples, from its": [run["between"] for run in runs],
        }
        curves(left, figures["widths"], shown, label="relative distance")
        left.set(xscale="log", yscale="log", xlabel="width")
        left.legend(fontsize="small")
        for run in runs:
            middle.semilogy(run["curves"][0], color="tab:blue", label="trained")
            middle.semilogy(run["curves"][1], color="black", linestyle="--", label="predicted")
        middle.set(xlabel="step", ylabel="error, of that at the start", title=f"width {figures['widths'][-1]}")
        middle.legend(*_first_two(middle), fontsize="small")
        kernels = {name: [run["kernels"][name][1:] for run in runs] for name in _names()}
        curves(right, range(1, len(runs[0]["kernels"][PLAIN])), kernels, label="kernel, of its value at 1 cycle")
        right.set(xscale="log", yscale="log", xlabel="cycles")
        right.legend(fontsize="small")
        save(figure, path)


@dataclass(frozen=True)
class _Training:
    """Errors by step as they were and as the kernel at the start predicts them, relative to that at the start; and how
    far outputs between the samples end from their prediction, of how far they have moved."""

    trained: list[float]
    predicted: list[float]
    between: float

    @property
    def off(self) -> float:
        """The largest distance of the curves."""
        return max(abs(a - b) for a, b in zip(self.trained, self.predicted, strict=True))


def _training(width: int, steps: int, generator: torch.Generator) -> _Training:
    """Of 48 points around a circle every second one is learnt."""
    angles = torch.arange(48, dtype=torch.float64) / 48 * 2 * math.pi
    points = torch.stack([angles.cos(), angles.sin()], dim=1)
    learnt, unseen = slice(0, None, 2), slice(1, None, 2)
    phases = torch.rand(3, generator=generator, dtype=torch.float64) * 2 * math.pi
    target = sum(torch.sin((k + 1) * angles[learnt] + phase) for k, phase in enumerate(phases))
    network = WideNetwork(2, width, generator=generator)
    kernel = empirical_ntk(network, points)
    linearised = LinearisedTraining.of(kernel[learnt, learnt])
    rate = 0.5 / float(linearised.values[0])
    with torch.no_grad():
        before = network(points)[:, 0]
    start = before[learnt] - target
    trained, predicted = [], []
    for step in range(steps + 1):
        error = network(points[learnt])[:, 0] - target
        trained.append(float(error.detach().norm() / start.norm()))
        predicted.append(float(linearised.residual(start, rate=rate, step=step).norm() / start.norm()))
        if step == steps:
            break
        slopes = torch.autograd.grad(0.5 * error.square().sum(), list(network.parameters()))
        with torch.no_grad():
            for weight, slope in zip(network.parameters(), slopes, strict=True):
                weight -= rate * slope
    with torch.no_grad():
        moved = (network(points)[:, 0] - before)[unseen]
    expected = linearised.elsewhere(kernel[unseen, learnt], start, rate=rate, step=steps)
    return _Training(trained, predicted, float((moved - expected).norm() / moved.norm()))


def _kernel(name: str, samples: int, seed: int) -> list[float]:
    """The kernel by frequency of a network on a period, relative to that at 1 cycle."""
    torch.manual_seed(seed)
    turns = torch.arange(samples) / samples
    if name == PLAIN:
        inputs = torch.stack([torch.cos(2 * math.pi * turns), torch.sin(2 * math.pi * turns)], dim=1)
    else:
        scale = float(name.rsplit(" ", 1)[-1])
        # Whole numbers of cycles, so that the period is one
        encoding = encoder(Fourier(features=128, scale=scale, seed=seed), 1)
        encoding.frequencies = encoding.get_buffer("frequencies").round()
        inputs = encoding(turns[:, None])
    network = nn.Sequential(Mlp(inputs.shape[1], width=256, depth=3), nn.Linear(256, 1)).double()
    values = fourier_eigenvalues(empirical_ntk(network, inputs.double()))
    return (values / values[1]).tolist()


def _names() -> list[str]:
    return [PLAIN, *(f"Fourier {scale:g}" for scale in SCALES)]


def _fall(kernel: list[float]) -> float:
    """The power of the frequency with which the kernel falls, positive for a fall."""
    last = min(HIGHEST, len(kernel) - 1)
    return -_slope(range(1, last + 1), kernel[1 : last + 1])


def _slope(places: Any, values: Any) -> float:
    return float(np.polyfit(np.log(places), np.log(values), 1)[0])


def _mean(runs: list[dict[str, Any]], name: str, place: int) -> float:
    return float(np.mean([run[name][place] for run in runs]))


def _first_two(axis: Any) -> tuple[list[Any], list[str]]:
    lines, names = axis.get_legend_handles_labels()
    return lines[:2], names[:2]

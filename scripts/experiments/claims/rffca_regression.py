"""Cross-attention to random waves: regressions of one and two dimensions.

Claim: attention to waves beats the same network without attention: RFF-CA has smaller errors than RFF-NN on all made-up
    functions; on photos NN-CA, which begins with the coordinates alone, is better than RFF-NN.
Setting: one signal (waves of 2, 20 and 40 turns and a jump), two made-up images (a ring with a Gabor spiral, and a star
    of two values) and a photo of Kodak (of the bundled still life without data), another one for each seed, of 64x64
    pixels; coordinates from -1 to 1. 256 random points a step, or pixels of the photo, 300 steps of Adam at 3e-3 halved
    at two thirds, the norm of gradients clipped to 1, the mean squared error. Measured is the error relative to the
    function (of a photo: to it less its mean) on an even grid (of a photo: its pixels), in dB. 128 waves in 4 octaves,
    width 32, 2 blocks; networks without attention are made wider, until they have as many parameters. The source has
    500 to 5000 epochs of 4000 points or all pixels, and 512 waves, width 64, 4 blocks. The formulas of its functions
    are not known: these are ours.
Source: Feng et al. 2025 (arXiv 2512.18586), as others report it; the paper shows curves and no tables. Its photos are
    of DIV2K, which is not here.
Expectation: RFF-CA ahead of RFF-NN on the made-up functions; on photos a difference of less than a dB.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from claims.drawing import bars, canvas, curves, save
from claims.images import STILLLIFE, pixel_grid, square_photo
from claims.record import Setting, Verdict, larger
from claims.waves import KINDS, Kind, network_of, size
from torch import Tensor, nn

from qsplat.metrics.psnr import decibels

TASKS = ("signal", "ring and spiral", "star", "photo")
MADE_UP = TASKS[:3]
SIGMAS = {"signal": 1 / 32}
SIGMA, SIDE = 0.1, 64
Target = Callable[[Tensor], Tensor]
"""Points [n, dims] in [-1, 1] to values [n, channels]."""


def measure(setting: Setting) -> dict[str, Any]:
    """Relative L2 error of every network and task along the way, for every seed."""
    steps, every = (6, 3) if setting.quick else (300, 30)
    photos = sorted((setting.data / "images" / "kodak").glob("*.png")) if setting.data else []
    photos = photos or sorted(STILLLIFE.glob("**/*.jpg"))
    runs = []
    for seed in setting.each_seed():
        photo = _photo(square_photo(photos[seed % len(photos)], SIDE))
        targets: dict[str, Target] = {"signal": _signal, "ring and spiral": _ring, "star": _star, "photo": photo}
        runs.append(
            {
                "seed": seed,
                **{
                    task: {kind: _errors(kind, task, target, (steps, every), seed) for kind in KINDS}
                    for task, target in targets.items()
                },
            }
        )
    sizes = {kind: size(network_of(kind, SIGMA, 0, dims=2, outputs=3)) for kind in KINDS}
    return {"steps": list(range(0, steps + 1, every)), "parameters": sizes, "runs": runs}


def judge(figures: dict[str, Any]) -> list[Verdict]:
    """RFF-CA against RFF-NN, and NN-CA against RFF-NN on photos, by the decibels of the relative error."""
    last = {task: {kind: [_level(run[task][kind][-1]) for run in figures["runs"]] for kind in KINDS} for task in TASKS}
    verdicts = [
        larger(f"RFF-CA is better than RFF-NN on {task}", last[task]["RFF-CA"], last[task]["RFF-NN"], unit="dB")
        for task in TASKS
    ]
    made_up = {kind: [value for task in MADE_UP for value in last[task][kind]] for kind in KINDS}
    return [
        *verdicts,
        larger("NN-CA is better than RFF-NN on photos", last["photo"]["NN-CA"], last["photo"]["RFF-NN"], unit="dB"),
        larger("NN-CA is better than RFF-CA on photos", last["photo"]["NN-CA"], last["photo"]["RFF-CA"], unit="dB"),
        larger("NN-CA is better than NN on made-up functions", made_up["NN-CA"], made_up["NN"], unit="dB"),
    ]


def draw(figures: dict[str, Any], path: Path) -> None:
    """Errors along the way, and in the end."""
    with canvas(2, 4, panel=(3.6, 3)) as (figure, axes):
        for axis, task in zip(axes[0], TASKS, strict=True):
            values = {kind: [run[task][kind] for run in figures["runs"]] for kind in KINDS}
            curves(axis, figures["steps"], values, label="relative L2 error")
            axis.set(yscale="log", xlabel="step", title=task)
        axes[0, 0].legend(fontsize="small")
        for axis, task in zip(axes[1], TASKS, strict=True):
            values = {kind: [_level(run[task][kind][-1]) for run in figures["runs"]] for kind in KINDS}
            bars(axis, values, label="signal over error (dB)")
            axis.set_title(f"{task}, in the end")
        save(figure, path)


def _level(error: float) -> float:
    return decibels(error**2)


def _errors(kind: Kind, task: str, target: Target, plan: tuple[int, int], seed: int) -> list[float]:
    """Relative L2 error of a training, which the plan gives steps and those between two figures."""
    steps, every = plan
    dims = 1 if task == "signal" else 2
    grid = torch.linspace(-1, 1, 2049)[:, None] if dims == 1 else pixel_grid(SIDE, SIDE).reshape(-1, 2)
    truth = target(grid)
    network = network_of(kind, SIGMAS.get(task, SIGMA), seed, dims=dims, outputs=truth.shape[1])
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2 * steps // 3], gamma=0.5)
    found = []
    for step in range(steps + 1):
        if step % every == 0:
            with torch.no_grad():
                found.append(round(float((network(grid) - truth).norm() / truth.norm()), 5))
        points = grid[torch.randint(len(grid), (256,))] if task.startswith("photo") else 2 * torch.rand(256, dims) - 1
        loss = (network(points) - target(points)).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return found


def _signal(points: Tensor) -> Tensor:
    """Waves of 2, 20 and 40 turns over the interval, and a jump of 0.5 in its middle."""
    turns = math.pi * (points + 1)
    waves = torch.sin(2 * turns) + 0.5 * torch.sin(20 * turns + 0.3) + 0.5 * torch.cos(40 * turns - 0.2)
    return waves + 0.5 * (points > 0)


def _ring(points: Tensor) -> Tensor:
    """Fast waves in a sector, a thin ring, and a spiral under a Gaussian."""
    x, y = points.unbind(dim=1)
    radius, angle = points.norm(dim=1), torch.atan2(y, x)
    sector = torch.sin(40 * x) * torch.exp(-((angle - 0.8).square()) / 0.1)
    ring = torch.exp(-((radius - 0.7).square()) / 0.002)
    spiral = torch.cos(30 * radius + 3 * angle) * torch.exp(-radius.square() / 0.15)
    return (sector + ring + spiral)[:, None]


def _star(points: Tensor) -> Tensor:
    """1 in a star of seven rays, -1 outside."""
    x, y = points.unbind(dim=1)
    inside = points.norm(dim=1) < 0.55 + 0.25 * torch.cos(7 * torch.atan2(y, x))
    return torch.where(inside, 1.0, -1.0)[:, None]


def _photo(image: Tensor) -> Target:
    """A photo less its mean, at the centres of its pixels."""
    image = image - image.mean(dim=(0, 1))
    side = len(image)

    def values(points: Tensor) -> Tensor:
        column, row = ((points + 1) / 2 * side).long().clamp(0, side - 1).unbind(dim=1)
        return image[row, column]

    return values

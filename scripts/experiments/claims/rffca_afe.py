"""Frequencies that a network finds in its own output, added as tokens (AFE).

Claim: the Fourier transform of what the network has learnt tells the frequencies of the target, exactly 2, 20 and 40;
    tokens of these, held back and released in the last part of a second stage, make the error drop, below that of the
    same network trained on without them.
Setting: sin(2 pi 2x) + 0.5 sin(2 pi 20x + 0.3) + 0.5 cos(2 pi 40x - 0.2) on [0, 1]. A stage of 1000 steps and one of
    4000 (the source: 5000 each) of Adam at 3e-3, which shrinks to a third over each, the norm of gradients clipped to
    1, float32; 256 random ones of 2048 even points a step (all of them). 1024 points (4096) are transformed;
    frequencies above 2 % of the strongest are taken. Their tokens weigh nothing for 70 % of the second stage (e^-6),
    then ever more by a cosine, to as much as all others; their waves are as large as the bank's (larger). 128 waves in
    4 octaves, width 32, 2 blocks (512, 64, 3), sigma 0.02. Relative L2 error on 4096 points. The control goes on from
    the same state at the same rates with the same points.
Source: Feng et al. 2025 (arXiv 2512.18586), its one-dimensional experiment, as others report it: figures are not known.
Expectation: the three frequencies in every seed, if the first stage makes all others small enough; no difference
    before the release, a rise at it, and a drop if there are steps enough to adapt. Tried besides, with the same
    outcome: added waves as large as the source's, sqrt(2 / m), held at nothing too (-4.73 ± 2.39 dB against the
    control); and stages of 500 and 1000 steps with these waves and the source's e^-6 (-6.96 ± 1.25 dB), which in a
    trained network changed the values at once.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import torch
from claims.drawing import bars, canvas, curves, save
from claims.record import Setting, Verdict, larger
from torch import Tensor, nn

from qsplat.fields.rffca import HELD_SHARE, RffcaNetwork, dominant_modes
from qsplat.frequency_tokens import Tokens
from qsplat.training.optimizers import Rate
from qsplat.training.schedule import Schedule

TURNS = [2, 20, 40]
RATE = Rate(3e-3, 1e-3, "exponential")
POINTS, BATCH, TRANSFORMED, TESTED = 2048, 256, 1024, 4096
THRESHOLDS = (0.01, 0.02, 0.05, 0.1, 0.2)
NAMED = 0.02
"""The threshold of the source."""


def measure(setting: Setting) -> dict[str, Any]:
    """For every seed: frequencies found at several thresholds, and the relative L2 error along both stages, in the
    second with the added tokens and without."""
    (shorter, longer), every = ((10, 20), 5) if setting.quick else ((1000, 4000), 50)
    runs = []
    for seed in setting.each_seed():
        torch.manual_seed(seed)
        network = RffcaNetwork(Tokens(base=32, sigma=0.02, seed=seed), dims=1, outputs=1, width=32, depth=2)
        first = _train(network, shorter, every, seed=seed)
        with torch.no_grad():
            values = network(torch.arange(TRANSFORMED)[:, None] / TRANSFORMED)
        found = [dominant_modes(values, threshold=share).flatten().tolist()[:100] for share in THRESHOLDS]
        control = copy.deepcopy(network)
        network.enhance(low=0.0, high=1.0, size=TRANSFORMED, threshold=NAMED)
        runs.append(
            {
                "seed": seed,
                "found": found,
                "first": first,
                "enhanced": _train(network, longer, every, seed=seed, release=True),
                "control": _train(control, longer, every, seed=seed),
            }
        )
    return {
        "steps": [list(range(0, steps + 1, every)) for steps in (shorter, longer)],
        "thresholds": THRESHOLDS,
        "runs": runs,
    }


def judge(figures: dict[str, Any]) -> list[Verdict]:
    """What was found, the drop at the release, and the end against the control."""
    runs = figures["runs"]
    place = figures["thresholds"].index(NAMED)
    exact = [run["found"][place] == TURNS for run in runs]
    others = ", ".join(
        f"{share:g}: {sum(run['found'][index] == TURNS for run in runs)} of {len(runs)}"
        for index, share in enumerate(figures["thresholds"])
    )
    held = round(HELD_SHARE * (len(figures["steps"][1]) - 1))
    ends = {name: [run[name][-1] for run in runs] for name in ("enhanced", "control", "first")}
    before = {name: [math.log10(run[name][held] / run[name][-1]) for run in runs] for name in ("enhanced", "control")}
    levels = {name: [-20 * math.log10(error) for error in errors] for name, errors in ends.items()}
    return [
        Verdict(
            f"exactly the frequencies {TURNS} are found, above {NAMED:.0%} of the strongest",
            all(exact),
            f"{sum(exact)} of {len(exact)} seeds; by threshold {others}",
        ),
        larger("added tokens make the error smaller than no tokens", levels["enhanced"], levels["control"], unit="dB"),
        larger(
            "the error falls more while the tokens are released than without tokens",
            before["enhanced"],
            before["control"],
            unit="decades",
        ),
    ]


def draw(figures: dict[str, Any], path: Path) -> None:
    """Errors along both stages, the second from the release on, and how many frequencies are found."""
    runs, (shorter, longer) = figures["runs"], figures["steps"]
    with canvas(1, 3) as (figure, axes):
        curves(axes[0, 0], shorter, {"first stage": [run["first"] for run in runs]}, label="relative L2 error")
        axes[0, 0].set(yscale="log", xlabel="step", title="first stage")
        second = {name: [run[name] for run in runs] for name in ("enhanced", "control")}
        curves(axes[0, 1], longer, second, label="relative L2 error")
        axes[0, 1].axvline(HELD_SHARE * longer[-1], color="black", linewidth=0.8, linestyle="--")
        axes[0, 1].set(yscale="log", xlabel="step", title="second stage; dashed: the release begins")
        axes[0, 1].legend()
        counts = {
            f"{share:g}": [float(len(run["found"][index])) for run in runs]
            for index, share in enumerate(figures["thresholds"])
        }
        bars(axes[0, 2], counts, label="frequencies found")
        axes[0, 2].axhline(len(TURNS), color="black", linewidth=0.8, linestyle="--")
        axes[0, 2].set(xlabel="threshold", title="dashed: those of the target")
        save(figure, path)


def _train(network: RffcaNetwork, steps: int, every: int, *, seed: int, release: bool = False) -> list[float]:
    """Relative L2 error along a stage, whose points ``seed`` draws."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE.initial)
    points, tested = (torch.arange(count)[:, None] / count for count in (POINTS, TESTED))
    target, truth = _target(points), _target(tested)
    errors = []
    for step in range(steps + 1):
        if release:
            network.release_at(step / steps)
        if step % every == 0:
            with torch.no_grad():
                errors.append(float(f"{float((network(tested) - truth).norm() / truth.norm()):.4g}"))
        for group in optimizer.param_groups:
            group["lr"] = RATE.at(step, Schedule(steps))
        batch = torch.randint(POINTS, (BATCH,), generator=generator)
        loss = (network(points[batch]) - target[batch]).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        if step < steps:
            optimizer.step()
    return errors


def _target(points: Tensor) -> Tensor:
    turns = 2 * math.pi * points
    return torch.sin(2 * turns) + 0.5 * torch.sin(20 * turns + 0.3) + 0.5 * torch.cos(40 * turns - 0.2)

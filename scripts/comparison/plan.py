"""Which runs a comparison is made of, and the settings that name each of them in the cache."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from comparison.methods import Method
from scripts.experiments.ablation_cache import key_of
from scripts.experiments.captures import Capture, read_capture

HOLDOUT_EVERY = 8
FEWEST_ITERATIONS = 20
"""A run of fewer has no room for the parts of every method."""


@dataclass(frozen=True)
class Budget:
    """How long a training lasts: seconds of processor time on one thread, or iterations."""

    amount: float
    unit: Literal["seconds", "iterations"]

    def __str__(self) -> str:
        return f"{self.amount:g} s" if self.unit == "seconds" else f"{self.amount:.0f} iterations"


def budget_of(text: str) -> Budget:
    """The budget in ``text``: ``300s`` or ``5000``.

    Raises:
        ValueError: it is none.
    """
    remedy = f"give seconds such as 300s, or at least {FEWEST_ITERATIONS} iterations such as 5000"
    try:
        amount = float(text.removesuffix("s"))
    except ValueError:
        amount = math.nan
    if text.endswith("s") and 0 < amount < math.inf:
        return Budget(amount, "seconds")
    if text.isdecimal() and amount >= FEWEST_ITERATIONS:
        return Budget(amount, "iterations")
    raise ValueError(f"{text!r}: {remedy}")


@dataclass(frozen=True)
class Run:
    """A method on a scene, from one seed, for a budget, with at most so many Gaussians (a set)."""

    capture: Capture
    method: Method
    seed: int
    budget: Budget
    gaussians: int
    needs: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The name in the cache: that of all that the figures depend on."""
        return key_of(
            {
                "scene": self.capture.settings(),
                "method": [type(self.method).__name__, _own_settings(self.method)],
                "seed": self.seed,
                "budget": asdict(self.budget),
                "gaussians": self.gaussians,
            }
        )

    @property
    def named(self) -> dict[str, Any]:
        """What the run's row begins with."""
        return {"method": self.method.name, "scene": self.capture.name, "seed": self.seed}


def captures_of(folders: Sequence[Path], *, max_side: int) -> list[Capture]:
    """The scenes in ``folders``.

    Raises:
        ValueError: there is none, one is no capture, or two have the same name.
    """
    if not folders:
        raise ValueError("--scene: give at least one folder with photos and their poses")
    captures = [read_capture(folder, max_side=max_side, holdout_every=HOLDOUT_EVERY) for folder in folders]
    names = [capture.name for capture in captures]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"--scene: two scenes are named {twice[0]}: give folders of different names")
    return captures


def runs_of(
    captures: Sequence[Capture], methods: Sequence[Method], *, seeds: int, budget: Budget, gaussians: int
) -> list[Run]:
    """All runs: every scene and method with the first seed, then with the next one."""
    return [
        Run(capture, method, seed, budget, gaussians)
        for seed in range(seeds)
        for capture in captures
        for method in methods
    ]


def _own_settings(method: Method) -> dict[str, Any]:
    """What makes it another training: not how it is called."""
    told = ("name", "label", "role")
    return {name: value for name, value in asdict(method).items() if name not in told}

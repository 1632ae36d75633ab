"""Time that trainings of an ablation take, and what it pays for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from qsplat.training.training import Training

Done = TypeVar("Done")

GROWTH = 1.4
"""First guess of how many more Gaussians a given time pays for: time grew with the power 0.7 of their number in the
benchmarks."""
FIFTHS = 5


@dataclass(frozen=True)
class Seconds:
    """Time spent on training."""

    cpu: float = 0.0
    wall: float = 0.0

    def plus(self, training: Training, until: int | None = None) -> Seconds:
        """Let ``training`` go on until a step, or to its end, and add the time that it took."""
        return self.doing(lambda: training.advance(until))[1]

    def doing(self, work: Callable[[], Done]) -> tuple[Done, Seconds]:
        """Do ``work``, and add the time that it took."""
        cpu, wall = time.process_time(), time.perf_counter()
        done = work()
        return done, Seconds(self.cpu + time.process_time() - cpu, self.wall + time.perf_counter() - wall)


def paid_iterations(iterations: int, ratio: float) -> int:
    """How many iterations ``ratio`` times the time of ``iterations`` pays for, rounded up to a fifth of them: variants
    that take nearly as long share a run, which has at least the time of each."""
    return max(1, math.ceil(math.ceil(round(ratio * FIFTHS, 6)) * iterations / FIFTHS))


def paid_for(seconds: float, known: Sequence[tuple[float, float]]) -> float:
    """How many Gaussians take ``seconds``, by the power law through two ``known`` pairs of number and seconds."""
    (first, its_seconds), (second, other_seconds) = known
    if first == second or its_seconds == other_seconds:
        return second * (seconds / other_seconds) ** GROWTH
    power = math.log(second / first) / math.log(other_seconds / its_seconds)
    return second * (seconds / other_seconds) ** min(max(power, 0.5), 4.0)

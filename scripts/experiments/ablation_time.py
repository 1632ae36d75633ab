"""Time that trainings of an ablation take, and what it pays for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from qsplat.training.training import Training

Done = TypeVar("Done")

GROWTH = 1.4
"""Power of the time that the number of Gaussians grows with: in the benchmarks time grew with the power 0.7 of it. It
is not searched for anew, since seconds of the same work differ from hour to hour."""
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
    return max(1, math.ceil(_fifths(ratio) * iterations / FIFTHS))


def paid_gaussians(gaussians: int, ratio: float) -> int:
    """How many Gaussians ``ratio`` times the time of ``gaussians`` pays for, the time rounded up in the same way."""
    return max(1, math.ceil(gaussians * (_fifths(ratio) / FIFTHS) ** GROWTH))


def _fifths(ratio: float) -> int:
    return math.ceil(round(ratio * FIFTHS, 6))

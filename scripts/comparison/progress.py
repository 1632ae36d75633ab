"""What a comparison has done, what is left, and for how long."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence

from comparison.plan import Run
from scripts.experiments.ablation_cache import Cache
from scripts.experiments.workers import Finished


class Progress:
    """Counts runs. One still to come is taken to last as long as those of its method did, or else as the mean."""

    def __init__(self, runs: Sequence[Run], to_do: Sequence[Run], at_once: int) -> None:
        """``to_do`` are those of the ``runs`` that are not in the cache; ``at_once`` of them are done together."""
        self._total, self._at_once = len(runs), at_once
        self._left = {run.key: run for run in to_do}
        self._seconds: dict[str, list[float]] = defaultdict(list)

    def beginning(self) -> str:
        """What is known before the first run."""
        known, left = self._total - len(self._left), len(self._left)
        line = f"{counted(self._total, 'run')}: {known} in the cache, {left} to do"
        budgets = [run.budget for run in self._left.values()]
        if not budgets or budgets[0].unit == "iterations":
            return line
        least = sum(budget.amount for budget in budgets) / self._at_once
        return f"{line}, {budgets[0]} each: {_duration(least)} of training, and measuring"

    def after(self, finished: Finished[Run], cache: Cache) -> str:
        """A line about a run that is over."""
        run = self._left.pop(finished.job.key)
        if finished.failure is None:
            self._seconds[run.method.name].append(finished.seconds)
            row = cache.read(run.key)
            result = f"{row['mean']['psnr']:.2f} dB, trained for {row['train_seconds']:.0f} s"
        else:
            result = f"failed: {finished.failure}"
        done = f"[{self._total - len(self._left)}/{self._total}]"
        return f"{done} {run.capture.name} seed {run.seed} {run.method.name}: {result}{self._rest()}"

    def _rest(self) -> str:
        everything = [seconds for some in self._seconds.values() for seconds in some]
        if not self._left or not everything:
            return ""
        usual = statistics.mean(everything)
        expected = [statistics.mean(self._seconds.get(run.method.name, [usual])) for run in self._left.values()]
        return f"; {len(self._left)} left, about {_duration(sum(expected) / self._at_once)}"


def counted(number: int, noun: str) -> str:
    """``number`` of what ``noun`` names."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{max(1, minutes)} min"

"""What an ablation has done, what is left, and for how long."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence

from ablation_cache import Cache
from ablation_plan import Run, State
from workers import Finished


class Progress:
    """Counts runs. A run or state still to come is taken to last as long as those like it did, or else as the mean."""

    def __init__(self, runs: int, jobs: Sequence[State | Run], workers: int) -> None:
        """``runs`` are those asked for, ``jobs`` what is still to be done for them."""
        self.runs, self.workers = runs, workers
        self.left = {job.key: job for job in jobs}
        self.failed = 0
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def beginning(self) -> str:
        """What is known before the first job."""
        to_do = sum(isinstance(job, Run) for job in self.left.values())
        states = len(self.left) - to_do
        return f"{self.runs} runs: {self.runs - to_do} are in the cache, {to_do} to do, with {states} shared trainings"

    def after(self, finished: Finished[State | Run], cache: Cache) -> str:
        """A line about a job that is over."""
        job = self.left.pop(finished.job.key)
        if finished.failure is None:
            self.seconds[_kind(job)].append(finished.seconds)
        elif isinstance(job, Run):
            self.failed += 1
        runs_left = sum(isinstance(one, Run) for one in self.left.values())
        done = f"[{self.runs - runs_left}/{self.runs}]"
        if finished.failure is not None:
            result = f"failed: {finished.failure}"
        elif isinstance(job, Run):
            result = f"{cache.read(job.key)['held_out']['psnr']:.3f} dB, {finished.seconds:.0f} s"
        else:
            result = f"{finished.seconds:.0f} s"
        cell = job.cell
        return f"{done} {cell.capture.name} {cell.hold_out} seed {cell.seed} {_name(job)}: {result}{self._rest()}"

    def _rest(self) -> str:
        everything = [seconds for some in self.seconds.values() for seconds in some]
        if not self.left or not everything:
            return ""
        usual = statistics.mean(everything)
        expected = [statistics.mean(self.seconds.get(_kind(job), [usual])) for job in self.left.values()]
        return f"; about {_duration(sum(expected) / self.workers)} left"


def _kind(job: State | Run) -> str:
    """Jobs of one kind take about as long."""
    return job.variant.name if isinstance(job, Run) else "state"


def _name(job: State | Run) -> str:
    return job.variant.name if isinstance(job, Run) else f"up to step {job.step}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min" if minutes else "a minute"

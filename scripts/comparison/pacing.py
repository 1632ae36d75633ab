"""Giving every method the same budget.

A budget of time is one of processor time: the trainings have one thread each, so that it is wall-clock time on an idle
machine, and stays the same on a busy one. Schedules (densification, rates, the switch-on of a network) are shares of a
run whose number of iterations must be known. It is not, so a run is planned anew at every mark, a twentieth of the
budget or less: for as many iterations as the time that is left pays for, at the pace of the latest steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from comparison.plan import Budget

MARKS = (0.02, *(twentieth / 20 for twentieth in range(1, 21)))
"""Shares of the budget at which a run is planned anew."""
WATCHED = (0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0)
"""Those of them at which the model is measured, off the clock."""
FIRST_STEPS = 4
"""Steps by which a pace is judged at first, after one that does not count."""
FIRST_PLAN = 2000
"""Iterations that a run is planned for until its pace is known."""


class Stage(Protocol):
    """A part of a training. Its length can be changed while it runs."""

    @property
    def step(self) -> int:
        """The next step to take."""
        ...

    @property
    def turn(self) -> int | None:
        """The step at which the pace changes, if that lies ahead."""
        ...

    @property
    def reserve(self) -> float:
        """Seconds that are needed after the last step."""
        ...

    def plan(self, iterations: int) -> None:
        """Go on as a stage of that length."""
        ...

    def affordable(self, seconds: float, pace: float) -> int:
        """Steps still to come that ``seconds`` pay for, where the latest ones took ``pace`` seconds each."""
        ...

    def advance(self, until: int) -> None:
        """Take the steps up to, not including, ``until``."""
        ...

    def finish(self) -> None:
        """What comes after the last step."""
        ...


@dataclass(frozen=True)
class Part:
    """A stage, and the share of the budget at which it ends."""

    stage: Stage
    end: float


class Clock:
    """Processor and wall-clock seconds of this process, counted while it runs."""

    def __init__(
        self, processor: Callable[[], float] = time.process_time, wall: Callable[[], float] = time.perf_counter
    ) -> None:
        self._now = processor, wall
        self.seconds = self.wall = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what happens inside."""
        processor, wall = (now() for now in self._now)
        try:
            yield
        finally:
            self.seconds += self._now[0]() - processor
            self.wall += self._now[1]() - wall


@dataclass(frozen=True)
class Spent:
    """What a training has taken so far."""

    share: float
    iterations: int
    seconds: float
    wall: float


def spend(
    parts: Iterator[Part], budget: Budget, watch: Callable[[Spent], None], *, clock: Clock | None = None
) -> Spent:
    """Train ``parts`` one after the other until the budget is spent; making a part is on the clock.

    ``watch`` is called at the marks that are watched, off the clock.
    """
    clock = clock or Clock()
    pacer = _InSeconds(clock, budget.amount) if budget.unit == "seconds" else _InIterations(clock, round(budget.amount))
    taken, begun = 0, 0.0
    while True:
        with clock.running():
            part = next(parts, None)
        if part is None:
            return Spent(1.0, taken, clock.seconds, clock.wall)
        pacer.begin(part, taken)
        for mark in (*(one for one in MARKS if begun < one < part.end), part.end):
            pacer.reach(mark)
            if mark == part.end:
                with clock.running():
                    part.stage.finish()
            if mark in WATCHED:
                watch(Spent(mark, taken + part.stage.step, clock.seconds, clock.wall))
        taken, begun = taken + part.stage.step, part.end


class _InIterations:
    """A budget of iterations."""

    def __init__(self, clock: Clock, budget: int) -> None:
        self._clock, self._budget = clock, budget

    def begin(self, part: Part, taken: int) -> None:
        self._stage, self._taken = part.stage, taken
        with self._clock.running():
            self._stage.plan(round(part.end * self._budget) - taken)

    def reach(self, mark: float) -> None:
        with self._clock.running():
            self._stage.advance(round(mark * self._budget) - self._taken)


class _InSeconds:
    """A budget of seconds."""

    def __init__(self, clock: Clock, budget: float) -> None:
        self._clock, self._budget = clock, budget

    def begin(self, part: Part, taken: int) -> None:
        self._stage, self._end = part.stage, part.end
        self._pace: float | None = None
        self._plan(FIRST_PLAN)

    def reach(self, mark: float) -> None:
        """Train up to a mark; to the last step that is planned if it is that of the end."""
        last = mark == self._end
        while True:
            if self._pace is None:
                self._pace = self._first_pace()
            pace = self._pace
            stage, left = self._stage, mark * self._budget - self._clock.seconds
            total = self._end * self._budget - self._clock.seconds - stage.reserve
            planned = stage.step + max(0, stage.affordable(total, pace))
            self._plan(planned)
            target = planned if last else min(planned, stage.step + round(left / pace))
            turn = stage.turn
            changes = turn is not None and stage.step < turn < target
            target = turn if turn is not None and changes else target
            if target <= stage.step:
                return
            self._pace = self._advance(target)
            if changes:
                self._pace = None
            elif last:
                return

    def _plan(self, iterations: int) -> None:
        with self._clock.running():
            self._stage.plan(iterations)
        self._planned = iterations

    def _first_pace(self) -> float:
        self._plan(max(self._planned, self._stage.step + 1 + FIRST_STEPS))
        self._advance(self._stage.step + 1)
        return self._advance(self._stage.step + FIRST_STEPS)

    def _advance(self, until: int) -> float:
        """Seconds a step."""
        before, steps = self._clock.seconds, until - self._stage.step
        with self._clock.running():
            self._stage.advance(until)
        return (self._clock.seconds - before) / steps

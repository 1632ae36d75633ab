"""Budgets are kept, whatever the steps cost: with made-up stages on a made-up clock."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from comparison.pacing import MARKS, WATCHED, Clock, Part, Spent, spend
from comparison.plan import budget_of


class Time:
    """Passes where it is told to."""

    now = 0.0


class Made:
    """A stage whose steps take ``cost(step, plan)`` seconds; from the share ``switch`` of its plan on three times as
    much."""

    def __init__(
        self, time: Time, cost: Callable[[int, int], float], *, switch: float | None = None, reserve: float = 0.0
    ) -> None:
        self.time, self.cost, self.switch, self.reserve = time, cost, switch, reserve
        self.step = self.planned = 0
        self.switched: int | None = None
        self.plans = list[int]()
        self.finished = False

    @property
    def turn(self) -> int | None:
        if self.switch is None or self.switched is not None:
            return None
        return round(self.switch * self.planned)

    def plan(self, iterations: int) -> None:
        self.planned = iterations
        self.plans.append(iterations)

    def affordable(self, seconds: float, pace: float) -> int:
        steps = seconds / pace
        if self.turn is None:
            return int(steps)
        assert self.switch is not None
        return int((self.step + steps) / (3 - 2 * self.switch)) - self.step

    def advance(self, until: int) -> None:
        assert self.step <= until <= self.planned
        for step in range(self.step, until):
            if self.turn is not None and step >= self.turn:
                self.switched = step
            self.time.now += self.cost(step, self.planned) * (1 if self.switched is None else 3)
            self.step = step + 1

    def finish(self) -> None:
        self.time.now += self.reserve
        self.finished = True


def spent(time: Time, parts: list[Part], budget: str, watched: list[Spent] | None = None) -> Spent:
    def watch(so_far: Spent) -> None:
        time.now += 100.0
        if watched is not None:
            watched.append(so_far)

    clock = Clock(lambda: time.now, lambda: 2 * time.now)
    return spend(iter(parts), budget_of(budget), watch, clock=clock)


COSTS = {
    "steady": lambda step, plan: 0.01,
    "slowing": lambda step, plan: 0.002 + 0.00001 * step,
    "quickening": lambda step, plan: 0.002 + 0.05 / (1 + step / 50),
    "warming up": lambda step, plan: 0.8 if step == 0 else 0.01,
    "coarse": lambda step, plan: 0.4,
    "uneven": lambda step, plan: 0.01 * (1 + step % 3),
}


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("switch", [None, 0.75])
def test_a_run_ends_when_its_seconds_do_and_with_its_plan(name, switch):
    time = Time()
    stage = Made(time, COSTS[name], switch=switch)
    total = spent(time, [Part(stage, 1.0)], "60s")
    assert total.seconds == pytest.approx(60, rel=0.03)
    assert total.wall == pytest.approx(2 * total.seconds)
    assert total.iterations == stage.step == stage.planned
    assert stage.finished


def test_a_switch_comes_at_its_share_of_the_steps():
    time = Time()
    stage = Made(time, COSTS["steady"], switch=0.75)
    spent(time, [Part(stage, 1.0)], "60s")
    assert stage.switched is not None
    assert stage.switched / stage.step == pytest.approx(0.75, abs=0.03)


def test_parts_end_at_their_shares_of_the_time():
    time = Time()
    stages = [Made(time, COSTS["slowing"]), Made(time, COSTS["steady"]), Made(time, COSTS["steady"], reserve=2.0)]
    ends = (0.45, 0.9, 1.0)
    watched: list[Spent] = []
    total = spent(time, [Part(stage, end) for stage, end in zip(stages, ends, strict=True)], "60s", watched)
    assert total.seconds == pytest.approx(60, rel=0.03)
    assert all(stage.finished for stage in stages)
    at = {one.share: one.seconds for one in watched}
    assert at[0.45] == pytest.approx(27, rel=0.05)
    assert at[0.9] == pytest.approx(54, rel=0.05)
    assert at[1.0] == total.seconds


def test_what_is_watched_is_off_the_clock_and_comes_at_its_share():
    time, watched = Time(), list[Spent]()
    total = spent(time, [Part(Made(time, COSTS["steady"]), 1.0)], "60s", watched)
    assert tuple(one.share for one in watched) == WATCHED
    assert set(WATCHED) <= set(MARKS)
    assert all(one.seconds == pytest.approx(60 * one.share, abs=0.7) for one in watched)
    assert all(later.iterations > earlier.iterations for earlier, later in itertools.pairwise(watched))
    assert watched[-1].iterations == total.iterations


@pytest.mark.parametrize("iterations", [20, 21, 5000])
def test_iterations_are_counted_exactly_and_planned_once(iterations):
    time = Time()
    stages = [Made(time, COSTS["slowing"]) for _ in range(3)]
    ends = (0.45, 0.9, 1.0)
    watched: list[Spent] = []
    total = spent(time, [Part(stage, end) for stage, end in zip(stages, ends, strict=True)], str(iterations), watched)
    assert total.iterations == sum(stage.step for stage in stages) == iterations
    assert all(stage.plans == [stage.step] and stage.step > 0 for stage in stages)
    assert [one.iterations for one in watched] == [round(one.share * iterations) for one in watched]


def test_a_budget_of_less_than_a_step_is_a_few_steps():
    time = Time()
    stage = Made(time, COSTS["coarse"])
    total = spent(time, [Part(stage, 1.0)], "0.1s")
    assert 1 <= total.iterations <= 5

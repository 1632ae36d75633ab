"""Several sets of Gaussians in one run: when each is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace

from qsplat.training.schedule import Schedule


@dataclass(frozen=True)
class Blocks:
    """The iterations of a run up to the head's switch-on, cut into as many equal blocks as there are sets of Gaussians.

    In a block one set is trained as if the block were a run of its own, without a head. From the switch-on on the
    schedule is that of the run, at full resolution.

    Raises:
        ValueError: a set or the head has no iteration.
    """

    schedule: Schedule
    sets: int

    def __post_init__(self) -> None:
        if self.sets < 1:
            raise ValueError(f"sets={self.sets}: at least 1 set of Gaussians is needed")
        run = self.schedule
        if not self.sets <= run.head_start < run.iterations:
            raise ValueError(
                f"iterations={run.iterations} with sets={self.sets} and a switch-on at {run.head_share}: each set of "
                "Gaussians and the network need at least 1 iteration"
            )

    def block_at(self, step: int) -> int | None:
        """The set that is trained at ``step``, counted from 0; None where the head is."""
        run = self.schedule
        return None if step >= run.head_start else ((step + 1) * self.sets - 1) // run.head_start

    def plan_at(self, step: int) -> Schedule:
        """The schedule that ``step`` follows."""
        block = self.block_at(step)
        if block is None:
            return replace(self.schedule, downscales=0)
        length = self._begin(block + 1) - self._begin(block)
        return replace(self.schedule, iterations=length, head_share=1.0)

    def step_in_plan(self, step: int) -> int:
        """``step``, counted from the beginning of the schedule that it follows."""
        block = self.block_at(step)
        return step if block is None else step - self._begin(block)

    def _begin(self, block: int) -> int:
        return self.schedule.head_start * block // self.sets

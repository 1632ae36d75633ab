"""The mean of the Gaussians over the last steps of a run, which takes their place at its end."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import ParameterDict

from qsplat.training.densification import Densification, last_change
from qsplat.training.schedule import Schedule

EVERY = 10
"""Steps from one addend of the mean to the next: neighbours are nearly the same."""


def check_average_share(share: float, schedule: Schedule, densification: Densification | None) -> None:
    """See to it that Gaussians are no longer added and removed while they are averaged.

    Raises:
        ValueError: they are, or there is no such share.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"average_share={share}: give a share of the iterations between 0 and 1")
    first, end = _window(share, schedule)
    changed_until = 0
    if densification is not None:
        changed_until = min(schedule.steps(densification.stop), last_change(densification, schedule))
    if first < min(changed_until, end):
        raise ValueError(
            f"average_share={share}: Gaussians are added and removed up to iteration {changed_until}, and their mean "
            f"would begin at {first}; give a smaller share"
        )


class Averager:
    """Averages parameters over the last steps in which they move (Polyak and Juditsky 1992; Izmailov et al. 2018).

    The rates of all but the positions are as high at the end of a run as at its beginning, so that parameters go on
    moving around what is best; their mean is nearer to it. It costs next to nothing and does not change how they move.
    """

    def __init__(self, share: float, schedule: Schedule) -> None:
        """``share`` is that of all iterations over which the mean is taken, at the end of those in which the Gaussians
        move; 0 for no mean."""
        self._first, self._end = _window(share, schedule)
        self.state: dict[str, Tensor] = {}
        """The mean so far by the names of the parameters, and the ``count`` [] of its addends; at first nothing. A
        resumed run starts with that of the run it continues."""

    @torch.no_grad()
    def after_step(self, parameters: ParameterDict, *, step: int) -> None:
        """Take note of the parameters after a step, counted from 0, and after the last one put their mean in their
        place."""
        if not self._first <= step < self._end:
            self.state = {}
            return
        if (self._end - 1 - step) % EVERY == 0:
            self._add(parameters)
        if step + 1 == self._end:
            for name, parameter in parameters.items():
                parameter.copy_(self.state[name])
            self.state = {}

    def _add(self, parameters: ParameterDict) -> None:
        if not self.state:
            self.state = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
            self.state["count"] = torch.zeros(())
        self.state["count"] += 1
        share = 1 / float(self.state["count"])
        for name, parameter in parameters.items():
            self.state[name].lerp_(parameter, share)


def _window(share: float, schedule: Schedule) -> tuple[int, int]:
    """The first step of the mean, and the first after it."""
    end = schedule.gaussians_end
    return max(0, end - round(share * schedule.iterations)), end

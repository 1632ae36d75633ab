"""The learning rates, once, and the optimisers that follow them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch.nn import Parameter, ParameterDict
from torch.optim import Optimizer

from qsplat.training.adam import Adam
from qsplat.training.schedule import Schedule

EPSILON = 1e-15
"""Adam's epsilon for Gaussians (Kerbl et al. 2023) and for the head."""


@dataclass(frozen=True)
class Rate:
    """A learning rate: constant, exponential from ``initial`` to ``final`` over the steps in which Gaussians move, or a
    cosine from ``initial`` at the head's switch-on to ``final`` at the end."""

    initial: float
    final: float
    decay: Literal["constant", "exponential", "cosine"] = "constant"

    def at(self, step: int, schedule: Schedule) -> float:
        """The rate at ``step``."""
        match self.decay:
            case "constant":
                return self.initial
            case "exponential":
                progress = min(step / max(1, schedule.gaussians_end), 1.0)
                return self.initial * (self.final / self.initial) ** progress
            case "cosine":
                length = max(1, schedule.iterations - schedule.head_start)
                progress = min(max(step - schedule.head_start, 0) / length, 1.0)
                return self.final + (self.initial - self.final) * (1 + math.cos(math.pi * progress)) / 2


RATES: Mapping[str, Rate] = {
    "means": Rate(1.6e-4, 1.6e-6, "exponential"),
    "features_dc": Rate(2.5e-3, 2.5e-3),
    "features_rest": Rate(2.5e-3 / 20, 2.5e-3 / 20),
    "opacities": Rate(5e-2, 5e-2),
    "scales": Rate(5e-3, 5e-3),
    "quats": Rate(1e-3, 1e-3),
    "qnn": Rate(Schedule.head_rate, 0.0, Schedule.head_decay),
}
"""Rate of each parameter group; the schedule may say another one for the head. Those of the Gaussians are for scenes
whose cameras lie within a distance of about 1 from the origin (Kerbl et al. 2023, and the values in use since)."""


def optimizer_for(name: str, parameters: Iterable[Parameter]) -> Adam:
    """Adam for the group ``name`` of ``RATES``. The fused step is the fastest on CPU and CUDA alike."""
    return Adam(list(parameters), lr=RATES[name].initial, eps=EPSILON, fused=True)


def gaussian_optimizers(parameters: ParameterDict) -> dict[str, Adam]:
    """One optimiser per parameter, as densification strategies want them."""
    return {name: optimizer_for(name, [parameter]) for name, parameter in parameters.items()}


def set_rates(optimizers: Mapping[str, Optimizer], step: int, schedule: Schedule) -> None:
    """Give every optimiser the rate of its group at ``step``."""
    for name, optimizer in optimizers.items():
        head = Rate(schedule.head_rate, 0.0, schedule.head_decay)
        rate = (head if name == "qnn" else RATES[name]).at(step, schedule)
        for group in optimizer.param_groups:
            group["lr"] = rate

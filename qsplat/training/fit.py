"""The light training loop: photos in, a model out. Front ends have loops of their own and call the same rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qsplat.training.config import FitConfig, TrainingScene
from qsplat.training.model import SplatModel
from qsplat.training.training import StepRecord, Training

__all__ = ["FitConfig", "Fitted", "StepRecord", "fit"]


@dataclass(frozen=True)
class Fitted:
    """A finished run: the model without gradients, about a hundred records along the way, and its duration."""

    model: SplatModel
    history: tuple[StepRecord, ...]
    seconds: float


def fit(
    scene: TrainingScene, config: FitConfig | None = None, *, on_step: Callable[[StepRecord], None] | None = None
) -> Fitted:
    """Train on the views of ``scene`` from the beginning to the end of the schedule.

    ``on_step`` is called after every step. ``Training`` does the same in parts that can be stopped and forked.

    Raises:
        ValueError: the scene has no training views, or nothing to start from.
    """
    training = Training(scene, config)
    training.advance(on_step=on_step)
    return Fitted(model=training.model(), history=tuple(training.history), seconds=training.seconds)

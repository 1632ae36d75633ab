"""Photos that one set of Gaussians does not see until near its end: they tell how far others are to be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qsplat.gaussians import Gaussians
from qsplat.training.config import Points, TrainingScene
from qsplat.training.targets import TrainingView

UNSEEN = 8
"""Every so many-th training photo is kept from the last set of Gaussians at first."""
FEWEST_UNSEEN = 4
"""Fewer photos are not kept from it: they would tell too little, and a small capture misses each of them."""
GIVEN_BACK = 0.9
"""Share of its iterations from which on the last set sees them, too."""


def unseen_photos(count: int, every: int, *, sets: int = 2) -> tuple[int, ...]:
    """Which of ``count`` training photos the last of ``sets`` sets of Gaussians does not see up to ``given_back``:
    every ``every``-th one, evenly spread. None where that is 0 or would be fewer than ``FEWEST_UNSEEN``, or where no
    other set sees them.

    Raises:
        ValueError: no photo would be left, or ``every`` is below 0.
    """
    if every < 0 or every == 1:
        raise ValueError(f"unseen={every}: give 2 or more, or 0 to keep no photo from any set of Gaussians")
    number = count // every if every else 0
    if number < FEWEST_UNSEEN or sets < 2:
        return ()
    return tuple((2 * index + 1) * count // (2 * number) for index in range(number))


def given_back(iterations: int) -> int:
    """The step of ``iterations`` from which on the last set of Gaussians sees all photos."""
    return round(GIVEN_BACK * iterations)


@dataclass(frozen=True)
class Witness:
    """The last set of Gaussians as it was before it saw the photos of the indices ``unseen``, of which there is one at
    least: these photos can tell of it how far others are to be believed."""

    gaussians: Gaussians
    unseen: tuple[int, ...]


@dataclass(frozen=True)
class PartOfScene:
    """Some of the training views of a scene, and its points."""

    train: Sequence[TrainingView]
    points: Points | None


def without_unseen(scene: TrainingScene, unseen: Sequence[int]) -> PartOfScene:
    """``scene`` without the training views ``unseen``."""
    kept = [view for index, view in enumerate(scene.train) if index not in unseen]
    return PartOfScene(kept, scene.points)

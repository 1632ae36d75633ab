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
"""Fewer photos would tell too little."""
FORGETTING = 0.8
"""Share of its iterations from which on the last set does not see them where so many are too large a part of the
capture to be missed for longer: it forgets some of what it knew of them by heart."""
GIVEN_BACK = 0.9
"""Share of its iterations from which on the last set sees them, again or for the first time."""


@dataclass(frozen=True)
class Unseen:
    """The training views of the indices ``photos``, evenly spread, are kept from the last set of Gaussians from the
    share ``since`` of its iterations on, up to ``given_back``."""

    photos: tuple[int, ...] = ()
    since: float = 0.0

    def begins(self, iterations: int) -> int:
        """The step of ``iterations`` from which on they are kept from it."""
        return round(self.since * iterations)

    def at(self, step: int, iterations: int) -> tuple[int, ...]:
        """Those that it does not see at ``step`` of ``iterations``."""
        return self.photos if self.begins(iterations) <= step < given_back(iterations) else ()


def unseen_photos(count: int, every: int, *, sets: int = 2) -> Unseen:
    """Which of ``count`` training photos the last of ``sets`` sets of Gaussians does not see, and when: every
    ``every``-th one, from its beginning. Where that would be fewer than ``FEWEST_UNSEEN``, so many, but from
    ``FORGETTING`` on; none where that would be more than half of them, where ``every`` is 0, or where no other set
    sees them.

    Raises:
        ValueError: no photo would be left, or ``every`` is below 0.
    """
    if every < 0 or every == 1:
        raise ValueError(f"unseen={every}: give 2 or more, or 0 to keep no photo from any set of Gaussians")
    if every == 0 or sets < 2 or count < 2 * FEWEST_UNSEEN:
        return Unseen()
    number = max(count // every, FEWEST_UNSEEN)
    photos = tuple((2 * index + 1) * count // (2 * number) for index in range(number))
    return Unseen(photos, 0.0 if count // every >= FEWEST_UNSEEN else FORGETTING)


def given_back(iterations: int) -> int:
    """The step of ``iterations`` from which on the last set of Gaussians sees all photos to its end."""
    return round(GIVEN_BACK * iterations)


@dataclass(frozen=True)
class Witness:
    """The last set of Gaussians as it was when the photos of the indices ``unseen``, of which there is one at least,
    were given back to it: these photos can tell of it how far others are to be believed."""

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

"""When things happen during training, as shares of the run, so that 500 and 30000 iterations both make sense."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch

from qsplat.cameras import Window
from qsplat.qnn import QnnConfig
from qsplat.training.crops import random_crop

HeadMode = Literal["joint", "detached", "frozen"]
"""What the Gaussians do once the head is switched on: they are trained by the loss of the corrected image, jointly with
the head; they go on learning from the loss of their own image, which the head gets detached; or they no longer move,
and the head alone learns, from images that are rendered once."""
Phase = Literal["splatting", "joint", "detached", "frozen"]
Decay = Literal["cosine", "constant"]
Drawn = Literal["image", "crop"]
"""What is drawn, and compared with the photo, in a step in which a head sees a crop of the image and Gaussians move:
all of the image, or that crop and what the head reads around it, whose pixels then count as much as in the image."""

CROP_SHARES: Mapping[HeadMode, float] = {"joint": 0.01, "detached": 0.01, "frozen": 0.16}
"""Shares of an image that a head sees in a step on a CPU: beside Gaussians that move so little that a step is not much
longer than without a head; where nothing else is computed more."""


@dataclass(frozen=True)
class Schedule:
    """The plan of a run of ``iterations`` steps, counted from 0.

    At 30000 iterations the defaults are the usual ones: one more SH degree every 1000 steps (Kerbl et al. 2023), half
    the resolution twice, undone every 3000 steps (splatfacto), the head from step 22500 on.

    Args:
        iterations: length of the run.
        sh_degree: highest degree of the harmonics.
        sh_share: share of the run after which one more degree is used.
        downscales: how many times the resolution is halved at the start.
        downscale_share: share of the run after which it is doubled again.
        head_share: share of the run at which the head is switched on; 1 for a run without one.
        mode: what the Gaussians do from then on.
        crop_share: share of the image's pixels that the head sees in a step; 1 for whole images, which a GPU can
            afford; None for that of ``CROP_SHARES``, which are for a CPU, as far as the head allows (``with_head``).
        drawn: what the rasterizer draws for a head that sees a crop. With "crop" only the Gaussians of that crop learn
            from the photo, which loses quality (docs/performance.md).
        head_rate: learning rate of the head at its switch-on.
        head_decay: how the rate goes on: by a cosine to 0 at the end of the run, or constant.

    Raises:
        ValueError: no iterations, a share or rate outside its range, or a name that is none.
    """

    iterations: int
    sh_degree: int = 3
    sh_share: float = 1 / 30
    downscales: int = 0
    downscale_share: float = 1 / 10
    head_share: float = 0.75
    mode: HeadMode = "joint"
    crop_share: float | None = None
    drawn: Drawn = "image"
    head_rate: float = 3e-4
    head_decay: Decay = "cosine"

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"iterations={self.iterations}: a run has at least 1")
        if not 0 <= self.sh_degree <= 3:
            raise ValueError(f"sh_degree={self.sh_degree}: spherical harmonics have degree 0 to 3 here")
        if not 0 <= self.head_share <= 1:
            raise ValueError(f"head_share={self.head_share}: the switch-on is a share of the run between 0 and 1")
        if self.crop_share is not None and not 0 < self.crop_share <= 1:
            raise ValueError(f"crop_share={self.crop_share}: a crop is a share of the image above 0, and 1 at most")
        if min(self.sh_share, self.downscale_share) <= 0 or self.downscales < 0:
            raise ValueError(
                f"sh_share={self.sh_share}, downscale_share={self.downscale_share} must be above 0 and "
                f"downscales={self.downscales} not below 0"
            )
        if not (self.head_rate > 0 and math.isfinite(self.head_rate)):
            raise ValueError(f"head_rate={self.head_rate}: a learning rate is a finite number above 0")
        for name, choice in {"mode": HeadMode, "drawn": Drawn, "head_decay": Decay}.items():
            if getattr(self, name) not in get_args(choice):
                raise ValueError(f"{name}={getattr(self, name)!r}: choose one of {', '.join(get_args(choice))}")
        if self.drawn == "crop" and self.mode == "frozen":
            raise ValueError(
                "drawn='crop' with mode='frozen': Gaussians that no longer move are drawn once; leave it out"
            )
        if self.drawn == "crop" and self.crop_share == 1:
            raise ValueError("drawn='crop' with crop_share=1: a crop is a part of the image; leave one of them out")

    @property
    def head_start(self) -> int:
        """First step with the head; ``iterations`` when there is none."""
        return round(self.head_share * self.iterations)

    @property
    def gaussians_end(self) -> int:
        """First step in which the Gaussians no longer move."""
        return self.head_start if self.mode == "frozen" else self.iterations

    @property
    def seen_share(self) -> float:
        """Share of an image's pixels that the head sees in a step."""
        return CROP_SHARES[self.mode] if self.crop_share is None else self.crop_share

    def with_head(self, head: QnnConfig | None) -> Schedule:
        """This plan for ``head``: never to be switched on where there is none, and on whole images where its residual
        depends on all of an image, so that it would learn from a crop what it does not see later.

        Raises:
            ValueError: such a head was to learn on crops.
        """
        if head is None:
            return replace(self, head_share=1.0)
        if head.halo is not None:
            return self
        if self.crop_share not in (None, 1) or self.drawn == "crop":
            share = f"crop_share={self.crop_share}" if self.drawn == "image" else "drawn='crop'"
            raise ValueError(
                f"{share} with {type(head.convolution).__name__}: its residual depends on the whole image; leave it out"
            )
        return replace(self, crop_share=1.0)

    def phase_at(self, step: int) -> Phase:
        """What is trained at ``step``: the Gaussians alone, or the head too, and how."""
        return self.mode if step >= self.head_start else "splatting"

    def head_window_at(self, step: int, *, width: int, height: int, generator: torch.Generator) -> Window | None:
        """The part of an image that the head sees at ``step``, drawn with ``generator``; None for all of it."""
        if self.seen_share == 1 or self.phase_at(step) == "splatting":
            return None
        return random_crop(width, height, self.seen_share, generator=generator)

    def sh_degree_at(self, step: int) -> int:
        """Degree of the harmonics used at ``step``."""
        return min(self.sh_degree, step // self.steps(self.sh_share))

    def downscale_at(self, step: int) -> int:
        """Factor, a power of two, by which both sides of the image are smaller at ``step``."""
        return 2 ** max(0, self.downscales - step // self.steps(self.downscale_share))

    def steps(self, share: float, *, at_least: int = 1) -> int:
        """A share of the run in whole steps."""
        return max(at_least, round(share * self.iterations))

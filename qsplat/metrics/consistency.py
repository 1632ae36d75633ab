"""Whether a model shows the same surface alike from one frame of a film to the next.

Frames along a path of cameras are looked up in each other by the depth that the model renders, and compared where both
show the same surface. A model's image and the base image that its head started from are compared at the same pixels of
the same tracks, so that their difference is the head's.

Looking up between pixels blurs, imprecise depth shifts, and a sharper image suffers more from both without being less
consistent. So images are first smoothed over about two pixels, where interpolation is exact enough, and the frame that
is not interpolated loses as much sharpness as the one that is (``qsplat.metrics.tracks.change``). What is left of it
grows with the contrast of fine structure, which is ``detail``; ``Consistency.ratio_at_equal_detail`` divides it out.
Flicker as fine as single pixels is damped by the smoothing, that of larger patches is measured at its full size. Along
a long range a slanted surface also changes its size in pixels, and with it what the smoothing takes from it. What comes
into view or is hidden between two frames is not compared.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from qsplat.cameras import Camera
from qsplat.metrics.film import Film, Frame, Prepared, Steadiness, Tally

LONG_RANGE = 8


@dataclass(frozen=True)
class Consistency:
    """A model along a path: its base image, its image, and what they were measured on.

    ``step_pixels`` is how far the median pixel moves between neighbouring frames; ``short_share``, ``long_share`` and
    ``triple_share`` are the shares of pixels that two neighbours, two frames ``long_range`` apart, and three in a row
    show.
    """

    base: Steadiness
    head: Steadiness
    frames: int
    long_range: int
    step_pixels: float
    short_share: float
    long_share: float
    triple_share: float

    @property
    def flicker_ratio(self) -> float | None:
        """Flicker of the image over that of the base image; None where the base does not flicker at all."""
        return self.head.flicker / self.base.flicker if self.base.flicker > 0 else None

    @property
    def ratio_at_equal_detail(self) -> float | None:
        """``flicker_ratio`` over the ratio of their detail: what is more than a sharper image has by itself."""
        if self.flicker_ratio is None or self.base.detail == 0 or self.head.detail == 0:
            return None
        return self.flicker_ratio * self.base.detail / self.head.detail

    @property
    def worst_frame_ratio(self) -> float | None:
        """The largest flicker of a frame over that of the same frame's base, which averages may hide."""
        pairs = zip(self.head.per_frame, self.base.per_frame, strict=True)
        return max((head / base for head, base in pairs if head is not None and base), default=None)

    def as_json(self) -> dict[str, Any]:
        """The record and its ratios as JSON can hold them."""
        return {
            **asdict(self),
            "flicker_ratio": self.flicker_ratio,
            "ratio_at_equal_detail": self.ratio_at_equal_detail,
            "worst_frame_ratio": self.worst_frame_ratio,
        }


def consistency(
    render: Callable[[Camera], Frame],
    cameras: Sequence[Camera],
    *,
    long_range: int = LONG_RANGE,
    on_frame: Callable[[int, Frame], None] | None = None,
) -> Consistency:
    """Render ``cameras``, frames of a film, and measure how consistent they are.

    Args:
        render: the model; its depth is that of the base, and asked for.
        cameras: a smooth path, for example ``qsplat.camera_paths.smooth_path``: its steps should be those of a film,
            since a flicker is measured against what a straight change in time explains.
        long_range: frames between the two of a long range comparison.
        on_frame: is given the number of each frame, and the frame.

    Raises:
        ValueError: a long range below 2, not more frames than the long range, no depth, NaN or infinity in a frame, or
            no surface that three frames in a row show.
    """
    if long_range < 2:
        raise ValueError(f"a long range of {long_range} frames: give at least 2")
    if len(cameras) <= long_range:
        raise ValueError(f"{len(cameras)} frames: a long range of {long_range} needs at least {long_range + 1}")
    film = Film()
    window: deque[Prepared] = deque(maxlen=long_range + 1)
    for number, camera in enumerate(cameras):
        with torch.no_grad():
            frame = render(camera)
            window.append(Prepared.of(number, camera, frame))
            if on_frame is not None:
                on_frame(number, frame)
            if len(window) > 2:
                film.add_three(window[-3], window[-2], window[-1])
            if len(window) > long_range:
                film.add_far(window[0], window[-1])
    whole = Tally.total(film.threes)
    if whole.seen == 0:
        raise ValueError(
            f"no surface is seen by three of {len(cameras)} frames in a row: take more frames, so that they are closer,"
            " or train longer, so that their depths agree"
        )
    return Consistency(
        base=film.steadiness(0),
        head=film.steadiness(1),
        frames=len(cameras),
        long_range=long_range,
        step_pixels=sum(film.steps) / len(film.steps),
        short_share=film.short.seen / film.short.of,
        long_share=film.long.seen / film.long.of,
        triple_share=whole.seen / whole.of,
    )

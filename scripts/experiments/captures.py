"""Scenes before their photos are read: what names them among the settings of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Capture:
    """A scene before its photos are read: its folder, how many photos it has, their bytes, and their size as used."""

    folder: str
    name: str
    photos: int
    bytes: int
    sizes: tuple[tuple[int, int], ...]
    max_side: int

    def settings(self) -> dict[str, Any]:
        """What makes it another scene: not where its folder lies."""
        return {name: value for name, value in asdict(self).items() if name != "folder"}


def read_capture(folder: Path, *, max_side: int, holdout_every: int) -> Capture:
    """What the files of a scene say about it.

    Raises:
        ValueError: they are no capture.
    """
    from qsplat.io.transforms import read_frames

    frames = read_frames(folder, holdout_every=holdout_every)
    every = (*frames.train, *frames.test)
    cameras = [frame.camera_at(max_side=max_side) for frame in every]
    return Capture(
        folder=str(folder.resolve()),
        name=frames.name,
        photos=len(every),
        bytes=sum(frame.path.stat().st_size for frame in every),
        sizes=tuple(sorted({(camera.width, camera.height) for camera in cameras})),
        max_side=max_side,
    )

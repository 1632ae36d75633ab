"""Do the images of a run hold still when the camera moves, and does its head flicker more than its base?

    python scripts/experiments/consistency.py --load-config outputs/.../config.yml --json FILE.json

Flies along a smooth path through the cameras of the capture, and compares frames of the film where both show the same
surface, by the rendered depth: neighbours, frames 8 apart (``--long-range``), and three in a row, whose second
difference in time is the flicker. The base image (Gaussians alone) and the image with the head are compared at the same
pixels. Prints a table; a head passes when its flicker is at most 1.05 times that of its base. Flicker and RMSE are in
units of the images' range [0, 1]. More frames are smaller steps, so compare runs at the same number of frames only.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

if TYPE_CHECKING:
    from torch import Tensor

    from nerfstudio_plugin.runs import Run
    from qsplat.cameras import Camera
    from qsplat.metrics.consistency import Consistency
    from qsplat.metrics.film import Frame
    from qsplat.metrics.report import RunFacts

LIMIT = 1.05
"""A head may flicker this many times as much as its base."""
LEAST_SHARE = 0.3
"""Share of the pixels, seen in three frames in a row, under which the figures stand for little of the film."""


@dataclass(frozen=True)
class Options:
    """What to measure and where to put the answers."""

    load_config: Annotated[
        Path, tyro.conf.arg(help="config.yml of a run of ns-train; it runs code, so trust its author")
    ]
    frames: Annotated[int, tyro.conf.arg(help="frames of the film")] = 240
    long_range: Annotated[int, tyro.conf.arg(help="frames between the two of a long range comparison")] = 8
    json: Annotated[Path | None, tyro.conf.arg(help="JSON file to write", metavar="FILE.json")] = None
    video_frames: Annotated[
        Path | None, tyro.conf.arg(help="folder for the film's frames: base and image side by side", metavar="DIR")
    ] = None


@dataclass(frozen=True)
class Shot:
    """A frame of the film."""

    rgb: Tensor
    rgb_base: Tensor
    depth: Tensor
    alpha: Tensor


def measure_run(options: Options) -> tuple[RunFacts, Consistency]:
    """Measure, write, and return what was found.

    Raises:
        ValueError: the run cannot be loaded, or its film cannot be measured; the sentence says why.
        BackendUnavailable: nothing on this machine can rasterize.
    """
    _check(options)
    warnings.filterwarnings("ignore", category=FutureWarning, module="nerfstudio")
    from nerfstudio_plugin.runs import load_run
    from qsplat.camera_paths import smooth_path
    from qsplat.io.atomic import written_whole
    from qsplat.metrics.consistency import consistency

    run = load_run(options.load_config)
    path = smooth_path(capture(run), options.frames)

    def render(camera: Camera) -> Shot:
        shown = run.render(camera)
        return Shot(shown.rgb, shown.rgb_base, shown.depth, shown.accumulation)

    on_frame = None if options.video_frames is None else writer(options.video_frames)
    found = consistency(render, path, long_range=options.long_range, on_frame=on_frame)
    if options.json is not None:
        with written_whole(options.json) as temporary:
            text = json.dumps(as_json(run.facts, found), indent=1, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
    return run.facts, found


def capture(run: Run) -> list[Camera]:
    """The poses of all photos of a run, trained on and held out, with the lens of the first that is held out."""
    held_out = run.cameras()
    lens, cameras = held_out[0], [*run.training_cameras(), *held_out]
    return [replace(lens, cam_from_world=camera.cam_from_world.to(lens.cam_from_world)) for camera in cameras]


def writer(folder: Path) -> Callable[[int, Frame], None]:
    """What saves each frame, base and image side by side, as a PNG in ``folder``."""
    import torch
    from PIL import Image

    from qsplat.io.atomic import written_whole

    def write(number: int, frame: Frame) -> None:
        both = torch.cat([frame.rgb_base, frame.rgb], dim=1).clamp(0, 1)
        with written_whole(folder / f"{number:04d}.png") as temporary:
            Image.fromarray((both * 255).round().byte().cpu().numpy()).save(temporary, format="PNG")

    return write


def as_json(facts: RunFacts, found: Consistency) -> dict[str, Any]:
    """Everything that was found, as JSON can hold it."""
    return {
        **asdict(facts),
        **found.as_json(),
        "limit": LIMIT,
        "within_limit": within_limit(found),
        "notes": remarks(found),
    }


def within_limit(found: Consistency) -> bool:
    """Whether the head flickers at most 1.05 times as much as the base."""
    return found.head.flicker <= LIMIT * found.base.flicker


def remarks(found: Consistency) -> list[str]:
    """What to know before the figures are used."""
    said = []
    if found.head == found.base:
        said.append("there is no head, or it changes nothing")
    if found.triple_share < LEAST_SHARE:
        said.append(
            f"only {found.triple_share:.0%} of the pixels are seen by three frames in a row: give more --frames, or"
            " train longer"
        )
    return said


def print_film(facts: RunFacts, found: Consistency) -> None:
    """A table of base and image, and what they were measured on."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"{facts.scene}, {facts.method}", title_justify="left")
    table.add_column("")
    for label in ("base", "with head", "ratio"):
        table.add_column(label, justify="right", no_wrap=True)
    base, head = found.base, found.head
    far = f"{found.long_range} frames apart"
    for label, a, b in (
        ("RMSE of neighbours", base.short_rmse, head.short_rmse),
        (f"RMSE {far}", base.long_rmse, head.long_rmse),
        ("flicker", base.flicker, head.flicker),
        ("detail, per pixel", base.detail, head.detail),
    ):
        table.add_row(label, _number(a, 5), _number(b, 5), _number(b / a if a and b is not None else None, 3))
    table.add_section()
    for label, a, b in (
        ("PSNR of neighbours, dB", base.short_psnr, head.short_psnr),
        (f"PSNR {far}, dB", base.long_psnr, head.long_psnr),
    ):
        table.add_row(label, _number(a, 2), _number(b, 2), "")
    table.add_section()
    table.add_row("flicker at equal detail", "", "", _number(found.ratio_at_equal_detail, 3))
    table.add_row("flicker, the worst frame", "", "", _number(found.worst_frame_ratio, 3))
    console = Console()
    console.print(table)
    console.print(
        f"{found.frames} frames, steps of {found.step_pixels:.1f} pixels; seen by both: {found.short_share:.0%} of the"
        f" pixels of neighbours, {found.long_share:.0%} {far}; by three in a row: {found.triple_share:.0%}",
        highlight=False,
    )
    said = "not more than" if within_limit(found) else "more than"
    console.print(f"The head flickers {said} {LIMIT} times as much as its base.", highlight=False)
    for note in remarks(found):
        console.print(f"note: {note}", highlight=False)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _check(options: Options) -> None:
    if options.long_range < 2:
        raise ValueError(f"--long-range {options.long_range}: give at least 2")
    if options.frames <= options.long_range:
        raise ValueError(
            f"--frames {options.frames}: a long range of {options.long_range} needs at least {options.long_range + 1}"
        )
    if options.json is not None and options.json.is_dir():
        raise ValueError(f"--json {options.json} is a folder: give the file to write")
    if options.video_frames is not None and options.video_frames.exists() and not options.video_frames.is_dir():
        raise ValueError(f"--video-frames {options.video_frames} is a file: give a folder")


def main() -> int:
    """Parse, measure, print; a refusal is one sentence and status 1."""
    from qsplat.kernels import BackendUnavailable

    options = tyro.cli(Options, description=__doc__)
    try:
        facts, found = measure_run(options)
    except (ValueError, OSError, BackendUnavailable, MemoryError) as refusal:
        print(f"consistency: {' '.join(str(refusal).split()) or 'out of memory'}", file=sys.stderr)
        return 1
    print_film(facts, found)
    for written in (options.json, options.video_frames):
        if written is not None:
            print(f"Written: {written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

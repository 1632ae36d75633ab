"""What it costs, in time and in quality, that the head sees a crop of each training image and not the whole.

    python scripts/bench/head_crops.py DIR [DIR ...] [--max-side N] [--seeds N] [--iterations N] [--gaussians N]
                                       [--crop-share S] [--json FILE]

Trains every scene (a folder with photos and transforms.json) four times per seed: Gaussians alone, then with the head
on whole images, then with the head on crops of images that are drawn and compared whole, then with the head on crops
of images of which nothing else is drawn and compared, but what the head reads around them. The steps before the head's
switch-on and the order of the photos are the same in all four. Prints the PSNR of the held-out views, and the time of a
joint iteration as a multiple of one without the head (medians of the same run's steps).
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from measuring import Options, run, use_threads, write_json

if TYPE_CHECKING:
    from qsplat.io.scene import Scene
    from qsplat.training.fit import Fitted, StepRecord

FEWEST_ITERATIONS = 20
VARIANTS = ("no head", "whole images", "crops", "crops alone")


@dataclass(frozen=True)
class Row:
    """One training: held-out PSNR in dB, milliseconds of the median iteration before the switch-on and after it."""

    scene: str
    seed: int
    variant: str
    gaussians: int
    psnr: float
    splatting_ms: float
    joint_ms: float
    threads: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the JSON file if one is named."""
    options = Options(__doc__)
    options.add_argument("scenes", type=Path, nargs="+", metavar="DIR")
    options.add_count("--max-side", default=252, help="longer side of the photos in pixels")
    options.add_count("--seeds", default=3, help="trainings of each kind and scene")
    options.add_count("--iterations", default=2000, help="of each training")
    options.add_count("--gaussians", default=16_000, help="most Gaussians")
    options.add_argument(
        "--crop-share",
        type=share,
        default=0.01,
        metavar="S",
        help="share of the pixels that the head sees (default 0.01)",
    )
    given = options.parse_args(arguments)
    use_threads(None)
    return run(lambda: measure(given))


def measure(given: argparse.Namespace) -> None:
    """Train every scene, variant and seed."""
    from qsplat.io.transforms import load_scene

    if given.iterations < FEWEST_ITERATIONS:
        raise ValueError(f"--iterations {given.iterations}: a phase is timed from {FEWEST_ITERATIONS} on")
    scenes = [load_scene(folder, max_side=given.max_side) for folder in given.scenes]
    names = [scene.name for scene in scenes]
    if len(set(names)) < len(names):
        raise ValueError(f"scenes named {', '.join(names)}: give folders of different names")
    for scene in scenes:
        if not scene.test:
            raise ValueError(f"{scene.name} has 0 held-out views: there is nothing to measure quality on")
    rows: list[Row] = []
    for scene in scenes:
        for seed, variant in itertools.product(range(given.seeds), VARIANTS):
            rows.append(train(scene, variant, seed, given))
            print(line(rows[-1]), flush=True)
        print(summary([row for row in rows if row.scene == scene.name]), flush=True)
    if given.json is not None:
        write_json(given.json, [asdict(row) for row in rows])


def share(text: str) -> float:
    """The number in ``text``, above 0 and below 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a share above 0 and below 1")
    return value


def train(scene: Scene, variant: str, seed: int, given: argparse.Namespace) -> Row:
    """One training and its held-out PSNR."""
    import torch

    from qsplat.qnn import QnnConfig
    from qsplat.training.densification import DefaultDensification
    from qsplat.training.fit import FitConfig, fit
    from qsplat.training.schedule import Schedule

    seen = 1.0 if variant == "whole images" else given.crop_share
    config = FitConfig(
        schedule=Schedule(given.iterations, crop_share=seen, drawn="crop" if variant == "crops alone" else "image"),
        densification=DefaultDensification(max_gaussians=given.gaussians),
        head=None if variant == "no head" else QnnConfig(),
        seed=seed,
    )
    records: list[StepRecord] = []
    fitted = fit(scene, config, on_step=records.append)
    switch_on = config.schedule.head_start
    return Row(
        scene=scene.name,
        seed=seed,
        variant=variant,
        gaussians=len(fitted.model.gaussians.means),
        psnr=held_out_psnr(scene, fitted),
        splatting_ms=_median_ms(records[switch_on // 2 : switch_on]),
        joint_ms=_median_ms(records[switch_on:]),
        threads=torch.get_num_threads(),
    )


def held_out_psnr(scene: Scene, fitted: Fitted) -> float:
    """Mean PSNR in dB of the held-out views, whole images."""
    import torch

    from qsplat.metrics.psnr import psnr
    from qsplat.training.targets import Target

    values = []
    with torch.no_grad():
        for view in scene.test:
            target = Target.of(view, 1, "cpu")
            image = fitted.model.render(target.camera).rgb.clamp(0, 1)
            values.append(float(psnr(image, target.over(fitted.model.background), mask=target.mask)))
    return statistics.mean(values)


def line(row: Row) -> str:
    """One training in a line."""
    times = f"{row.splatting_ms:.1f} ms, then {row.joint_ms:.1f} ms an iteration"
    return f"{row.scene} seed {row.seed} {row.variant:13} {row.psnr:.3f} dB  {row.gaussians} Gaussians  {times}"


def summary(rows: list[Row]) -> str:
    """Means over seeds of one scene, and what crops change."""
    psnr = {variant: [row.psnr for row in rows if row.variant == variant] for variant in VARIANTS}
    change = {name: gains(psnr[name], psnr["whole images"]) for name in ("crops", "crops alone")}
    ratio = {
        variant: statistics.median(row.joint_ms / row.splatting_ms for row in rows if row.variant == variant)
        for variant in VARIANTS
    }
    means = ", ".join(f"{variant} {statistics.mean(values):.3f} dB" for variant, values in psnr.items())
    each = {name: " ".join(f"{value:+.3f}" for value in values) for name, values in change.items()}
    against = "; ".join(
        f"{name} against whole images {statistics.mean(values):+.3f} dB ({each[name]})"
        for name, values in change.items()
    )
    times = ", ".join(f"{name} {ratio[name]:.2f}" for name in VARIANTS[1:])
    return f"{rows[0].scene}: {means}; {against}; joint iterations take {times} times one without head"


def gains(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """How much larger each of ``values`` is."""
    return [value - other for value, other in zip(values, others, strict=True)]


def _median_ms(records: list[StepRecord]) -> float:
    """Milliseconds of the median step but the first."""
    times = [1e3 * (later.seconds - earlier.seconds) for earlier, later in itertools.pairwise(records)]
    return statistics.median(times) if times else float("nan")


if __name__ == "__main__":
    sys.exit(main())

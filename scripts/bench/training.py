"""How fast training is, and where its time goes, before and after the head's switch-on.

    python scripts/bench/training.py [--json FILE] [--scene DIR] [--iterations N] [--repeats N] [--gaussians N]
                                     [--size WxH] [--twin-case N@WxH] [--threads N]

Without --scene: 30000 Gaussians and made-up photos of 400x300. With it: the photos of that folder with their longer
side at most 400 pixels, and at most as many Gaussians as --gaussians says. Runs of ``fit()`` take turns; their number
of Gaussians stays the same, all harmonics are in use, and the densifier takes note of every step. A rate is that of the
median step, in which the PSNR of a record is included (a real run records one step in a hundred). The joint phase
shows the head the crops that training uses and, apart from that, whole images.

``overlap_per_pixel`` is that of the first photo when the run begins: far more than in the benchmark of the rasterizer,
because Gaussians begin faint and as wide as their neighbours are away. ``breakdown_ms`` tells the parts of the median
step under PyTorch's profiler, which makes steps somewhat longer: compiled kernels, convolutions and optimisers by their
names, PyTorch's other operations by the place where they run, and what is left "between operations" is Python. The twin
of the small case trains by the reference backend.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer import overlaps
from measuring import Options, Times, case, run, show, size, take_turns, use_threads, write_json

if TYPE_CHECKING:
    from qsplat.io.scene import Scene
    from qsplat.training.fit import FitConfig, StepRecord

WARM_UP = 5
"""Steps at the beginning of each phase that do not count."""
LONGEST_SIDE = 400
"""Of the photos of a scene, in pixels."""
SMALL, TWIN = "splatting, small case", "twin"
TWIN_CASE, TWIN_ITERATIONS = (500, 80, 60), 5
"""What the reference backend trains at a few steps per second."""
MARK = "end of step"
PARTS = {
    "Project": "projection",
    "ProjectBackward": "projection backward",
    "Composite": "rasterizer",
    "CompositeBackward": "rasterizer backward",
    "Photometric": "loss",
    "PhotometricBackward": "loss",
    "aten::conv2d": "convolutions",
    "ConvolutionBackward0": "convolutions backward",
    "Optimizer.step#Adam.step": "optimisers",
}
"""What the profiler calls the operations that are parts of their own."""
FIRST = "activations"
AFTER = {
    "Project": "image operations",
    "ProjectBackward": "activations backward",
    "Optimizer.step#Adam.step": "densifier and record",
}
"""What the other operations belong to at the beginning of a step, and after these."""


@dataclass(frozen=True)
class PhaseSpeed:
    """What one phase takes; ``breakdown_ms`` has the milliseconds of the parts of one step."""

    phase: str
    iterations_per_second: float
    breakdown_ms: dict[str, float]
    gaussians: int
    width: int
    height: int
    overlap_per_pixel: float
    threads: int
    sgemm_gflops: float
    twin_iterations_per_second: float | None = None
    ratio: float | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the JSON file if one is named."""
    options = Options(__doc__)
    options.add_argument("--scene", type=Path, metavar="DIR", help="a folder with photos and transforms.json")
    options.add_count("--iterations", default=20, help="steps to time in each phase of a run")
    options.add_count("--repeats", default=4, help="runs of every kind")
    options.add_count("--gaussians", default=30_000, help="their number")
    options.add_argument("--size", type=size, default=(400, 300), metavar="WxH", help="of made-up photos")
    options.add_argument("--twin-case", type=case, default=TWIN_CASE, metavar="N@WxH", help="for the reference backend")
    options.add_count("--threads", default=None, help="threads, torch's own number when not given")
    given = options.parse_args(arguments)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")

    def bench() -> None:
        from qsplat.io.transforms import load_scene

        threads = use_threads(given.threads)
        if given.scene:
            scene = load_scene(given.scene, max_side=LONGEST_SIDE)
        else:
            scene = made_up_scene(given.gaussians, *given.size)
        gaussians = min(given.gaussians, len(scene.points.positions)) if scene.points else given.gaussians
        speeds = measure(kinds(scene, gaussians, given.iterations, given.twin_case), given.repeats, threads)
        if given.json:
            write_json(given.json, [asdict(speed) for speed in speeds])
        show(f"training, {scene.name}", [_without(speed, "breakdown_ms") for speed in speeds])
        by_parts = sorted(speeds, key=lambda speed: -len(speed.breakdown_ms))
        names = dict.fromkeys(name for speed in by_parts for name in speed.breakdown_ms)
        parts = [{"part": name, **{speed.phase: speed.breakdown_ms.get(name) for speed in speeds}} for name in names]
        show("milliseconds of a step", parts)

    return run(bench)


def measure(kinds: Sequence[Kind], repeats: int, threads: int) -> list[PhaseSpeed]:
    """Speed of every phase; the last of the ``kinds`` is the twin of the one before."""
    phases = [(kind, phase, name) for kind in kinds[:-1] for phase, name in kind.phases.items()]
    parts = [partial(kind.breakdown, phase) for kind, phase, _ in phases]
    found = take_turns([*(kind.train for kind in kinds), *parts], repeats, warm=True)
    steps = {name: milliseconds for times in found.medians[: len(kinds)] for name, milliseconds in times.items()}
    twin = {"twin_iterations_per_second": round(1e3 / steps[TWIN], 2), "ratio": round(steps[TWIN] / steps[SMALL], 1)}
    return [
        PhaseSpeed(
            phase=name,
            iterations_per_second=round(1e3 / steps[name], 2),
            breakdown_ms=dict(breakdown),
            gaussians=kind.gaussians,
            width=kind.scene.train[0].camera.width,
            height=kind.scene.train[0].camera.height,
            overlap_per_pixel=kind.overlap_per_pixel(),
            threads=threads,
            sgemm_gflops=found.sgemm_gflops,
            **(twin if name == SMALL else {}),
        )
        for (kind, _, name), breakdown in zip(phases, found.medians[len(kinds) :], strict=True)
    ]


@dataclass(frozen=True)
class Kind:
    """A kind of run: ``iterations`` steps that count in each of its ``phases``, with the names that they go by."""

    scene: Scene
    gaussians: int
    iterations: int
    phases: Mapping[str, str]
    whole_images: bool = False
    by_reference: bool = False

    @property
    def config(self) -> FitConfig:
        """How to train."""
        from qsplat.qnn import QnnConfig
        from qsplat.training.densification import DefaultDensification
        from qsplat.training.fit import FitConfig
        from qsplat.training.schedule import Schedule

        schedule = Schedule(
            len(self.phases) * (WARM_UP + self.iterations), head_share=1 / len(self.phases), sh_share=1e-9
        )
        if list(self.phases) == ["joint"]:
            schedule = replace(schedule, head_share=0.0)
        return FitConfig(
            schedule=replace(schedule, crop_share=1.0) if self.whole_images else schedule,
            densification=DefaultDensification(max_gaussians=2 * self.gaussians, start=1.0, stop=1.0),
            head=QnnConfig() if "joint" in self.phases else None,
            seeds=self.gaussians,
            backend="reference" if self.by_reference else None,
        )

    def train(self) -> Times:
        """Milliseconds of the median step of each phase."""
        from qsplat.training.fit import fit

        records: list[StepRecord] = []
        fit(self.scene, self.config, on_step=records.append)
        times = {}
        for phase, name in self.phases.items():
            ends = [record.seconds for record in records if record.phase == phase][WARM_UP - 1 :]
            times[name] = 1e3 * statistics.median(later - earlier for earlier, later in itertools.pairwise(ends))
        return times

    def overlap_per_pixel(self) -> float:
        """Of the first photo at the beginning of a run, as ``rasterizer.py`` counts it."""
        import torch

        from qsplat.render import RasterConfig
        from qsplat.render.projection import project
        from qsplat.training.seeding import seed_in_view
        from qsplat.training.training import initial_gaussians

        generator, camera = torch.Generator().manual_seed(self.config.seed), self.scene.train[0].camera
        points = self.scene.points or seed_in_view(self.scene.train, self.gaussians, generator=generator)
        start = initial_gaussians(points, max_gaussians=2 * self.gaussians, sh_degree=0, generator=generator)
        flat = project(start.activate(), camera, RasterConfig())
        records = torch.cat([flat.conics, flat.opacities[:, None]], dim=1)[flat.radii > 0]
        return round(overlaps(records) / (camera.width * camera.height), 2)

    def breakdown(self, phase: str) -> Times:
        """Milliseconds of the parts of the median step of ``phase``."""
        from torch.autograd.profiler import profile, record_function

        from qsplat.training.fit import fit

        watch, watching = profile(), contextlib.ExitStack()
        steps = itertools.count(1)

        def on_step(record: StepRecord) -> None:
            if record.phase != phase:
                return
            step = next(steps)
            if step == WARM_UP:
                watching.enter_context(watch)
            if step >= WARM_UP:
                with record_function(MARK):
                    pass
            if step == WARM_UP + self.iterations:
                watching.close()

        fit(self.scene, self.config, on_step=on_step)
        return parts_of_median_step(watch.function_events)


def kinds(scene: Scene, gaussians: int, iterations: int, twin_case: tuple[int, int, int]) -> list[Kind]:
    """Every kind of run."""
    small = made_up_scene(*twin_case)
    return [
        Kind(scene, gaussians, iterations, {"splatting": "splatting", "joint": "joint"}),
        Kind(scene, gaussians, iterations, {"joint": "joint, whole images"}, whole_images=True),
        Kind(small, twin_case[0], TWIN_ITERATIONS, {"splatting": SMALL}),
        Kind(small, twin_case[0], TWIN_ITERATIONS, {"splatting": TWIN}, by_reference=True),
    ]


def parts_of_median_step(events: Any) -> Times:
    """Median of each part, in the order in which the parts begin; the operations inside others belong to those."""
    outer = sorted((event for event in events if event.cpu_parent is None), key=lambda event: event.time_range.start)
    steps: list[dict[str, float]] = []
    section, begin = FIRST, outer[0].time_range.start
    for event in outer:
        if event.name == MARK:
            end = event.time_range.start
            if steps:
                steps[-1]["between operations"] = (end - begin) / 1e3 - sum(steps[-1].values())
            steps.append(defaultdict(float))
            section, begin = FIRST, end
            continue
        name = event.name.removeprefix("autograd::engine::evaluate_function: ")
        steps[-1][PARTS.get(name, section)] += event.time_range.elapsed_us() / 1e3
        section = AFTER.get(name, section)
    steps.pop()
    return {
        name: round(statistics.median(step.get(name, 0.0) for step in steps), 3)
        for name in dict.fromkeys(name for step in steps for name in step)
    }


def _without(speed: PhaseSpeed, name: str) -> dict[str, Any]:
    return {key: value for key, value in asdict(speed).items() if key != name}


def made_up_scene(gaussians: int, width: int, height: int, *, views: int = 4) -> Scene:
    """Points in a ball, seen by cameras on a ring around it whose photos are smooth noise."""
    import torch

    from qsplat.cameras import Camera
    from qsplat.io.scene import PointCloud, Scene, View

    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(gaussians, 3, generator=generator), dim=-1)
    positions = 0.6 * directions * torch.rand(gaussians, 1, generator=generator) ** (1 / 3)
    photos = []
    for index in range(views):
        angle = 2 * math.pi * index / views
        forward = -torch.tensor([math.cos(angle), math.sin(angle), 0.0])
        right = torch.tensor([-math.sin(angle), math.cos(angle), 0.0])
        rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
        pose = torch.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, torch.tensor([0.0, 0.0, 1.5])
        coarse = torch.rand(1, 3, 8, 8, generator=generator)
        image = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")[0].permute(1, 2, 0)
        camera = Camera(pose, float(width), float(width), width / 2, height / 2, width, height)
        photos.append(View(f"made up {index}", camera, image.contiguous()))
    points = PointCloud(positions, torch.rand(gaussians, 3, generator=generator))
    return Scene("made up", tuple(photos), (), points, torch.eye(4))


if __name__ == "__main__":
    sys.exit(main())

"""How fast training is, and where its time goes, before and after the head's switch-on.

    python scripts/bench/training.py [--json FILE] [--scene DIR] [--iterations N] [--gaussians N] [--threads N]

Without --scene: 30000 Gaussians and made-up photos of 400x300. With it: the photos of that folder with their longer
side at most 400 pixels, and as many Gaussians as --gaussians says. The number of Gaussians stays the same. Rates are
those of the median step of each phase; the parts are medians, too, and measured one by one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from qsplat.cameras import Camera
from qsplat.io.scene import PointCloud, Scene, View
from qsplat.io.transforms import load_scene
from qsplat.qnn import QNN, QnnConfig, image_residual
from qsplat.render import RasterConfig
from qsplat.training.densification import DefaultDensification
from qsplat.training.fit import FitConfig, StepRecord, fit, initial_gaussians
from qsplat.training.losses import photometric_loss
from qsplat.training.model import SplatModel
from qsplat.training.optimizers import gaussian_optimizers, optimizer_for
from qsplat.training.parameters import gaussians_of, parameters_of
from qsplat.training.schedule import Schedule
from qsplat.training.seeding import seed_in_view

WARM_UP = 3
"""Steps of each phase, and repetitions of each part, that do not count."""
LONGEST_SIDE = 400
"""Of the photos, in pixels."""


@dataclass(frozen=True)
class PhaseSpeed:
    """What one phase takes; ``breakdown_ms`` has the milliseconds of the parts of one step."""

    phase: str
    iterations_per_second: float
    breakdown_ms: dict[str, float]


def main() -> int:
    """Measure, print, and write the JSON file if one is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write a list with one record per phase")
    parser.add_argument("--scene", type=Path, metavar="DIR", help="a folder with photos and transforms.json")
    parser.add_argument("--iterations", type=int, default=30, help="steps to time in each phase")
    parser.add_argument("--gaussians", type=int, default=30_000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    if min(given.iterations, given.gaussians, given.threads) < 1:
        print("--iterations, --gaussians and --threads must each be at least 1", file=sys.stderr)
        return 2
    torch.set_num_threads(given.threads)
    try:
        scene = load_scene(given.scene, max_side=LONGEST_SIDE) if given.scene else made_up_scene(given.gaussians)
        speeds = measure(scene, given.gaussians, given.iterations)
        if given.json is not None:
            given.json.write_text(json.dumps([asdict(speed) for speed in speeds], indent=2) + "\n")
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    height, width = scene.train[0].image.shape[:2]
    print(f"{scene.name}: {given.gaussians} Gaussians, {width}x{height}, {given.threads} threads")
    for speed in speeds:
        parts = "  ".join(f"{name} {value:.1f}" for name, value in speed.breakdown_ms.items())
        print(f"{speed.phase:10} {speed.iterations_per_second:6.2f} iterations/s   ms: {parts}")
    return 0


def measure(scene: Scene, gaussians: int, iterations: int) -> list[PhaseSpeed]:
    """Speed of the splatting phase and of the joint phase."""
    schedule = Schedule(2 * (WARM_UP + iterations), head_share=0.5, sh_share=1e-9)
    config = FitConfig(
        schedule=schedule, densification=DefaultDensification(max_gaussians=2 * gaussians, stop=0.0), seeds=gaussians
    )
    records: list[StepRecord] = []
    fit(scene, config, on_step=records.append)
    return [
        PhaseSpeed(phase, 1 / _median_step(records, phase), breakdown(scene, config, head=phase == "joint"))
        for phase in ("splatting", "joint")
    ]


def breakdown(scene: Scene, config: FitConfig, *, head: bool, repetitions: int = 10) -> dict[str, float]:
    """Milliseconds of the parts of one step, each run alone."""
    view = scene.train[0]
    generator = torch.Generator().manual_seed(config.seed)
    points = scene.points or seed_in_view(scene.train, config.seeds, generator=generator)
    start = initial_gaussians(points, max_gaussians=2 * config.seeds, sh_degree=3, generator=generator)
    parameters = parameters_of(start)
    model = SplatModel(gaussians_of(parameters), QNN(QnnConfig()) if head else None, config=RasterConfig(depth=False))
    photo = view.image

    def render() -> torch.Tensor:
        return replace(model, head=None, gaussians=gaussians_of(parameters)).render(view.camera).rgb

    def step(image: torch.Tensor) -> None:
        photometric_loss(image, photo).backward()

    parts = {"render": _milliseconds(render, repetitions)}
    base = render().detach().requires_grad_()
    parts["loss and its backward"] = _milliseconds(lambda: step(base), repetitions)
    gradient = torch.randn_like(base) / base.numel()
    image = render()
    parts["render backward"] = _milliseconds(lambda: image.backward(gradient, retain_graph=True), repetitions)
    optimizers = gaussian_optimizers(parameters)
    if model.head is not None:
        network = model.head
        parts["head"] = _milliseconds(lambda: image_residual(network, base, view.camera), repetitions)
        residual = image_residual(network, base, view.camera)
        parts["head backward"] = _milliseconds(lambda: residual.backward(gradient, retain_graph=True), repetitions)
        optimizers["qnn"] = optimizer_for("qnn", network.parameters())
    parts["optimisers"] = _milliseconds(lambda: [o.step() for o in optimizers.values()], repetitions)
    return parts


def made_up_scene(gaussians: int, *, width: int = 400, height: int = 300, views: int = 4) -> Scene:
    """Points in a ball, seen by cameras on a ring around it whose photos are smooth noise."""
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


def _median_step(records: list[StepRecord], phase: str) -> float:
    """Seconds of the median step of ``phase``."""
    ends = [record.seconds for record in records if record.phase == phase][WARM_UP - 1 :]
    return statistics.median(later - earlier for earlier, later in itertools.pairwise(ends))


def _milliseconds(part: Callable[[], object], repetitions: int) -> float:
    """Median time of ``part``."""
    times = []
    for _ in range(WARM_UP + repetitions):
        began = time.perf_counter()
        part()
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times[WARM_UP:])


if __name__ == "__main__":
    raise SystemExit(main())

"""Doing one run: training a method for its budget, and measuring what came of it.

What is on the clock is the training alone: not reading photos, the few steps that are thrown away to plan the run,
measuring, nor saving. Everything is done with one thread.
"""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comparison.plan import HOLDOUT_EVERY, Run
from scripts.experiments.ablation_cache import Cache, code_digest

if TYPE_CHECKING:
    from torch import Tensor

    from comparison.courses import Learnt
    from comparison.pacing import Spent
    from qsplat.cameras import Camera
    from qsplat.io.scene import Scene, View
    from qsplat.metrics.report import ImageScores, RenderedView

ROWS = ("courses", "methods", "pacing", "plan", "stages", "training")
"""The scripts beside this one that decide what a row says."""
PICTURED = 3
"""Held-out views, evenly chosen, of which pictures are kept."""
CURVED = 2
"""Those of them by which progress is measured."""


@dataclass(frozen=True)
class Trainer:
    """Does runs, and marks what it finds with the digest of the sources on the machine that it ran on."""

    def __call__(self, run: Run) -> dict[str, Any]:
        """The row of a run, with pictures.

        Raises:
            ValueError: it cannot be trained or measured; the sentence says why.
        """
        from scripts.bench.measuring import processor, use_threads

        use_threads(1)
        code = _code()
        from comparison.courses import course_for
        from comparison.pacing import spend

        scene = _scene(run.capture.folder, run.capture.max_side)
        if not scene.test:
            raise ValueError(f"{scene.name} has 0 held-out views: hold some out")
        course = course_for(run.method, scene, seed=run.seed, gaussians=run.gaussians)
        curve, pictured = list[dict[str, float]](), _evenly(scene.test, PICTURED)

        def watch(spent: Spent) -> None:
            curve.append({**_rounded(asdict(spent)), "psnr": round(_psnr(course.model(), pictured[:CURVED]), 4)})

        spent = spend(course.parts(), run.budget, watch)
        size = course.size()
        measured = _measured(course.model(), scene, {view.name for view in pictured})
        return {
            **measured,
            "notes": [*course.remarks(), *measured["notes"]],
            "train_seconds": round(spent.seconds, 3),
            "wall_seconds": round(spent.wall, 3),
            "iterations": spent.iterations,
            **asdict(size),
            "curve": curve,
            "code": code,
            "processor": processor(),
        }


@dataclass(frozen=True)
class Keeper:
    """Does runs with a trainer and keeps what it finds."""

    cache: Cache
    trainer: Any

    def __call__(self, run: Run) -> None:
        self.cache.write(run.key, self.trainer(run))


def _measured(model: Learnt, scene: Scene, pictured: set[str]) -> dict[str, Any]:
    """Scores on the held-out views, views a second, and pictures of those named ``pictured``."""
    from qsplat.metrics.lpips import load_lpips
    from qsplat.metrics.report import RunFacts, evaluate

    seconds, pictures = list[float](), list[dict[str, Any]]()

    def render(camera: Camera) -> RenderedView:
        began = time.process_time()
        shown = model.render(camera)
        seconds.append(time.process_time() - began)
        return shown

    def keep(image: ImageScores, photo: Tensor, shown: RenderedView) -> None:
        if image.name in pictured:
            both = {"photo": encoded(photo), "image": encoded(shown.rgb)}
            pictures.append({"view": image.name, "psnr": image.scores.psnr, **both})

    report = evaluate(
        render,
        scene.test,
        RunFacts("comparison", scene.name, "cpu", None, None, None),
        background=model.background,
        lpips={net: load_lpips(net) for net in ("vgg", "alex")},
        on_view=keep,
    )
    return {
        "mean": _rounded(asdict(report.mean)),
        "per_view": {image.name: _rounded(asdict(image.scores)) for image in report.per_image},
        "fps": round(len(seconds) / sum(seconds), 2),
        "views": [len(scene.train), len(scene.test)],
        "notes": list(report.notes),
        "pictures": pictures,
    }


def _psnr(model: Learnt, views: Sequence[View]) -> float:
    """Mean PSNR in dB."""
    import torch

    from qsplat.metrics.psnr import psnr
    from qsplat.training.targets import Target

    scores = []
    with torch.no_grad():
        for view in views:
            target = Target.of(view, 1, "cpu")
            scores.append(psnr(model.render(target.camera).rgb, target.over(model.background), mask=target.mask))
    return sum(scores) / len(scores)


def encoded(image: Tensor) -> str:
    """An image [h, w, 3], clamped to [0, 1], as base64 of a WebP without loss."""
    from pictures import picture
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture(image)).save(buffer, "webp", lossless=True, method=6)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


@lru_cache(maxsize=1)
def _code() -> str:
    """Once for a process, which keeps what it imported when the files change."""
    return code_digest(ROWS, Path(__file__).parent)


@lru_cache(maxsize=1)
def _scene(folder: str, max_side: int) -> Scene:
    from qsplat.io.transforms import load_scene

    return load_scene(folder, max_side=max_side, holdout_every=HOLDOUT_EVERY)


def _evenly(views: Sequence[View], count: int) -> list[View]:
    """At most ``count`` of ``views``, spread over them: from the middle of equal parts."""
    count = min(count, len(views))
    return [views[(2 * index + 1) * len(views) // (2 * count)] for index in range(count)]


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers to 1e-5, those in tuples too."""
    rounded = {}
    for name, value in values.items():
        if isinstance(value, tuple):
            value = [round(one, 5) for one in value]
        rounded[name] = round(value, 5) if isinstance(value, float) else value
    return rounded

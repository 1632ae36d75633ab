"""How much slower ``ns-train qsplat`` is than ``fit()`` on the same capture.

    python scripts/bench/ns_train.py [--scene DIR] [--gaussians N] [--iterations N] [--repeats N] [--json FILE]

Both train the same number of Gaussians, which start at random points, on the same photos, without a head and without
densification; ns-train with its data manager, log file, evaluation and checkpoints as usual, and no viewer. Every run
is a process of its own, and the two kinds take turns. A rate is that of the median iteration after the first hundred:
what happens once, as the first evaluation's import of torchmetrics, does not show in it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measuring import Options, machine, run, sgemm_gflops, show, use_threads, write_json

WARM_UP = 100
"""Iterations that do not count."""
FEWEST_ITERATIONS = 10
KINDS = ("fit", "ns-train")
STILLLIFE = Path(__file__).resolve().parents[2] / "scenes" / "stilllife"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the JSON file if one is named."""
    options = Options(__doc__)
    options.add_argument("--scene", type=Path, default=STILLLIFE, metavar="DIR", help="photos and transforms.json")
    options.add_count("--gaussians", default=30_000, help="number of Gaussians")
    options.add_count("--iterations", default=500, help="iterations of a run after the first hundred")
    options.add_count("--repeats", default=3, help="runs of each kind")
    options.add_argument("--one", choices=KINDS, help="train once in this process and print milliseconds per iteration")
    given = options.parse_args(arguments)
    if given.one:
        train_once = fit_milliseconds if given.one == "fit" else ns_train_milliseconds
        return run(lambda: print(json.dumps(train_once(given))))
    return run(lambda: measure(given))


def measure(given: argparse.Namespace) -> None:
    """Runs of both kinds in turns."""
    if given.iterations < FEWEST_ITERATIONS:
        raise ValueError(f"--iterations {given.iterations}: a median is taken from {FEWEST_ITERATIONS} on")
    threads = use_threads(None)
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    speeds = []
    with tempfile.TemporaryDirectory() as folder:
        capture = without_points(given.scene, Path(folder))
        for _ in range(given.repeats):
            for kind in KINDS:
                times[kind].append(in_a_process(kind, capture, given))
            speeds.append(sgemm_gflops())
    medians = {kind: statistics.median(values) for kind, values in times.items()}
    rows = [
        {
            "command": kind,
            "iterations_per_second": round(1e3 / medians[kind], 2),
            "ms": round(medians[kind], 2),
            "ratio_to_fit": round(medians[kind] / medians["fit"], 3),
            "gaussians": given.gaussians,
            "threads": threads,
            "sgemm_gflops": round(statistics.median(speeds), 1),
        }
        for kind in KINDS
    ]
    show(f"fit() and ns-train on {given.scene.name}", rows)
    if given.json is not None:
        write_json(given.json, {"machine": machine(), "rows": rows})


def without_points(scene: Path, folder: Path) -> Path:
    """A capture with the photos of ``scene`` and none of its points, made of links.

    Raises:
        ValueError: it is not a capture in nerfstudio's format.
    """
    if not (scene / "transforms.json").is_file():
        raise ValueError(f"{scene} has no transforms.json: give the folder of a capture in nerfstudio's format")
    description = json.loads((scene / "transforms.json").read_text(encoding="utf-8"))
    description.pop("ply_file_path", None)
    for entry in scene.iterdir():
        if entry.name != "transforms.json":
            (folder / entry.name).symlink_to(entry.resolve(), target_is_directory=entry.is_dir())
    (folder / "transforms.json").write_text(json.dumps(description), encoding="utf-8")
    return folder


def in_a_process(kind: str, capture: Path, given: argparse.Namespace) -> float:
    """Milliseconds per iteration of one run."""
    command = [sys.executable, __file__, "--one", kind, "--scene", str(capture)]
    command += ["--gaussians", str(given.gaussians), "--iterations", str(given.iterations)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"{kind} failed")
    return float(done.stdout.splitlines()[-1])


def fit_milliseconds(given: argparse.Namespace) -> float:
    """Milliseconds of an iteration of ``fit()``."""
    use_threads(None)

    from qsplat.io.transforms import load_scene
    from qsplat.training.densification import DefaultDensification
    from qsplat.training.fit import FitConfig, fit
    from qsplat.training.schedule import Schedule

    config = FitConfig(
        schedule=Schedule(WARM_UP + given.iterations),
        densification=DefaultDensification(max_gaussians=2 * given.gaussians, stop=0.0),
        head=None,
        seeds=given.gaussians,
        seed=42,
    )
    history = fit(load_scene(given.scene), config).history
    return median_milliseconds([(record.step, record.seconds) for record in history])


def ns_train_milliseconds(given: argparse.Namespace) -> float:
    """Milliseconds of an iteration of ``ns-train qsplat``."""
    use_threads(None)

    from copy import deepcopy

    import torch
    from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation

    from nerfstudio_plugin.methods import qsplat
    from qsplat.training.densification import DefaultDensification

    config: Any = deepcopy(qsplat.config)
    config.vis = "tensorboard"
    config.machine.device_type = "cpu"
    config.max_num_iterations = WARM_UP + given.iterations
    config.pipeline.datamanager.data = given.scene
    config.pipeline.datamanager.max_side = None
    config.pipeline.datamanager.num_random = given.gaussians
    config.pipeline.model.qnn = "none"
    config.pipeline.model.densification = DefaultDensification(max_gaussians=2 * given.gaussians, stop=0.0)
    ends: list[float] = []
    torch.manual_seed(42)
    with tempfile.TemporaryDirectory() as folder:
        config.output_dir = Path(folder)
        config.set_timestamp()
        trainer = config.setup(local_rank=0, world_size=1)
        trainer.setup()
        after = [TrainingCallbackLocation.AFTER_TRAIN_ITERATION]
        trainer.callbacks.append(TrainingCallback(after, lambda step: ends.append(time.perf_counter())))
        trainer.train()
    every = max(1, len(ends) // 100)  # as the history of fit() does
    return median_milliseconds(list(enumerate(ends))[::every])


def median_milliseconds(ends: Sequence[tuple[int, float]]) -> float:
    """Milliseconds of an iteration, from steps and the seconds at which they ended: the median between two of them."""
    counted = [end for end in ends if end[0] >= WARM_UP]
    return 1e3 * statistics.median(
        (seconds - before) / (step - earlier) for (earlier, before), (step, seconds) in itertools.pairwise(counted)
    )


if __name__ == "__main__":
    sys.exit(main())

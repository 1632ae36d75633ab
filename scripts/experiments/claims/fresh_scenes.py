"""FreSh: frequencies of radiance fields chosen from the photos, against defaults and a search by training.

Claim: frequencies that FreSh chooses are better than the defaults and comparable with the best of a search that trains
    every candidate, for the price of forward passes of untrained fields.
Setting: chair at 100 pixels a side and fox at 100 pixels (the bundled still life in a quick run), held-out views; the
    fields of qsplat-siren (omega), qsplat-fourier (deviation in cycles per unit) and qsplat-nerf (octaves) in the size
    for CPUs: 4 layers of 128 channels, 250 steps of 512 rays. FreSh chooses from all values of its grid, ten untrained
    fields for each, 64 bins (SIREN 32; fewer where photos are small); trained are four values of the grid, the default
    (30, 2 and 10) among them, and FreSh's choice. PSNR of six held-out views. The source
    trains 500,000 steps of 4096 rays.
Source: Kania et al. 2024 (arXiv 2410.05050) and its code; its tables are not known. The grid of octaves, the size of
    the fields and the length of the runs are our choice. The defaults were chosen on views of chair.
Expectation: within a dB of the best; little gain over defaults that were found by such trainings themselves, and the
    most where a default comes from another task (omega).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from claims.drawing import canvas, save, say
from claims.frequency_choices import panel, verdicts_on
from claims.images import STILLLIFE
from claims.record import Setting, Verdict

from qsplat.fields import FieldModel, OccupancyConfig, frequency_of, with_frequency
from qsplat.io.scene import Scene
from qsplat.io.transforms import load_scene
from qsplat.metrics.psnr import psnr
from qsplat.training.field_presets import FieldMethod, field_preset
from qsplat.training.fit_field import FieldFitConfig, fit_field
from qsplat.training.frequency import choose_field_frequency
from qsplat.training.targets import Target

SCENES = ("chair", "fox")
MISSING = f"not measured: QSPLAT_DATA names no folder with {' and '.join(f'scenes/{one}' for one in SCENES)}"
FAMILIES: dict[str, tuple[FieldMethod, tuple[float, ...]]] = {
    "SIREN": ("siren", (10.0, 30.0, 60.0, 120.0)),
    "Fourier features": ("fourier", (1.0, 2.0, 4.0, 8.0)),
    "octaves": ("nerf", (3.0, 5.0, 7.0, 10.0)),
}
"""Each with the values of FreSh's grid that are trained."""
SHOWN = 6
"""Held-out views, evenly chosen."""


def measure(setting: Setting) -> dict[str, Any]:
    """PSNR in dB of every candidate, what FreSh chose, and at what cost, for every seed, scene and family."""
    if not setting.quick and not (setting.data and all((setting.data / "scenes" / one).is_dir() for one in SCENES)):
        return {"missing": MISSING}
    folders = [STILLLIFE] if setting.quick or not setting.data else [setting.data / "scenes" / one for one in SCENES]
    side, steps = (32, 3) if setting.quick else (100, 250)
    scenes = [load_scene(folder, max_side=side) for folder in folders]
    runs = []
    for seed in setting.each_seed():
        for scene in scenes:
            for family, (method, grid) in FAMILIES.items():
                config = replace(field_preset(method, "small", iterations=steps), seed=seed, rays=512)
                choosable = None
                if setting.quick:
                    choosable, grid, config = grid[:2], grid[:2], _smaller(config)
                found = _searched(scene, config, grid, choosable)
                runs.append({"seed": seed, "scene": scene.name, "family": family, **found})
    return {"steps": steps, "runs": runs}


def judge(figures: dict[str, Any]) -> list[Verdict]:
    """The choice against the default and against the best, by family, and what choosing took."""
    if "missing" in figures:
        return [Verdict("FreSh chooses better frequencies than the default", None, figures["missing"])]
    runs = figures["runs"]
    choosing = statistics.fmean(run["choosing_seconds"] for run in runs)
    searching = statistics.fmean(sum(run["training_seconds"]) for run in runs)
    passes = sorted({run["forward_passes"] for run in runs})
    said = (
        f"{' or '.join(map(str, passes))} forward passes, {choosing:.1f} processor seconds on average, against "
        f"{searching:.1f} to train {statistics.fmean(len(run['candidates']) for run in runs):.1f} candidates for "
        f"{figures['steps']} steps"
    )
    cheaper = Verdict("choosing costs less than training every candidate", choosing < searching, said)
    return [*verdicts_on(runs, FAMILIES, of="runs"), cheaper]


def draw(figures: dict[str, Any], path: Path) -> None:
    """PSNR by candidate, a row for each scene."""
    if "missing" in figures:
        say(figures["missing"], path)
        return
    scenes = list(dict.fromkeys(run["scene"] for run in figures["runs"]))
    with canvas(len(scenes), len(FAMILIES)) as (figure, axes):
        for row, scene in zip(axes, scenes, strict=True):
            for axis, family in zip(row, FAMILIES, strict=True):
                some = [run for run in figures["runs"] if (run["scene"], run["family"]) == (scene, family)]
                panel(axis, some, title=f"{scene}, {family}")
        save(figure, path)


def _smaller(config: FieldFitConfig) -> FieldFitConfig:
    """A training for a quick run."""
    sampling = OccupancyConfig(resolution=16, samples=6, bins=24)
    return replace(config, rays=64, field=replace(config.field, depth=2, width=32, sampling=sampling))


def _searched(
    scene: Scene, config: FieldFitConfig, grid: Sequence[float], choosable: Sequence[float] | None
) -> dict[str, Any]:
    """FreSh's choice among those ``choosable`` (None for all), and a training of each value of ``grid``, of the default
    and of the choice."""
    frequencies = config.field.frequencies
    began = time.process_time()
    choice = choose_field_frequency(scene, config.field, seed=config.seed, candidates=choosable)
    chose = time.process_time() - began
    default = frequency_of(frequencies)
    candidates = sorted({*grid, default, choice.value})
    found = [
        _trained(scene, replace(config, field=replace(config.field, frequencies=with_frequency(frequencies, value))))
        for value in candidates
    ]
    return {
        "candidates": candidates,
        "psnr": [score for score, _ in found],
        "default": candidates.index(default),
        "chosen": candidates.index(choice.value),
        "distances": [[one.value, round(one.distance, 4)] for one in choice.candidates],
        "forward_passes": choice.forward_passes,
        "choosing_seconds": round(chose, 3),
        "training_seconds": [seconds for _, seconds in found],
    }


def _trained(scene: Scene, config: FieldFitConfig) -> tuple[float, float]:
    """PSNR in dB of held-out views, and processor seconds of the training."""
    began = time.process_time()
    model = fit_field(scene, config).model
    seconds = round(time.process_time() - began, 3)
    return _score(model, scene), seconds


@torch.no_grad()
def _score(model: FieldModel, scene: Scene) -> float:
    """Mean PSNR in dB."""
    count = min(SHOWN, len(scene.test))
    views = [scene.test[(2 * index + 1) * len(scene.test) // (2 * count)] for index in range(count)]
    targets = [Target.of(view, 1, "cpu") for view in views]
    return statistics.fmean(
        psnr(model.render(target.camera).rgb, target.over(model.background), mask=target.mask) for target in targets
    )

"""Heads of four families on real scenes, at equal steps and at equal time.

Claim: none of the sources was tried as a residual network on splatted images. FDConv reports better dense prediction
    than plain convolutions, CF-Conv comparable classification, RFF-CA better regression: here each takes the place of
    the convolutions of the residual network.
Setting: fox and plush (the bundled still life in a quick run) at 96 pixels a side, every eighth view held out; at most
    8000 Gaussians, 800 steps alone, then 100 steps with a head, trained jointly on whole images at 3e-4, from the same
    state and with the same order of photos. At equal time, a head gets as many steps as fit into the processor time
    that the plain convolutions took. The heads differ from the default (4 layers, 64 channels) in one option each.
    Plain splatting goes on for as long. PSNR of the held-out views; float32. Sizes and steps are our choice, so that a
    seed takes three minutes of one core; runs of ns-train are longer and larger. The Gaussians are far from done after
    so few steps: at equal time those who take more of them lead, whatever the head.
Source: Chen et al. 2025 (arXiv 2503.18783), Harper et al. 2024 (arXiv 2409.09875), Feng et al. 2025 (arXiv 2512.18586)
    and Kumar et al. 2025 (arXiv 2512.12898) for the head.
Expectation: differences of a few hundredths of a dB at equal steps, within those of the seeds; plain convolutions first
    at equal time, because they are the cheapest.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from claims.drawing import bars, canvas, save, say
from claims.images import STILLLIFE
from claims.record import Setting, Verdict, larger

from qsplat.io.scene import Scene
from qsplat.io.transforms import load_scene
from qsplat.metrics.psnr import psnr
from qsplat.qnn import QNN, QnnConfig
from qsplat.qnn.convolutions import CFConv, FDConv
from qsplat.training.config import FitConfig
from qsplat.training.densification import DefaultDensification
from qsplat.training.model import SplatModel
from qsplat.training.schedule import Schedule
from qsplat.training.targets import Target
from qsplat.training.training import Training

SCENES = ("fox", "plush")
MISSING = f"not measured: QSPLAT_DATA names no folder with {' and '.join(f'scenes/{one}' for one in SCENES)}"
ALONE, PLAIN = "no head", "CNN"
HEADS: dict[str, QnnConfig | None] = {
    ALONE: None,
    PLAIN: QnnConfig(precision="fp32"),
    "FDConv": QnnConfig(precision="fp32", convolution=FDConv()),
    "CF-Conv": QnnConfig(precision="fp32", convolution=CFConv()),
    "RFF-CA": QnnConfig(precision="fp32", architecture="rffca"),
}
EQUAL = ("steps", "time")


def measure(setting: Setting) -> dict[str, Any]:
    """PSNR in dB, steps and processor seconds of every head, for every seed and scene, at equal steps and time."""
    folders = (
        [STILLLIFE] if setting.quick else [setting.data / "scenes" / one for one in SCENES] if setting.data else []
    )
    if not folders or not all(folder.is_dir() for folder in folders):
        return {"missing": MISSING}
    side, gaussians, steps, more = (32, 200, 8, 2) if setting.quick else (96, 8000, 800, 100)
    scenes = [load_scene(folder, max_side=side) for folder in folders]
    heads = {name: _smaller(head) if setting.quick else head for name, head in HEADS.items()}
    runs = []
    for seed in setting.each_seed():
        for scene in scenes:
            begun = _begun(scene, gaussians, (steps, more), seed)
            found = {name: _with_head(begun, head, more) for name, head in heads.items()}
            paid = found[PLAIN]["cpu seconds"]
            run: dict[str, Any] = {"seed": seed, "scene": scene.name, "before": _score(begun.model(), scene)}
            run["steps"] = found
            run["time"] = {
                name: found[name]
                if name == PLAIN
                else _with_head(begun, head, min(10 * more, max(1, round(more * paid / found[name]["cpu seconds"]))))
                for name, head in heads.items()
            }
            runs.append(run)
    return {"runs": runs}


def judge(figures: dict[str, Any]) -> list[Verdict]:
    """Every head against plain convolutions, and these against none."""
    if "missing" in figures:
        return [Verdict("another head is better than plain convolutions", None, figures["missing"])]
    verdicts = []
    for equal in EQUAL:
        values = {name: [run[equal][name]["psnr"] for run in figures["runs"]] for name in HEADS}
        for name in HEADS:
            one, other = (PLAIN, ALONE) if name == PLAIN else (name, PLAIN)
            if name != ALONE:
                verdict = larger(
                    f"{one} is better than {other} at equal {equal}", values[one], values[other], unit="dB"
                )
                verdicts.append(replace(verdict, by=f"{verdict.by}; {_cost(figures, one, equal)}"))
    return verdicts


def draw(figures: dict[str, Any], path: Path) -> None:
    """Gains over the Gaussians at the switch-on, a row for each scene."""
    if "missing" in figures:
        say(figures["missing"], path)
        return
    scenes = list(dict.fromkeys(run["scene"] for run in figures["runs"]))
    with canvas(len(scenes), 3) as (figure, axes):
        for row, scene in zip(axes, scenes, strict=True):
            runs = [run for run in figures["runs"] if run["scene"] == scene]
            for axis, equal in zip(row, EQUAL, strict=False):
                gains = {name: [run[equal][name]["psnr"] - run["before"] for run in runs] for name in HEADS}
                bars(axis, gains, label="gain over the switch-on (dB)")
                axis.set_title(f"{scene}, equal {equal}")
            seconds = {name: [run["steps"][name]["cpu seconds"] for run in runs] for name in HEADS}
            bars(row[2], seconds, label="processor seconds at equal steps")
            row[2].set_ylim(bottom=0)
        save(figure, path)


def _cost(figures: dict[str, Any], name: str, equal: str) -> str:
    """Parameters and milliseconds of a step, or the steps that fitted into the time; means over runs."""
    runs = [run[equal][name] for run in figures["runs"]]
    if equal == "time":
        return f"{statistics.fmean(run['steps'] for run in runs):.0f} steps"
    milliseconds = statistics.fmean(1e3 * run["cpu seconds"] / run["steps"] for run in runs)
    return f"{runs[0]['parameters']:,} parameters, {milliseconds:.0f} ms a step"


def _smaller(head: QnnConfig | None) -> QnnConfig | None:
    """A head for a quick run."""
    if head is None:
        return None
    convolution = CFConv(grid=4, samples=500) if isinstance(head.convolution, CFConv) else head.convolution
    return replace(head, channels=32, convolution=convolution, tokens=replace(head.tokens, base=8))


def _begun(scene: Scene, gaussians: int, plan: tuple[int, int], seed: int) -> Training:
    """Gaussians alone, up to the step at which a head is switched on; the plan holds that and the steps after it."""
    steps, more = plan
    schedule = Schedule(steps + more, head_share=steps / (steps + more), crop_share=1.0)
    densification = DefaultDensification(max_gaussians=gaussians)
    config = FitConfig(schedule, densification=densification, head=None, seed=seed)
    # All that goes on from it sees the photos in the same order
    training = Training(scene, config).fork(config)
    training.advance(steps)
    return training


def _with_head(begun: Training, head: QnnConfig | None, more: int) -> dict[str, Any]:
    """What came of ``more`` steps with a head."""
    end = begun.step + more
    schedule = replace(begun.config.schedule, iterations=end, head_share=begun.step / end)
    training = begun.fork(replace(begun.config, schedule=schedule, head=head))
    began = time.process_time()
    training.advance()
    spent = time.process_time() - began
    assert isinstance(training.scene, Scene)
    return {
        "psnr": _score(training.model(), training.scene),
        "steps": more,
        "cpu seconds": round(spent, 3),
        "parameters": 0 if head is None else sum(one.numel() for one in QNN(head).parameters()),
    }


@torch.no_grad()
def _score(model: SplatModel, scene: Scene) -> float:
    """Mean PSNR in dB of the held-out views."""
    photos = [Target.of(view, 1, "cpu").over(model.background) for view in scene.test]
    images = [model.render(view.camera).rgb.clamp(0, 1) for view in scene.test]
    return statistics.fmean(float(psnr(image, photo)) for image, photo in zip(images, photos, strict=True))

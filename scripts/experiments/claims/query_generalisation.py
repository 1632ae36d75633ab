"""Which queries help on views never seen: pixels, locations in the world, or rays.

Claim: of the queries of the residual network, coordinates in the image are best on held-out views; locations in the
    world are best on training views and poor on held-out ones.
Setting: the scene fern (the bundled still life in a quick run) at 96 pixels a side, every eighth view held out; 3000
    Gaussians trained for 600 steps, one training for each seed. From the same state a network of 4 layers of 64
    channels learns, the Gaussians frozen, for 300 steps on crops of half the image, with each of the queries and with
    none. PSNR on training and held-out views, and the spectrum of what is missing before and after.
Source: Kumar et al. 2025 (arXiv 2512.12898), table 5; the directions are known, the figures are not. Scene, sizes and
    steps are our choice, and the source trains jointly on whole images.
Expectation: differences of a few hundredths of a dB on held-out views; on training views, locations and rays tell views
    apart and coordinates do not, so that they remember more.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from claims.drawing import bars, canvas, save, say
from claims.images import STILLLIFE
from claims.record import Setting, Verdict, larger

from qsplat.io.scene import Scene, View
from qsplat.io.transforms import load_scene
from qsplat.metrics.psnr import psnr
from qsplat.qnn import QnnConfig
from qsplat.spectra.radial import mean_spectrum, radial_spectrum
from qsplat.training.config import FitConfig
from qsplat.training.densification import DefaultDensification
from qsplat.training.model import SplatModel
from qsplat.training.schedule import Schedule
from qsplat.training.targets import Target
from qsplat.training.training import Training

SCENE = "fern"
MISSING = f"not measured: QSPLAT_DATA names no folder with scenes/{SCENE}"
NETWORKS = {
    "pixels": QnnConfig(),
    "locations": QnnConfig(query="locations"),
    "rays": QnnConfig(query="rays"),
    "none": QnnConfig(input="render"),
}
SETS = ("train", "held out")


def measure(setting: Setting) -> dict[str, Any]:
    """PSNR in dB and spectra of what is missing, for every seed, network and set of views."""
    folder = STILLLIFE if setting.quick else setting.data and setting.data / "scenes" / SCENE
    if folder is None or not folder.is_dir():
        return {"missing": MISSING}
    side, gaussians, steps, more = (32, 200, 12, 6) if setting.quick else (96, 3000, 600, 300)
    scene = load_scene(folder, max_side=side)
    views = {"train": scene.train[:3] if setting.quick else scene.train, "held out": scene.test}
    runs = []
    for seed in setting.each_seed():
        begun = _begun(scene, gaussians, steps, steps + more, seed)
        run: dict[str, Any] = {"base": _scores(begun.model(), views)}
        for name, head in NETWORKS.items():
            training = begun.fork(replace(begun.config, head=head))
            training.advance()
            run[name] = _scores(training.model(), views)
        runs.append(run)
    return {"runs": runs}


def judge(figures: dict[str, Any]) -> list[Verdict]:
    """Pixels against the others on held-out views, locations against the others on training views."""
    if "missing" in figures:
        return [Verdict("coordinates in the image are the best queries on held-out views", None, figures["missing"])]
    values = {
        (name, views): [run[name][views]["psnr"] for run in figures["runs"]]
        for name in ("base", *NETWORKS)
        for views in SETS
    }
    pairs = [("pixels", other, "held out") for other in ("locations", "rays", "none")]
    pairs += [("locations", other, "train") for other in ("pixels", "rays")]
    pairs += [("pixels", "base", "held out")]
    return [
        larger(
            f"a head told {one} is better than {_called(other)} ({_views(views)})",
            values[one, views],
            values[other, views],
            unit="dB",
        )
        for one, other, views in pairs
    ]


def draw(figures: dict[str, Any], path: Path) -> None:
    """Gains by query on both sets of views, and the spectrum of what is missing."""
    if "missing" in figures:
        say(figures["missing"], path)
        return
    with canvas(1, 3) as (figure, axes):
        for axis, views in zip(axes.flat, SETS, strict=False):
            gains = {
                name: [run[name][views]["psnr"] - run["base"][views]["psnr"] for run in figures["runs"]]
                for name in NETWORKS
            }
            bars(axis, gains, label="gain over plain splatting (dB)")
            axis.set_title(_views(views))
        last = axes[0, 2]
        for views, colour in zip(SETS, ("tab:orange", "tab:blue"), strict=True):
            before, after = (
                torch.tensor([run[name][views]["missing"] for run in figures["runs"]]).mean(dim=0)
                for name in ("base", "pixels")
            )
            places = (torch.arange(len(before)) + 0.5) / 64
            last.plot(places, 10 * torch.log10(after / before), color=colour, label=_views(views))
        last.axhline(0, color="black", linewidth=0.8)
        last.set(xlabel="cycles per pixel", ylabel="error after / before (dB)", title="queries: pixels")
        last.legend(fontsize="small")
        save(figure, path)


def _begun(scene: Scene, gaussians: int, steps: int, end: int, seed: int) -> Training:
    """Gaussians alone, trained up to the step at which a head would be switched on."""
    schedule = Schedule(end, head_share=steps / end, mode="frozen", crop_share=0.5)
    densification = DefaultDensification(max_gaussians=gaussians)
    config = FitConfig(schedule, densification=densification, head=None, seed=seed)
    # All that goes on from it sees the photos in the same order
    training = Training(scene, config).fork(config)
    training.advance(steps)
    return training


@torch.no_grad()
def _scores(model: SplatModel, views: dict[str, tuple[View, ...]]) -> dict[str, Any]:
    """Mean PSNR and mean spectrum of photo less image of each set."""
    found = {}
    for name, some in views.items():
        photos = [Target.of(view, 1, "cpu").over(model.background) for view in some]
        images = [model.render(view.camera).rgb.clamp(0, 1) for view in some]
        pairs = list(zip(images, photos, strict=True))
        missing = mean_spectrum([radial_spectrum(photo - image) for image, photo in pairs])
        found[name] = {
            "psnr": statistics.fmean(psnr(image, photo) for image, photo in pairs),
            "missing": missing.energy.tolist(),
        }
    return found


def _called(name: str) -> str:
    return {"none": "one without queries", "base": "plain splatting"}.get(name, f"one told {name}")


def _views(name: str) -> str:
    return "training views" if name == "train" else "held-out views"

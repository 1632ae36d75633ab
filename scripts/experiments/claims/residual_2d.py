"""The residual of a single image: what a trained QNN adds to a splatted and to a shrunk image.

Claim: a QNN that is given a splatted image and its coordinates predicts what is missing with a large gain in PSNR, more
    than convolutions without coordinates and than coordinates without the image.
Setting: photos of 64x64 pixels (Kodak, shrunk; one for each seed). Two inputs: the photo as 300 Gaussians trained for
    300 steps, and the photo at a quarter of the resolution and back (bicubic). The residual is learnt on all pixels,
    200 steps of Adam at 1e-3, 4 layers of 64 channels; the PSNR is that of the learnt image. Photos, sizes and steps
    are our choice.
Source: Kumar et al. 2025 (arXiv 2512.12898), table 2, as its reviewers describe it: the network runs after splatting
    and "large PSNR improvements" are seen; plain and Fourier queries are tried. Its figures are not known.
Expectation: large gains, because one image is memorised; queries help to memorise, Fourier queries most.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from claims.drawing import bars, canvas, colours, save, say
from claims.images import MISSING, has_photos, photo_paths, shrunk_and_enlarged, square_photo
from claims.record import Setting, Verdict, interval, larger
from claims.regression import learn_residual
from jaxtyping import Float
from torch import Tensor

from qsplat.cameras import Camera
from qsplat.encodings import Fourier
from qsplat.io.scene import PointCloud, Scene, View
from qsplat.metrics.psnr import psnr
from qsplat.qnn import QNN, QnnConfig
from qsplat.spectra.cosines import cosine_energies
from qsplat.spectra.radial import octave_lows
from qsplat.training.fit import FitConfig, fit
from qsplat.training.schedule import Schedule

LOWS = octave_lows(4)
INPUTS = ("splatted", "shrunk")
NETWORKS = {
    "QNN": QnnConfig(),
    "QNN, Fourier queries": QnnConfig(encoding=Fourier(features=64, scale=10.0)),
    "no queries": QnnConfig(input="render"),
    "queries only": QnnConfig(input="queries"),
}
LARGE = 1.0
"""Decibels from which a gain counts as large. Our choice."""


def measure(setting: Setting) -> dict[str, Any]:
    """PSNR in dB and error by octave of both inputs and of every network's image, for every seed."""
    if not has_photos(setting):
        return {"missing": MISSING}
    side, steps, gaussians = (24, 8, 40) if setting.quick else (64, 200, 300)
    paths = photo_paths(setting, "kodak")
    runs = []
    for seed in setting.each_seed():
        path = paths[seed % len(paths)]
        photo = square_photo(path, side)
        bases = {
            "splatted": splatted(photo, gaussians, steps=20 if setting.quick else 300, seed=seed),
            "shrunk": shrunk_and_enlarged(photo, 4),
        }
        run: dict[str, Any] = {"photo": path.stem}
        for name, base in bases.items():
            run[name] = {"input": _scores(base, photo)}
            for network, config in NETWORKS.items():
                torch.manual_seed(seed)
                run[name][network] = _scores(learn_residual(QNN(config), base, photo, steps=steps), photo)
        runs.append(run)
    return {"octaves": list(LOWS), "runs": runs}


def judge(figures: dict[str, Any]) -> list[Verdict]:
    """The size of the gain, and the QNN against the others."""
    if "missing" in figures:
        return [Verdict("a QNN gains much over the image that it is given", None, figures["missing"])]
    verdicts = []
    for base in INPUTS:
        values = {name: [run[base][name]["psnr"] for run in figures["runs"]] for name in ("input", *NETWORKS)}
        gains = [one - other for one, other in zip(values["QNN"], values["input"], strict=True)]
        encoded = [one - other for one, other in zip(values["QNN, Fourier queries"], values["input"], strict=True)]
        said = f"{interval(gains)} dB, at least {min(gains):+.2f}; with Fourier queries {interval(encoded)}"
        verdicts.append(Verdict(f"a QNN gains more than {LARGE:g} dB over the {base} image", min(gains) > LARGE, said))
        for name in ("no queries", "queries only"):
            claim = f"a QNN with plain queries learns the residual of the {base} image better than {name}"
            verdicts.append(larger(claim, values["QNN"], values[name], unit="dB"))
    return verdicts


def draw(figures: dict[str, Any], path: Path) -> None:
    """Gains of the networks, and the error by octave before and after."""
    if "missing" in figures:
        say(figures["missing"], path)
        return
    with canvas(2, 2) as (figure, axes):
        for (left, right), base in zip(axes, INPUTS, strict=True):
            runs = [run[base] for run in figures["runs"]]
            gains = {name: [run[name]["psnr"] - run["input"]["psnr"] for run in runs] for name in NETWORKS}
            bars(left, gains, label=f"gain over the {base} image (dB)")
            for name, colour in zip(("input", *NETWORKS), ["black", *colours(len(NETWORKS))], strict=True):
                energies = torch.tensor([run[name]["octaves"] for run in runs]).mean(dim=0)
                right.semilogy(range(len(LOWS)), energies, "o-", label=name, color=colour)
            names = ["below 1/16", *(f"from 1/{round(1 / low)}" for low in figures["octaves"][1:])]
            right.set_xticks(range(len(LOWS)), names)
            right.set(xlabel="cycles per pixel", ylabel="mean square of the error")
        axes[0, 1].legend(fontsize="x-small")
        save(figure, path)


def splatted(photo: Float[Tensor, "h w 3"], gaussians: int, *, steps: int, seed: int) -> Float[Tensor, "h w 3"]:
    """``photo`` as Gaussians see it that were trained on it alone, from a plane in front of the camera."""
    height, width, _ = photo.shape
    pose = torch.eye(4)
    pose[2, 3] = 2.0
    camera = Camera(pose, fx=float(width), fy=float(width), cx=width / 2, cy=height / 2, width=width, height=height)
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(gaussians, 2, generator=generator) * 2 - 1
    rows, columns = (((places[:, axis] + 1) / 2 * size).long() for axis, size in ((1, height), (0, width)))
    points = PointCloud(torch.cat([places, torch.zeros(gaussians, 1)], dim=1), photo[rows, columns])
    scene = Scene("photo", (View("photo", camera, photo),), (), points, torch.eye(4))
    schedule = Schedule(steps, sh_degree=0, head_share=1.0)
    fitted = fit(scene, FitConfig(schedule, densification=None, head=None, seed=seed))
    with torch.no_grad():
        return fitted.model.render(camera).rgb.clamp(0, 1)


def _scores(image: Tensor, photo: Tensor) -> dict[str, Any]:
    error = image.clamp(0, 1) - photo
    return {"psnr": psnr(image, photo), "octaves": cosine_energies(error, LOWS).tolist()}

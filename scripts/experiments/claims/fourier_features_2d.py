"""Coordinates of a photo as waves: which waves, and how high.

Claim: a ReLU network of coordinates predicts pixels between those that it learnt best from random Gaussian waves, less
    well from octaves along the axes, worse from one wave for each axis, and worst from plain coordinates; waves that
    are too low blur, waves that are too high add noise.
Setting: photos of 128x128 pixels (Kodak, shrunk; one for each seed); every second pixel of every second row is
    learnt, the pixels between them diagonally are predicted. 3 layers of 128 channels and a linear one, batches of
    1024 pixels, 300 steps of Adam at 1e-3 (plain coordinates and single waves at 1e-2, as in the source). 128 waves
    with deviations of 0.3 to 40 cycles over the photo; 128 waves of up to 2^4 cycles, as many to a pixel as the
    source's 2^6. The source has 512x512 pixels, 4 layers of 256, 512 waves and 2000 steps on whole images.
Source: Tancik et al. 2020, section 6 and its notebooks, which record 19.3 dB plain, 21.7 with one wave, 24.9 with
    octaves and 25.6 with Gaussian waves of deviation 10 on sixteen photos; other photos are used here.
Expectation: the same order, the best deviation being lower on photos of fewer pixels.
"""

from __future__ import annotations

import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from claims.drawing import bars, canvas, colours, curves, save, say
from claims.images import MISSING, has_photos, photo_paths, pixel_grid, square_photo
from claims.record import Setting, Verdict, larger
from claims.regression import descend
from torch import Tensor, nn

from qsplat.encodings import Fourier, FourierEncoder
from qsplat.fields.mlp import Mlp
from qsplat.metrics.psnr import psnr
from qsplat.spectra.kernels import induced_kernel

SCALES = (0.3, 1.0, 3.0, 6.0, 10.0, 20.0, 40.0)
WAVES, OCTAVES, BATCH = 128, 4, 1024


def measure(setting: Setting) -> dict[str, Any]:
    """PSNR in dB of the predicted pixels for every encoding and deviation, for every seed."""
    if not has_photos(setting):
        return {"missing": MISSING}
    side, steps = (32, 10) if setting.quick else (128, 300)
    paths = photo_paths(setting, "kodak")
    runs = []
    for seed in setting.each_seed():
        photo = square_photo(paths[seed % len(paths)], side)
        run: dict[str, Any] = {name: _predicted(photo, name, 0.0, steps, seed) for name in ("plain", "wave", "octaves")}
        run["gauss"] = [_predicted(photo, "gauss", scale, steps, seed) for scale in SCALES]
        runs.append(run)
    return {"scales": list(SCALES), "runs": runs}


def judge(figures: dict[str, Any]) -> list[Verdict]:
    """The order of the encodings, Gaussian waves at the deviation that is best on average; the ends of the range."""
    if "missing" in figures:
        return [Verdict("Gaussian waves are the best encoding", None, figures["missing"])]
    values = _values(figures)
    best = list(values)[-1]
    pairs = [
        ("Gaussian waves are better than octaves", best, "octaves"),
        ("octaves are better than one wave for each axis", "octaves", "wave"),
        ("one wave for each axis is better than plain coordinates", "wave", "plain"),
    ]
    verdicts = [larger(claim, values[one], values[other], unit="dB") for claim, one, other in pairs]
    optima = [figures["scales"][run["gauss"].index(max(run["gauss"]))] for run in figures["runs"]]
    inner = all(figures["scales"][0] < one < figures["scales"][-1] for one in optima)
    found = ", ".join(f"{scale:g} cycles {count} times" for scale, count in sorted(Counter(optima).items()))
    return [*verdicts, Verdict("both too low and too high waves are worse than some between", inner, f"best: {found}")]


def draw(figures: dict[str, Any], path: Path) -> None:
    """PSNR of the encodings, and of Gaussian waves by their deviation; the kernels of these."""
    if "missing" in figures:
        say(figures["missing"], path)
        return
    with canvas(1, 3) as (figure, axes):
        bars(axes[0, 0], _values(figures), label="PSNR of predicted pixels (dB)", zero=False)
        shown = {"Gaussian waves": [run["gauss"] for run in figures["runs"]]}
        curves(axes[0, 1], figures["scales"], shown, label="PSNR of predicted pixels (dB)")
        axes[0, 1].set(xscale="log", xlabel="deviation (cycles over the photo)")
        offsets = torch.linspace(0, 0.1, 200)
        for scale, colour in zip(figures["scales"], colours(len(figures["scales"])), strict=True):
            kernel = induced_kernel(Fourier(scale=scale), offsets[:, None])
            axes[0, 2].plot(offsets, kernel, color=colour, label=f"{scale:g}")
        axes[0, 2].set(xlabel="distance along an axis (share of the photo)", ylabel="kernel of the waves")
        axes[0, 2].legend(title="deviation", fontsize="small")
        save(figure, path)


def _values(figures: dict[str, Any]) -> dict[str, list[float]]:
    """PSNR by encoding, Gaussian waves last, at the deviation that is best on average."""
    runs = figures["runs"]
    means = [statistics.fmean(run["gauss"][place] for run in runs) for place in range(len(figures["scales"]))]
    place = means.index(max(means))
    values = {name: [run[name] for run in runs] for name in ("plain", "wave", "octaves")}
    return {**values, f"gauss {figures['scales'][place]:g}": [run["gauss"][place] for run in runs]}


def _encoding(name: str, scale: float, seed: int) -> nn.Module:
    """Coordinates in [-1, 1]^2 to channels; a cycle over the photo is half a cycle for each unit."""
    if name == "plain":
        return nn.Identity()
    if name == "gauss":
        return FourierEncoder(2, Fourier(features=WAVES, scale=scale / 2, seed=seed))
    if name == "wave":
        rows = torch.eye(2)
    else:
        powers = 2 ** torch.linspace(0, OCTAVES, WAVES // 2) - 1
        rows = torch.cat([powers[:, None] * torch.tensor([[1.0, 0.0]]), powers[:, None] * torch.tensor([[0.0, 1.0]])])
    encoder = FourierEncoder(2, Fourier(features=len(rows)))
    encoder.frequencies = rows / 2
    return encoder


def _predicted(photo: Tensor, name: str, scale: float, steps: int, seed: int) -> float:
    torch.manual_seed(seed)
    encoding = _encoding(name, scale, seed)
    grid = pixel_grid(*photo.shape[:2])
    learnt, between = (slice(0, None, 2), slice(0, None, 2)), (slice(1, None, 2), slice(1, None, 2))
    with torch.no_grad():
        inputs, there = encoding(grid[learnt].reshape(-1, 2)), encoding(grid[between].reshape(-1, 2))
    target = photo[learnt].reshape(-1, 3)
    network = nn.Sequential(Mlp(inputs.shape[1], width=128, depth=3), nn.Linear(128, 3), nn.Sigmoid())

    def loss(step: int) -> Tensor:
        batch = torch.randint(len(inputs), (BATCH,))
        return (network(inputs[batch]) - target[batch]).square().mean()

    descend(network.parameters(), loss, steps=steps, rate=1e-2 if name in ("plain", "wave") else 1e-3)
    with torch.no_grad():
        return psnr(network(there).reshape(photo[between].shape), photo[between])

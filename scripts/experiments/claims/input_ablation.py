"""What a residual network has to see: signal, queries, or both; by 3x3 or 1x1 layers; plain or encoded.

Claim: seeing both the low-frequency image and the queries is better than either alone, 3x3 convolutions are better
    than 1x1 layers, and plain coordinates are better than Fourier features of deviation 10, on learnt and on unseen
    data alike.
Setting: photos of 64x64 pixels (Kodak, shrunk; one for each seed), their low-frequency image being the photo at a
    quarter of the resolution and back (bicubic); the residual is learnt on a random half of the blocks of 8x8 pixels,
    250 steps of Adam at 1e-3, 4 layers of 64 channels, and measured on both halves. The source ablates views of scenes;
    images, halves and steps are our choice.
Source: Kumar et al. 2025 (arXiv 2512.12898), table 5 and the review of its encodings. The directions are known, the
    figures are not.
Expectation: queries alone know nothing of the unseen blocks, so that both beats them; whether queries add anything to
    the image on unseen blocks is open, because coordinates of blocks never seen carry no information.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from claims.drawing import bars, canvas, save, say
from claims.images import MISSING, blocks_kept, has_photos, photo_paths, shrunk_and_enlarged, square_photo
from claims.record import Setting, Verdict, larger
from claims.regression import learn_residual

from qsplat.encodings import Fourier
from qsplat.metrics.psnr import psnr
from qsplat.qnn import QNN, QnnConfig

HALVES = ("learnt", "unseen")
NETWORKS = {
    "both": QnnConfig(),
    "image only": QnnConfig(input="render"),
    "queries only": QnnConfig(input="queries"),
    "both, 1x1": QnnConfig(kernel=1),
    "both, Fourier": QnnConfig(encoding=Fourier(features=64, scale=10.0)),
}


def measure(setting: Setting) -> dict[str, Any]:
    """PSNR in dB of every network and of its input on both halves, for every seed."""
    if not has_photos(setting):
        return {"missing": MISSING}
    side, steps = (24, 8) if setting.quick else (64, 250)
    paths = photo_paths(setting, "kodak")
    runs = []
    for seed in setting.each_seed():
        path = paths[seed % len(paths)]
        photo = square_photo(path, side)
        base = shrunk_and_enlarged(photo, 4)
        learnt = blocks_kept(side, 8, generator=torch.Generator().manual_seed(seed))
        run: dict[str, Any] = {"photo": path.stem, "input": _scores(base, photo, learnt)}
        for name, config in NETWORKS.items():
            torch.manual_seed(seed)
            image = learn_residual(QNN(config), base, photo, steps=steps, learnt=learnt)
            run[name] = _scores(image, photo, learnt)
        runs.append(run)
    return {"runs": runs}


def judge(figures: dict[str, Any]) -> list[Verdict]:
    """Both against every other network, on both halves."""
    if "missing" in figures:
        return [Verdict("both inputs are better than either", None, figures["missing"])]
    return [
        larger(
            f"image and plain queries by 3x3 layers are better than: {name} ({half} blocks)",
            [run["both"][half] for run in figures["runs"]],
            [run[name][half] for run in figures["runs"]],
            unit="dB",
        )
        for name in NETWORKS
        if name != "both"
        for half in HALVES
    ]


def draw(figures: dict[str, Any], path: Path) -> None:
    """The gain of each network over its input, on learnt and on unseen blocks."""
    if "missing" in figures:
        say(figures["missing"], path)
        return
    with canvas(1, 2) as (figure, axes):
        for axis, half in zip(axes.flat, HALVES, strict=True):
            gains = {name: [run[name][half] - run["input"][half] for run in figures["runs"]] for name in NETWORKS}
            bars(axis, gains, label="gain over the low-frequency image (dB)")
            axis.set_title(f"{half} blocks")
        save(figure, path)


def _scores(image: torch.Tensor, photo: torch.Tensor, learnt: torch.Tensor) -> dict[str, float]:
    return {"learnt": psnr(image, photo, mask=learnt), "unseen": psnr(image, photo, mask=~learnt)}

"""Super-resolution: a QNN on top of bicubic and of a small trained upscaler, against the same network without queries.

Claim: a QNN after an upscaler improves it, by 0.1 to 0.3 dB, and more than convolutions without queries would.
Setting: twice the resolution. Training on crops of 32x32 pixels of eight Kodak photos, 4 a step, 300 steps of Adam at
    5e-4; tests on the middle 192x192 pixels of the photos of Set5 and Set14. The upscaler is bicubic, or bicubic and
    a residual network of 3 layers of 32 channels trained in the same way and then kept. On top, networks of 4 layers of
    64 channels with and without coordinates in the whole photo, their shape, data and steps the same. The source's
    upscalers (Real-ESRGAN, SR3) and its data (DIV2K) are not here.
Source: Kumar et al. 2025 (arXiv 2512.12898), table 1 and figure 5, and the range that its reviewers name; its figures
    are not known.
Expectation: both networks gain over both upscalers; coordinates in the photo say nothing about a photo never seen, so
    that the difference between them is chance.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import torch
from claims.drawing import bars, canvas, save, say
from claims.images import MISSING, has_photos, middle_crop, photo_paths, pixel_grid, planes, shrunk_and_enlarged
from claims.record import Setting, Verdict, larger
from claims.regression import descend
from torch import Tensor

from qsplat.metrics.psnr import psnr
from qsplat.qnn import QNN, QnnConfig, image_residual

FACTOR, CROP, BATCH, SHAVED = 2, 32, 4, 4
BASES = ("bicubic", "upscaler")
HEADS = {"QNN": QnnConfig(), "no queries": QnnConfig(input="render")}
UPSCALER = QnnConfig(layers=3, channels=32, input="render")
Pairs = list[tuple[Tensor, Tensor]]
"""Images to be improved, and photos, each [h, w, 3]."""


def measure(setting: Setting) -> dict[str, Any]:
    """Mean PSNR in dB of each test set, for both upscalers alone and with both networks, for every seed."""
    if not has_photos(setting):
        return {"missing": MISSING}
    side, steps = (48, 6) if setting.quick else (192, 300)
    train = _pairs(setting, "kodak", None)
    tests = {kind: _pairs(setting, kind, side) for kind in ("set5", "set14")}
    runs = []
    for seed in setting.each_seed():
        torch.manual_seed(seed)
        upscaler = QNN(UPSCALER)
        _train(upscaler, train, steps, seed)
        bases = {"bicubic": (train, tests)}
        improved = {kind: _improved(upscaler, pairs) for kind, pairs in tests.items()}
        bases["upscaler"] = (_improved(upscaler, train), improved)
        run: dict[str, Any] = {}
        for base, (learnt, tested) in bases.items():
            run[base] = {"alone": {kind: _mean_psnr(pairs) for kind, pairs in tested.items()}}
            for name, config in HEADS.items():
                torch.manual_seed(seed)
                head = QNN(config)
                _train(head, learnt, steps, seed + 1)
                scores = {kind: _mean_psnr(_improved(head, pairs)) for kind, pairs in tested.items()}
                run[base][name] = scores
        runs.append(run)
    return {"runs": runs}


def judge(figures: dict[str, Any]) -> list[Verdict]:
    """Whether the QNN gains, and whether its queries do."""
    if "missing" in figures:
        return [Verdict("a QNN improves an upscaler", None, figures["missing"])]
    verdicts = []
    for base in BASES:
        for kind in ("set5", "set14"):
            values = {
                name: [run[base][name][kind] for run in figures["runs"]] for name in ("alone", "QNN", "no queries")
            }
            for other, said in (("alone", base), ("no queries", f"the same network without queries on {base}")):
                claim = f"a QNN on {base} is better than {said} ({kind})"
                verdicts.append(larger(claim, values["QNN"], values[other], unit="dB"))
    return verdicts


def draw(figures: dict[str, Any], path: Path) -> None:
    """Gains over the upscaler by itself."""
    if "missing" in figures:
        say(figures["missing"], path)
        return
    with canvas(1, 2) as (figure, axes):
        for axis, kind in zip(axes.flat, ("set5", "set14"), strict=True):
            gains = {
                f"{name} on {base}": [run[base][name][kind] - run[base]["alone"][kind] for run in figures["runs"]]
                for base in BASES
                for name in HEADS
            }
            bars(axis, gains, label="gain over the upscaler alone (dB)")
            axis.set_title(kind)
        save(figure, path)


def _pairs(setting: Setting, kind: str, side: int | None) -> Pairs:
    photos = [middle_crop(path, side or 384, FACTOR) for path in photo_paths(setting, kind)]
    return [(shrunk_and_enlarged(photo, FACTOR), photo) for photo in photos]


def _train(head: QNN, pairs: Pairs, steps: int, seed: int) -> None:
    """Teach ``head`` what the images lack, by random crops."""
    generator = torch.Generator().manual_seed(seed)

    def draw(most: int) -> int:
        return int(torch.randint(most, (), generator=generator))

    def loss(step: int) -> Tensor:
        crops = []
        for _ in range(BATCH):
            image, photo = pairs[draw(len(pairs))]
            top, left = (draw(size - CROP + 1) for size in photo.shape[:2])
            part = slice(top, top + CROP), slice(left, left + CROP)
            crops.append((image[part], photo[part], pixel_grid(*photo.shape[:2])[part]))
        seen, wanted, queries = (planes(list(one)) for one in zip(*crops, strict=True))
        return (seen + head(seen, queries) - wanted).square().mean()

    descend(head.parameters(), loss, steps=steps, rate=5e-4)


@torch.no_grad()
def _improved(head: QNN, pairs: Pairs) -> Pairs:
    """The images with the residuals of ``head`` added."""
    return [(image + image_residual(head, image, pixel_grid(*image.shape[:2])), photo) for image, photo in pairs]


def _mean_psnr(pairs: Pairs) -> float:
    inner = slice(SHAVED, -SHAVED)
    return statistics.fmean(psnr(image[inner, inner], photo[inner, inner]) for image, photo in pairs)

"""How much noise in the low-frequency image a QNN bears.

Claim: a QNN needs an informative low-frequency image: the more structured noise is added to it, the less of the high
    frequencies it finds, and with noise alone it has nothing to go by.
Setting: photos of 64x64 pixels (Kodak, shrunk; one for each seed) at a quarter of the resolution and back, plus noise
    without frequencies above 1/8 cycles per pixel of deviation 0, 0.03, 0.1 and 0.3. What is missing is learnt on a
    random half of the blocks of 8x8 pixels, 150 steps of Adam at 1e-3, 4 layers of 32 channels, with and without
    queries. Measured on the other half: the gain in dB over the photo's own low-frequency image, and the share of the
    energy that this image lacks which is found.
Source: the test that the summary of Kumar et al. 2025 proposes; no result is known. Photos, noise and steps are our
    choice.
Expectation: the share falls with the noise, below 0 where the network adds more error than it removes.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from claims.drawing import canvas, curves, save, say
from claims.images import MISSING, blocks_kept, has_photos, photo_paths, shrunk_and_enlarged, square_photo
from claims.record import Setting, Verdict, interval, larger
from claims.regression import learn_residual
from jaxtyping import Bool, Float
from torch import Tensor

from qsplat.qnn import QNN, QnnConfig

LEVELS = (0.0, 0.03, 0.1, 0.3)
HIGHEST = 1 / 8
NETWORKS = {"QNN": QnnConfig(channels=32), "no queries": QnnConfig(channels=32, input="render")}
HALVES = ("learnt", "unseen")


def measure(setting: Setting) -> dict[str, Any]:
    """The share of the lacking energy that is found at every level of noise, for every seed."""
    if not has_photos(setting):
        return {"missing": MISSING}
    side, steps = (24, 5) if setting.quick else (64, 150)
    paths = photo_paths(setting, "kodak")
    runs = []
    for seed in setting.each_seed():
        photo = square_photo(paths[seed % len(paths)], side)
        clean = shrunk_and_enlarged(photo, 4)
        generator = torch.Generator().manual_seed(seed)
        learnt, noise = blocks_kept(side, 8, generator=generator), smooth_noise(side, generator)
        run: dict[str, Any] = {half: {name: [] for name in NETWORKS} for half in HALVES}
        for level in LEVELS:
            for name, config in NETWORKS.items():
                torch.manual_seed(seed)
                image = learn_residual(QNN(config), clean + level * noise, photo, steps=steps, learnt=learnt)
                for half, mask in zip(HALVES, (learnt, ~learnt), strict=True):
                    run[half][name].append(_found(image, clean, photo, mask))
        runs.append(run)
    return {"levels": list(LEVELS), "runs": runs}


def judge(figures: dict[str, Any]) -> list[Verdict]:
    """Whether less is found with more noise, and whether queries help against it."""
    if "missing" in figures:
        return [Verdict("the more noise, the less is found", None, figures["missing"])]
    unseen = {name: [run["unseen"][name] for run in figures["runs"]] for name in NETWORKS}
    falling = [all(one > other for one, other in pairwise(curve)) for curve in unseen["QNN"]]
    at_ends = [[curve[place] for curve in unseen["QNN"]] for place in (0, -1)]
    return [
        Verdict(
            "each step of noise in its input lets a QNN find less in unseen blocks",
            all(falling),
            f"share found {interval(at_ends[0])} without noise and {interval(at_ends[1])} at {LEVELS[-1]:g}; falling "
            f"throughout for {sum(falling)} of {len(falling)} seeds",
        ),
        larger(
            f"queries help against noise of {LEVELS[-1]:g} (unseen blocks)",
            at_ends[1],
            [curve[-1] for curve in unseen["no queries"]],
            unit="of the lacking energy",
        ),
    ]


def draw(figures: dict[str, Any], path: Path) -> None:
    """The share found by the noise, on both halves."""
    if "missing" in figures:
        say(figures["missing"], path)
        return
    with canvas(1, 2) as (figure, axes):
        for axis, half in zip(axes.flat, HALVES, strict=True):
            shown = {name: [run[half][name] for run in figures["runs"]] for name in NETWORKS}
            curves(axis, figures["levels"], shown, label="share of the lacking energy that is found")
            axis.axhline(0, color="black", linewidth=0.8)
            axis.set(title=f"{half} blocks", xlabel="deviation of the noise")
        axes[0, 0].legend()
        save(figure, path)


def smooth_noise(side: int, generator: torch.Generator) -> Float[Tensor, "n n 3"]:
    """Gaussian noise without frequencies above ``HIGHEST`` cycles per pixel, its deviation 1."""
    frequencies = torch.fft.fftfreq(side)
    kept = torch.hypot(frequencies[:, None], frequencies) <= HIGHEST
    waves = torch.fft.fft2(torch.randn(side, side, 3, generator=generator), dim=(0, 1)) * kept[..., None]
    noise = torch.fft.ifft2(waves, dim=(0, 1)).real
    return (noise - noise.mean()) / noise.std()


def _found(
    image: Float[Tensor, "h w 3"],
    clean: Float[Tensor, "h w 3"],
    photo: Float[Tensor, "h w 3"],
    mask: Bool[Tensor, "h w"],
) -> float:
    """1 less the error of ``image``, relative to that of the clean low-frequency image."""
    left, lacking = ((one - photo)[mask].square().mean().item() for one in (image, clean))
    return 1 - left / lacking

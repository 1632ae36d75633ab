"""FreSh: frequencies chosen by the spectrum of untrained networks, against defaults and a search by training.

Claim: FreSh chooses frequencies that are up to 1.5 dB better than the default and comparable with the best of a search
    that trains every candidate, for the price of forward passes of untrained networks.
Setting: six Kodak photos of 128x128 pixels, one for each seed in turn; SIREN's omega, the deviation of Fourier features
    in cycles per unit, and the number of octaves of a positional encoding. Six candidates for each, the default among
    them (30, 1 and 10), all of them trained: 4 layers of 128 channels, batches of 1024 pixels, 150 steps of Adam at
    1e-4 (SIREN: 5e-4, because the run is short) and 3e-3; the PSNR is that of a tenth of the pixels that is held out.
    FreSh looks at ten untrained networks for each candidate, 64 bins. The source has 20 candidates, 256 channels and
    15,000 steps.
Source: Kania et al. 2024 (arXiv 2410.05050) and its code; its tables are not known. Octaves are our addition.
Expectation: better than the default where that is far off, within a fraction of a dB of the best; the ranking of short
    trainings need not be that of long ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from claims.drawing import canvas, save, say
from claims.frequency_choices import panel, verdicts_on
from claims.images import MISSING, has_photos, photo_paths, pixel_grid, square_photo
from claims.record import Setting, Verdict
from claims.regression import descend
from torch import Tensor

from qsplat.encodings import Fourier, Positional
from qsplat.fields.frequencies import Frequencies, Sine, frequency_of, with_frequency, with_seed
from qsplat.fields.network import CoordinateNetwork
from qsplat.metrics.psnr import decibels
from qsplat.training.frequency import choose_image_frequency

PHOTOS, BATCH, WIDTH, DEPTH = 6, 1024, 128, 4
FAMILIES: dict[str, tuple[Frequencies, tuple[float, ...], float]] = {
    "SIREN": (Sine(), (10.0, 30.0, 60.0, 90.0, 120.0, 180.0), 5e-4),
    "Fourier features": (Fourier(features=64, scale=1.0), (1.0, 2.0, 4.0, 7.0, 12.0, 20.0), 3e-3),
    "octaves": (Positional(10), (2.0, 4.0, 5.0, 6.0, 8.0, 10.0), 3e-3),
}
"""Each with its default, the candidates, and the rate."""


def measure(setting: Setting) -> dict[str, Any]:
    """PSNR in dB of every candidate, what FreSh chose, and at what cost, for every seed, photo and family."""
    if not has_photos(setting):
        return {"missing": MISSING}
    side, steps = (72, 3) if setting.quick else (128, 150)
    paths = photo_paths(setting, "kodak")[:PHOTOS]
    runs = []
    for seed in setting.each_seed():
        path = paths[seed % len(paths)]
        photo = square_photo(path, side)
        for family, (frequencies, candidates, rate) in FAMILIES.items():
            tried = sorted({frequency_of(frequencies), candidates[2]}) if setting.quick else list(candidates)
            choice = choose_image_frequency(photo, frequencies, width=WIDTH, depth=DEPTH, seed=seed, candidates=tried)
            scores = [_trained(photo, with_frequency(frequencies, value), rate, steps, seed) for value in tried]
            runs.append(
                {
                    "seed": seed,
                    "photo": path.stem,
                    "family": family,
                    "candidates": tried,
                    "psnr": scores,
                    "distance": [one.distance for one in choice.candidates],
                    "default": tried.index(frequency_of(frequencies)),
                    "chosen": tried.index(choice.value),
                    "forward_passes": choice.forward_passes,
                    "training_passes": steps * len(tried) * BATCH / side**2,
                }
            )
    return {"steps": steps, "runs": runs}


def judge(figures: dict[str, Any]) -> list[Verdict]:
    """The choice against the default and against the best, by family."""
    if "missing" in figures:
        return [Verdict("FreSh chooses better frequencies than the default", None, figures["missing"])]
    verdicts = verdicts_on(figures["runs"], FAMILIES, of="photos")
    run = figures["runs"][0]
    passes = 3 * run["training_passes"]
    said = (
        f"{run['forward_passes']} forward passes of the photo against {passes:.0f} (a step counted as three) to train "
        f"all candidates for {figures['steps']} steps"
    )
    return [
        *verdicts,
        Verdict("choosing costs less than training every candidate", run["forward_passes"] < passes, said),
    ]


def draw(figures: dict[str, Any], path: Path) -> None:
    """PSNR by candidate relative to the best of its photo, with FreSh's choices and the default."""
    if "missing" in figures:
        say(figures["missing"], path)
        return
    with canvas(1, len(FAMILIES)) as (figure, axes):
        for axis, family in zip(axes.flat, FAMILIES, strict=True):
            runs = [run for run in figures["runs"] if run["family"] == family]
            panel(axis, runs, title=family)
        save(figure, path)


def _trained(photo: Tensor, frequencies: Frequencies, rate: float, steps: int, seed: int) -> float:
    """PSNR in dB of held-out pixels."""
    torch.manual_seed(seed)
    network = CoordinateNetwork(with_seed(frequencies, seed), width=WIDTH, depth=DEPTH)
    pixels, values = pixel_grid(*photo.shape[:2]).reshape(-1, 2), photo.reshape(-1, 3)
    order = torch.randperm(len(pixels))
    unseen, learnt = order[: len(order) // 10], order[len(order) // 10 :]

    def loss(step: int) -> Tensor:
        batch = learnt[torch.randint(len(learnt), (BATCH,))]
        return (network(pixels[batch]) - (2 * values[batch] - 1)).square().mean()

    descend(network.parameters(), loss, steps=steps, rate=rate)
    with torch.no_grad():
        found = ((network(pixels[unseen]) + 1) / 2).clamp(0, 1)
    return decibels((found - values[unseen]).square().mean().item())

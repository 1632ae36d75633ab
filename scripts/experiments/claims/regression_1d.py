"""One noise-like signal, seven networks.

Claim: a network that sees a low-passed signal and the coordinates through convolutions (QNN) predicts samples it was
    not shown better than networks of coordinates (plain, with Fourier features, hash grid, SIREN) and than
    convolutions over one of the two.
Setting: signals of 256 samples whose amplitudes fall as 1/f^0.5, scaled to [0, 1]; a random half is learnt, the other
    half is predicted, 500 steps, two signals for each seed. Our choice, because the source does not say: the low-passed
    signal has the lowest 40 frequencies and is added to the output of every network; four layers of 256 channels for
    coordinates and of 64 for convolutions of 3 samples; Fourier features with a deviation of 10 cycles, a hash grid of
    8 levels up to 256 cells under two layers of 64, sines with omega 30. Adam at the rates of the sources of each
    family: 1e-3 plain and with Fourier features, 1e-4 sines, 1e-2 hash grid; and at 3e-4, our head's, convolutions.
Source: Kumar et al. 2025 (arXiv 2512.12898), figure 3 and section 5. Its curves, read from the picture of one signal
    after 500 steps: QNN over the plain network +0.25 dB, over Fourier features +0.74, over convolutions of the
    coordinates +0.01, over convolutions of the low-passed signal +0.03. Hash grid and SIREN are named and not shown.
Expectation: nobody can predict noise above the low-passed signal, so that networks differ by how little they harm it:
    those that reach high frequencies soonest lose most, and the order among convolutions is a matter of hundredths.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from claims.drawing import canvas, curves, save
from claims.record import Setting, Verdict, larger
from claims.regression import descend
from torch import Tensor, nn

from qsplat.encodings import Fourier
from qsplat.fields.frequencies import Sine
from qsplat.fields.hashgrid import HashGrid, HashGridConfig
from qsplat.fields.mlp import Mlp
from qsplat.fields.network import CoordinateNetwork
from qsplat.metrics.psnr import decibels
from qsplat.qnn import QNN, QnnConfig
from qsplat.qnn.network import Input
from qsplat.spectra.signals import low_passed, power_law_signal

SAMPLES, KEPT = 256, 40
RATES = {
    "MLP": 1e-3,
    "MLP, Fourier features": 1e-3,
    "MLP, hash grid": 1e-2,
    "SIREN": 1e-4,
    "CNN of queries": 3e-4,
    "CNN of signal": 3e-4,
    "QNN": 3e-4,
}
NETWORKS = tuple(RATES)


def measure(setting: Setting) -> dict[str, Any]:
    """PSNR in dB on learnt and predicted samples of every network along the way, for every seed and signal."""
    steps, every, signals = (20, 10, 1) if setting.quick else (500, 10, 2)
    runs = []
    for seed in setting.each_seed():
        for number in range(signals):
            runs.append({"seed": seed, "signal": number, **_run(1000 * number + seed, steps, every)})
    return {"steps": list(range(0, steps + 1, every)), "runs": runs}


def judge(figures: dict[str, Any]) -> list[Verdict]:
    """The QNN against every other network, at the end and at the best step of each."""
    predicted = {name: [run["predicted"][name] for run in figures["runs"]] for name in NETWORKS}
    last = {name: [curve[-1] for curve in seeds] for name, seeds in predicted.items()}
    best = {name: [max(curve) for curve in seeds] for name, seeds in predicted.items()}
    verdicts = [
        larger(f"QNN predicts better than {name} ({when})", values["QNN"], values[name], unit="dB")
        for when, values in (("after 500 steps", last), ("each at its best step", best))
        for name in NETWORKS[:-1]
    ]
    untrained = sum(curve[0] == max(curve) for curve in predicted["QNN"])
    claim = "training lets the QNN predict better than the low-passed signal, which it is before its first step"
    said = f"best before any step for {untrained} of {len(last['QNN'])} signals"
    return [*verdicts, Verdict(claim, untrained < len(last["QNN"]) / 2, said)]


def draw(figures: dict[str, Any], path: Path) -> None:
    """PSNR by step, on the samples that are predicted and on those that are learnt."""
    with canvas(1, 2, panel=(5.5, 4)) as (figure, axes):
        for axis, samples in zip(axes.flat, ("predicted", "learnt"), strict=True):
            shown = {name: [run[samples][name] for run in figures["runs"]] for name in NETWORKS}
            curves(axis, figures["steps"], shown, label="PSNR (dB)")
            low = statistics.fmean(run["low"][samples] for run in figures["runs"])
            axis.axhline(low, color="black", linestyle=":", label="low-passed signal")
            axis.set(title=f"{samples} samples", xlabel="step")
        axes[0, 0].set_ylim(14, 22)
        axes[0, 1].set_ylim(15, 60)
        axes[0, 1].legend(fontsize="x-small")
        save(figure, path)


def _run(seed: int, steps: int, every: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    signal = power_law_signal(SAMPLES, exponent=0.5, generator=generator)
    low = low_passed(signal, KEPT)
    learnt = torch.zeros(SAMPLES, dtype=torch.bool)
    learnt[torch.randperm(SAMPLES, generator=generator)[: SAMPLES // 2]] = True
    found = {
        name: _curves(predictor(name, low, seed), signal, learnt, (steps, every, RATES[name])) for name in NETWORKS
    }
    return {
        "low": {"learnt": _psnr(low, signal, learnt), "predicted": _psnr(low, signal, ~learnt)},
        "learnt": {name: [one for one, _ in curve] for name, curve in found.items()},
        "predicted": {name: [other for _, other in curve] for name, curve in found.items()},
    }


def predictor(name: str, low: Tensor, seed: int) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The network of that name for the low-passed signal [n], and what gives its signal [n]."""
    torch.manual_seed(seed)
    queries = torch.linspace(-1, 1, len(low) + 1)[:-1, None]
    convolutions: dict[str, Input] = {"CNN of queries": "queries", "CNN of signal": "render", "QNN": "both"}
    if name in convolutions:
        config = QnnConfig(dims=1, input=convolutions[name], precision="fp32")
        network: nn.Module = QNN(config, signal_channels=1)
        return network, lambda: (low[None, None] + network(low[None, None], queries.T[None]))[0, 0]
    network = coordinate_network(name, seed)
    return network, lambda: low + network(queries)[:, 0]


def coordinate_network(name: str, seed: int, *, dims: int = 1, outputs: int = 1) -> nn.Module:
    """A network of coordinates in [-1, 1]. Waves of 10 cycles over the signal are waves of 5 cycles per unit."""
    match name:
        case "MLP, Fourier features":
            return CoordinateNetwork(Fourier(features=128, scale=5.0, seed=seed), dims=dims, outputs=outputs)
        case "SIREN":
            return CoordinateNetwork(Sine(), dims=dims, outputs=outputs)
        case "MLP, hash grid":
            grid = HashGrid(dims, HashGridConfig(levels=8, coarsest=4, finest=256))
            layers = [nn.Linear(grid.channels, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, outputs)]
            return nn.Sequential(grid, *layers)
        case _:
            return nn.Sequential(Mlp(dims, width=256, depth=4), nn.Linear(256, outputs))


def _curves(
    made: tuple[nn.Module, Callable[[], Tensor]], signal: Tensor, learnt: Tensor, plan: tuple[int, int, float]
) -> Sequence[tuple[float, float]]:
    """PSNR of learnt and of predicted samples; the plan holds steps, those between two figures, and the rate."""
    network, predict = made
    steps, every, rate = plan
    curve = []

    def watch(step: int) -> None:
        with torch.no_grad():
            values = predict()
        curve.append((_psnr(values, signal, learnt), _psnr(values, signal, ~learnt)))

    def loss(step: int) -> Tensor:
        return (predict() - signal)[learnt].square().mean()

    descend(network.parameters(), loss, steps=steps, rate=rate, watch=watch, every=every)
    return curve


def _psnr(values: Tensor, signal: Tensor, samples: Tensor) -> float:
    return round(decibels((values - signal)[samples].square().mean().item()), 4)

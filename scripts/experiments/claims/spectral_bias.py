"""Low frequencies are learnt first, and held most firmly.

Claim: a ReLU network learns the low frequencies of a signal before the high ones, whatever their amplitudes, and loses
    the high ones first when its weights are moved; Fourier features, sines and convolutions over a low-passed signal
    (QNN) learn high frequencies sooner.
Setting: the sum of sines of 2, 4, ... 16 cycles, amplitudes 1 or rising from 0.2 to 1 with the frequency, random
    phases, 200 samples; the amplitude at each frequency by step, as a share of its own. ReLU networks of 6 layers of
    128 channels, Adam at 3e-4, 3000 steps; the others with amplitudes of 1, 600 steps. Fourier features have a
    deviation of 8 cycles, SIREN omega 30, both 6 layers of 128 and 3e-4; the QNN, at 3e-4 too, is given the waves up
    to 4 cycles, to which its output is added. Weights of the ReLU network are moved by 0, 1, ... 5 in 30 random
    directions. A frequency is reached when it first has 0.8 of its amplitude, and kept once it stays above
    that, which a low amplitude does not while the training jitters. The source has 5 to 50 cycles, 256 channels and
    60,000 steps; one core has to do here.
Source: Rahaman et al. 2019, On the Spectral Bias of Neural Networks, figures 1 and 2.
Expectation: the order of the steps at which frequencies are learnt is that of the frequencies for ReLU, and no order
    for the others. The source measures what is left of an amplitude; how far a wave moves, with its phase, is measured
    besides, because what is added at low frequencies hides their loss.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from claims.drawing import canvas, curves, save
from claims.record import Setting, Verdict
from claims.regression import descend
from scipy.stats import spearmanr
from torch import Tensor, nn

from qsplat.encodings import Fourier
from qsplat.fields.frequencies import Sine
from qsplat.fields.mlp import Mlp
from qsplat.fields.network import CoordinateNetwork
from qsplat.qnn import QNN, QnnConfig
from qsplat.spectra.heatmap import LEARNT, Heatmap, amplitude_shares
from qsplat.spectra.robustness import moved_outputs
from qsplat.spectra.signals import low_passed, sum_of_sines

SAMPLES, CYCLES = 200, tuple(range(2, 17, 2))
EQUAL = (1.0,) * len(CYCLES)
RISING = tuple(np.linspace(0.2, 1.0, len(CYCLES)).tolist())
NETWORKS = {"ReLU": EQUAL, "ReLU, rising": RISING, "Fourier features": EQUAL, "SIREN": EQUAL, "QNN": EQUAL}
FAST = ("Fourier features", "SIREN", "QNN")
DISTANCES = tuple(range(6))
JUDGED = 3
"""The distance at which moved weights are judged."""
RATE = 3e-4
StepsOf = Callable[[dict[str, Any], dict[str, Any], str], list[int]]


def measure(setting: Setting) -> dict[str, Any]:
    """Heat maps of every network and what is left of the ReLU network's frequencies, for every seed."""
    slow, fast, every, directions = (30, 30, 10, 3) if setting.quick else (3000, 600, 20, 30)
    runs = []
    for seed in setting.each_seed():
        run: dict[str, Any] = {}
        for name, amplitudes in NETWORKS.items():
            torch.manual_seed(seed)
            times, phases = torch.arange(SAMPLES) / SAMPLES, torch.rand(len(CYCLES))
            target = sum_of_sines(times, CYCLES, amplitudes, phases)
            network, predict = _made(name, 2 * times - 1, target, seed)
            plan = fast if name in FAST else slow, every
            run[name] = _shares(network, predict, target, amplitudes, plan)
            if name == "ReLU":
                generator = torch.Generator().manual_seed(seed)
                run["moved"] = _moved(network, (2 * times - 1)[:, None], directions, generator)
        runs.append(run)
    steps = {name: list(range(0, (fast if name in FAST else slow) + 1, every)) for name in NETWORKS}
    return {"steps": steps, "cycles": list(CYCLES), "runs": runs}


def judge(figures: dict[str, Any]) -> list[Verdict]:
    """The order of learning of the ReLU networks, that of the others, and what moved weights leave."""
    verdicts = []
    for name, said in (("ReLU", "equal amplitudes"), ("ReLU, rising", "amplitudes that rise with the frequency")):
        for what, steps_of in (("reaches", _reached), ("keeps", _steps)):
            orders = [_order(figures["cycles"], steps_of(figures, run, name)) for run in figures["runs"]]
            by = f"rank correlation of frequency and step {_span(orders)}; {_when(figures, name, steps_of)}"
            verdicts.append(
                Verdict(f"low frequencies are the first that a ReLU network {what} ({said})", min(orders) > 0.5, by)
            )
    for name in FAST:
        last = {one: [_steps(figures, run, one)[-1] for run in figures["runs"]] for one in ("ReLU", name)}
        sooner = [one < other for one, other in zip(last[name], last["ReLU"], strict=True)]
        said = f"sooner for {sum(sooner)} of {len(sooner)} seeds; {_when(figures, name, _steps)}"
        verdicts.append(Verdict(f"{name} learns the highest frequency sooner than a ReLU network", all(sooner), said))
    for what, sign, claim in (
        ("left", -1, "high frequencies lose most of their amplitude when weights are moved"),
        ("off", 1, "high frequencies are moved farthest, relative to their amplitude and with their phase"),
    ):
        slopes = [sign * rank_correlation(CYCLES, run["moved"][what][JUDGED]) for run in figures["runs"]]
        ends = [np.mean([run["moved"][what][JUDGED][place] for run in figures["runs"]]) for place in (0, -1)]
        said = f"{ends[0]:.2f} at {CYCLES[0]} cycles, {ends[1]:.2f} at {CYCLES[-1]} (distance {JUDGED}, mean); rank "
        verdicts.append(Verdict(claim, min(slopes) > 0.5, f"{said}correlation with the frequency {_span(slopes)}"))
    return verdicts


def draw(figures: dict[str, Any], path: Path) -> None:
    """A heat map for each network, the mean over seeds, and what is left when weights are moved."""
    with canvas(2, 3) as (figure, axes):
        for axis, name in zip(axes.flat, NETWORKS, strict=False):
            shares = np.mean([run[name] for run in figures["runs"]], axis=0)
            steps = figures["steps"][name]
            picture = axis.pcolormesh(figures["cycles"], steps, shares, vmin=0, vmax=1, shading="nearest")
            axis.set(title=name, xlabel="cycles", ylabel="step")
            figure.colorbar(picture, ax=axis, label="share of the amplitude")
        last = axes[1, 2]
        shown = {
            f"{cycles} cycles": [[row[place] for row in run["moved"]["left"]] for run in figures["runs"]]
            for place, cycles in enumerate(figures["cycles"])
            if place % 2 == 1
        }
        curves(last, DISTANCES, shown, label="share of the amplitude that is left")
        last.set(title="ReLU, weights moved", xlabel="distance")
        last.legend(fontsize="x-small")
        save(figure, path)


def _made(name: str, times: Tensor, target: Tensor, seed: int) -> tuple[nn.Module, Callable[[], Tensor]]:
    """A network and what gives its signal. Times are in [-1, 1]: 8 cycles are 4 for each unit."""
    inputs = times[:, None]
    match name:
        case "QNN":
            low = low_passed(target, 4)[None, None]
            head = QNN(QnnConfig(dims=1, precision="fp32"), signal_channels=1)
            return head, lambda: (low + head(low, inputs.T[None]))[0, 0]
        case "Fourier features":
            network: nn.Module = CoordinateNetwork(Fourier(64, 4.0, seed), dims=1, outputs=1, width=128, depth=5)
            return network, lambda: network(inputs)[:, 0]
        case "SIREN":
            network = CoordinateNetwork(Sine(), dims=1, outputs=1, width=128, depth=5)
            return network, lambda: network(inputs)[:, 0]
        case _:
            network = nn.Sequential(Mlp(1, width=128, depth=5), nn.Linear(128, 1))
            return network, lambda: network(inputs)[:, 0]


def _shares(
    network: nn.Module,
    predict: Callable[[], Tensor],
    target: Tensor,
    amplitudes: Sequence[float],
    plan: tuple[int, int],
) -> list[list[float]]:
    """Shares [steps][cycles] along a training; the plan holds steps, and those between two figures."""
    steps, every = plan
    rows: list[list[float]] = []

    def watch(step: int) -> None:
        with torch.no_grad():
            rows.append([round(share, 3) for share in amplitude_shares(predict(), CYCLES, amplitudes).tolist()])

    def loss(step: int) -> Tensor:
        return (predict() - target).square().mean()

    descend(network.parameters(), loss, steps=steps, rate=RATE, watch=watch, every=every)
    return rows


def _moved(
    network: nn.Module, inputs: Tensor, directions: int, generator: torch.Generator
) -> dict[str, list[list[float]]]:
    """What is ``left`` of the amplitude at each frequency [distances][cycles], and how far its wave is ``off``, phase
    included, both relative to the amplitude before; means over directions."""
    with torch.no_grad():
        before = torch.fft.rfft(network(inputs)[:, 0])[list(CYCLES)]
    found: dict[str, list[list[float]]] = {"left": [], "off": []}
    for distance in DISTANCES:
        outputs = moved_outputs(network, inputs, float(distance), directions=directions, generator=generator)[..., 0]
        waves = torch.fft.rfft(outputs)[:, list(CYCLES)]
        length = before.abs().clamp_min(1e-6)
        found["left"].append((waves.abs() / length).mean(dim=0).tolist())
        found["off"].append(((waves - before).abs() / length).mean(dim=0).tolist())
    return found


def _steps(figures: dict[str, Any], run: dict[str, Any], name: str) -> list[int]:
    """When each frequency is learnt; one step beyond the end where it never is."""
    steps = figures["steps"][name]
    heatmap = Heatmap(tuple(steps), tuple(figures["cycles"]), tuple(map(tuple, run[name])))
    return [steps[-1] + 1 if step is None else step for step in heatmap.steps_to(LEARNT)]


def _reached(figures: dict[str, Any], run: dict[str, Any], name: str) -> list[int]:
    """When each frequency first has the amplitude from which it counts as learnt; one step beyond the end where it
    never has."""
    steps = figures["steps"][name]
    columns = zip(*run[name], strict=True)
    return [
        next((step for step, share in zip(steps, one, strict=True) if share >= LEARNT), steps[-1] + 1)
        for one in columns
    ]


def _order(cycles: Sequence[int], steps: Sequence[int]) -> float:
    """Rank correlation; 0 where all steps are the same."""
    return 0.0 if len(set(steps)) == 1 else rank_correlation(cycles, steps)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's."""
    return float(np.asarray(spearmanr(first, second))[0])


def _when(figures: dict[str, Any], name: str, steps_of: StepsOf) -> str:
    """The median step for the lowest and the highest frequency."""
    steps = [steps_of(figures, run, name) for run in figures["runs"]]
    ends = (statistics.median(one[place] for one in steps) for place in (0, -1))
    shown = (f"{end:.0f}" if end <= figures["steps"][name][-1] else "never" for end in ends)
    return f"{CYCLES[0]} cycles at step {next(shown)}, {CYCLES[-1]} at {next(shown)} (median)"


def _span(values: Sequence[float]) -> str:
    return f"{min(values):+.2f} to {max(values):+.2f}"

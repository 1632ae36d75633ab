"""Pictures of where the gain of a head sits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gain_parts import OCTAVE_NAMES, Corrected
from gain_views import Correlation, GainMap, Spectra, ViewsGain
from numpy.typing import NDArray

from qsplat.io.atomic import written_whole
from qsplat.spectra.radial import HALF_NYQUIST, NYQUIST, radial_spectrum, windowed_power

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

ROW_INCHES = 2.4

BEFORE, AFTER, RESIDUAL = "#8c8c8c", "#1764ab", "#c44e52"
HELD_OUT, TRAIN = "#1764ab", "#e39c37"

PARTS = {
    "gain": "the residual",
    "slow": "its residual below 1/32",
    "above_quarter_nyquist": "its residual from 1/8 on",
    "above_half_nyquist": "its residual from 1/4 on",
    "colour_map": "its residual's colour map",
    "wrong_view": "its residual in the nearest view",
    "best_colour_map": "the best colour map",
    "unsharp": "an unsharp filter",
}
"""What is added to the base, and by how much that gains; frequencies in cycles per pixel."""

SHOWN_DECIBELS = 60
"""Power this far below the strongest is not told apart."""


def write_figures(folder: Path, found: GainMap, examples: Sequence[tuple[str, Corrected]]) -> None:
    """Write spectra.png, parts.png, distance.png and, where there are examples, residuals.png into ``folder``.

    Nothing is written before everything is drawn.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    drawings: dict[str, Callable[[], Figure]] = {
        "spectra": lambda: spectra_figure(found),
        "parts": lambda: parts_figure(found),
        "distance": lambda: distance_figure(found),
    }
    if examples:
        drawings["residuals"] = lambda: residuals_figure(examples)
    drawn = {name: draw() for name, draw in drawings.items()}
    for name, figure in drawn.items():
        with written_whole(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=110)
        pyplot.close(figure)


def spectra_figure(found: GainMap) -> Figure:
    """The power of the error by frequency before and after the head, and their ratio, for both sets of views."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        2, 2, figsize=(9.5, 6), sharex=True, sharey="row", height_ratios=(2, 1), layout="constrained"
    )
    for column, (label, views) in enumerate(_sets(found)):
        _power(axes[0, column], views.spectra)
        _ratio(axes[1, column], views.spectra)
        axes[0, column].set_title(f"{label}, mean of {len(views.views)}")
        for panel in axes[:, column]:
            panel.axvline(HALF_NYQUIST, color="black", linewidth=0.8, linestyle="--")
            panel.grid(linewidth=0.3, alpha=0.6)
    axes[0, 0].set_ylabel("mean square in rings of 1/64\n(under a Hann window)")
    axes[0, 0].legend(fontsize="small", loc="lower left")
    axes[0, 1].annotate("half Nyquist", (HALF_NYQUIST, 0.03), (-4, 0), xycoords=("data", "axes fraction"),
                        textcoords="offset points", ha="right", fontsize="small")  # fmt: skip
    axes[1, 0].set_ylabel("error after / before (dB)")
    return figure


def parts_figure(found: GainMap) -> Figure:
    """The octaves of the gain, and what parts of the residual and other corrections gain by themselves."""
    from matplotlib import pyplot

    figure, (octaves, parts) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for index, (label, views) in enumerate(_sets(found)):
        color, shift = (HELD_OUT, TRAIN)[index], 0.4 * index - 0.2
        octaves.bar(np.arange(len(OCTAVE_NAMES)) + shift, views.octaves, 0.4, color=color, label=label)
        values = [views.mean(part) for part in PARTS]
        bars = parts.barh(np.arange(len(PARTS)) + shift, values, 0.4, color=color, label=label)
        parts.bar_label(bars, [f"{value:+.3f}" for value in values], padding=3, fontsize="x-small")
    octaves.axhline(0, color="black", linewidth=0.8)
    octaves.set_xticks(range(len(OCTAVE_NAMES)), OCTAVE_NAMES, fontsize="small")
    octaves.set(title="the gain by frequency", xlabel="cycles per pixel", ylabel="dB (bars add up to the gain)")
    octaves.grid(axis="y", linewidth=0.3, alpha=0.6)
    octaves.legend(fontsize="small")
    parts.axvline(0, color="black", linewidth=0.8)
    parts.set_yticks(range(len(PARTS)), list(PARTS.values()), fontsize="small")
    parts.invert_yaxis()
    parts.margins(x=0.22)
    parts.set(title="what each gains by itself", xlabel="gain (dB)")
    parts.grid(axis="x", linewidth=0.3, alpha=0.6)
    return figure


def distance_figure(found: GainMap) -> Figure:
    """The gain of every view against how far the nearest training camera is."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9.5, 4.2), sharey=True, layout="constrained")
    for index, (label, views) in enumerate(_sets(found)):
        gains = [view.parts.gain for view in views.views]
        for panel, where, correlation in (
            (axes[0], [view.nearest.distance for view in views.views], views.by_distance),
            (axes[1], [view.nearest.angle for view in views.views], views.by_angle),
        ):
            style: dict[str, Any] = {"s": 26, "color": (HELD_OUT, TRAIN)[index], "zorder": 3 - index}
            panel.scatter(where, gains, label=f"{label}, {_said(correlation)}", **style)
    for panel, label in ((axes[0], "distance (units of the scene)"), (axes[1], "angle (degrees)")):
        panel.axhline(0, color="black", linewidth=0.8, zorder=1)
        panel.set_xlabel(f"{label} to the nearest other training camera", fontsize="small")
        panel.grid(linewidth=0.3, alpha=0.6)
        panel.legend(fontsize="x-small", loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    axes[0].set(ylabel="gain (dB)")
    return figure


def residuals_figure(examples: Sequence[tuple[str, Corrected]]) -> Figure:
    """For each named view the photo, what was missing and what the head added, each with its spectrum beside it."""
    from matplotlib import pyplot

    height, width = examples[0][1].photo.shape[:2]
    widths = [width / height, width / height, 1, width / height, 1]
    size = (ROW_INCHES * sum(widths) + 0.5, (ROW_INCHES + 0.7) * len(examples))
    figure, axes = pyplot.subplots(
        len(examples), 5, figsize=size, squeeze=False, layout="constrained", width_ratios=widths
    )
    for row, (name, view) in zip(axes, examples, strict=True):
        _picture(row[0], view.photo.numpy(), name)
        strongest = windowed_power(view.missing).max().item()
        for panels, label, image in ((row[1:3], "missing", view.missing), (row[3:5], "residual", view.residual)):
            factor = _factor(image)
            _picture(panels[0], 0.5 + factor * image.numpy(), f"{label} x{factor:g}")
            _spectrum(panels[1], image, strongest)
    return figure


def _power(panel: Axes, spectra: Spectra) -> None:
    """The mean square of errors and residual in each ring up to the Nyquist frequency."""
    frequencies = spectra.before.frequencies.numpy()
    for spectrum, style in (
        (spectra.before, {"color": BEFORE, "linewidth": 4, "label": "error before"}),
        (spectra.after, {"color": AFTER, "linewidth": 1.5, "label": "error after"}),
        (spectra.residual, {"color": RESIDUAL, "linewidth": 1.5, "linestyle": ":", "label": "residual"}),
    ):
        panel.plot(frequencies, spectrum.energy.numpy(), **style)
    strongest = spectra.before.energy.max().item()
    energies = np.stack([each.energy.numpy() for each in (spectra.before, spectra.after, spectra.residual)])
    some = energies[:, frequencies <= NYQUIST]
    weakest = some[some > 0].min(initial=strongest)
    panel.set(xscale="log", yscale="log", xlim=(frequencies[0], NYQUIST))
    panel.set_ylim(bottom=max(10 ** (-SHOWN_DECIBELS / 10) * strongest, weakest / 2))


def _ratio(panel: Axes, spectra: Spectra) -> None:
    """By how many decibels the head changes the error in each ring; below 0 it removes some."""
    before, after = (each.energy.numpy() for each in (spectra.before, spectra.after))
    some = (before > 0) & (after > 0)
    panel.plot(spectra.before.frequencies.numpy()[some], 10 * np.log10(after[some] / before[some]), color=AFTER)
    panel.axhline(0, color="black", linewidth=0.8)
    panel.set_xlabel("cycles per pixel")
    panel.set_xticks([1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2], ["1/64", "1/32", "1/16", "1/8", "1/4", "1/2"])
    panel.set_xticks([], minor=True)


def _spectrum(panel: Axes, image: Tensor, strongest: float) -> None:
    """The power of ``image`` against ``strongest``, frequency 0 in the middle, with a circle at half Nyquist."""
    from matplotlib.patches import Circle

    power = np.fft.fftshift(windowed_power(image).numpy())
    decibels = 10 * np.log10(np.maximum(power / strongest, 1e-30)) if strongest > 0 else np.full_like(power, -np.inf)
    extent = (-NYQUIST, NYQUIST, NYQUIST, -NYQUIST)
    panel.imshow(decibels, cmap="magma", vmin=-SHOWN_DECIBELS, vmax=0, extent=extent, aspect="equal")
    panel.add_patch(Circle((0, 0), HALF_NYQUIST, fill=False, color="white", linewidth=0.8, linestyle="--"))
    panel.set_xticks([-NYQUIST, 0, NYQUIST], ["-1/2", "0", "1/2"], fontsize="x-small")
    panel.set_yticks([])
    panel.set_xlabel("cycles per pixel", fontsize="x-small")
    panel.set_title(f"{radial_spectrum(image).share_above():.0%} above half Nyquist", fontsize="small")


def _picture(panel: Axes, image: NDArray[np.float64], title: str) -> None:
    panel.imshow(np.clip(image, 0, 1))
    panel.set_title(title, fontsize="small")
    panel.set_axis_off()


def _factor(image: Tensor) -> float:
    """A power of two by which nearly all of ``image`` fits around grey."""
    strong = float(np.quantile(np.abs(image.numpy()), 0.995))
    return 2.0 ** np.floor(np.log2(0.5 / strong)) if strong > 0 else 1.0


def _sets(found: GainMap) -> tuple[tuple[str, ViewsGain], ...]:
    return ("held-out views", found.held_out), ("training views", found.train)


def _said(correlation: Correlation | None) -> str:
    return (
        "no correlation known"
        if correlation is None
        else f"rank correlation {correlation.rho:+.2f} (p {correlation.p:.2g})"
    )

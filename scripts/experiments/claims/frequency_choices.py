"""What FreSh's choices of frequencies are worth beside the default and beside a search: verdicts and pictures.

A run is a record of one seed, one photo or scene and one family of frequencies: the values that were trained
(``candidates``), the ``psnr`` of each, and which of them are the ``default`` and the ``chosen`` one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from claims.drawing import colours
from claims.record import Verdict, interval, larger

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEAR = 0.5
"""Decibels within which a choice counts as comparable with the best. Our choice."""


def verdicts_on(runs: Sequence[dict[str, Any]], families: Iterable[str], *, of: str) -> list[Verdict]:
    """The choice against the default and against the best candidate, by family. ``of`` names what was learnt."""
    verdicts = []
    for family in families:
        some = [run for run in runs if run["family"] == family]
        chosen, default, best = (_scores(some, which) for which in ("chosen", "default", "best"))
        verdicts.append(larger(f"FreSh's choice is better than the default ({family})", chosen, default, unit="dB"))
        behind = [one - other for one, other in zip(best, chosen, strict=True)]
        near = sum(one <= NEAR for one in behind)
        said = f"the best is ahead by {interval(behind)} dB; within {NEAR:g} dB in {near} of {len(behind)} {of}"
        claim = f"FreSh's choice is within {NEAR:g} dB of the best candidate ({family})"
        verdicts.append(Verdict(claim, sum(behind) / len(behind) <= NEAR, said))
    return verdicts


def panel(axis: Axes, runs: Sequence[dict[str, Any]], *, title: str) -> None:
    """PSNR by candidate relative to the best of its run, with FreSh's choices and the default."""
    for run, colour in zip(runs, colours(len(runs)), strict=True):
        behind = [score - max(run["psnr"]) for score in run["psnr"]]
        axis.plot(run["candidates"], behind, color=colour, linewidth=1)
        axis.plot(run["candidates"][run["chosen"]], behind[run["chosen"]], "o", color=colour)
    axis.axvline(runs[0]["candidates"][runs[0]["default"]], color="black", linestyle=":", label="default")
    axis.set(title=f"{title} (dot: FreSh's choice)", xlabel="candidate", ylabel="PSNR less the best (dB)")
    axis.legend(fontsize="small")


def _scores(runs: Sequence[dict[str, Any]], which: str) -> list[float]:
    return [max(run["psnr"]) if which == "best" else run["psnr"][run[which]] for run in runs]

"""Does a head sharpen, correct colours, or remember? Answers from the numbers, by thresholds that have names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gain_parts import COLOUR, QUARTER_NYQUIST
from gain_views import GainMap

LEAST_GAIN = 0.02
"""dB: a mean gain, or a difference of two, below this is none."""

LEAST_KEPT = 0.5
"""A head whose held-out views gain less than this share of what its training views gain remembers, if the difference
is at least ``LEAST_GAIN``."""

MAIN_SHARE = 0.5
"""A kind of correction that accounts for at least this share of the held-out gain is what the head does."""

Finding = Literal["no gain", "remembers", "same in every view", "corrects colours", "corrects shapes", "sharpens"]


@dataclass(frozen=True)
class Verdict:
    """What was found, in words that programs can compare, and the sentences that say why."""

    findings: tuple[Finding, ...]
    sentence: str


def verdict(found: GainMap) -> Verdict:
    """What the head does on held-out views, and whether it does more on those that it was trained on.

    The kinds, as shares of the mean held-out gain: colours have the larger one of the gain of the residual's colour map
    and the lowest octave's part (below 1/32 cycle per pixel); sharpening has the octaves from 1/8 cycle per pixel on;
    shapes have the octaves between.
    """
    held_out, train = found.held_out, found.train
    gain, trained = held_out.gain, train.gain
    count = len(held_out.views)
    findings: list[Finding] = []
    said = [
        f"The residual gains {gain:+.3f} dB on held-out views ({held_out.better} of {count} better) "
        f"and {trained:+.3f} dB on training views."
    ]
    if gain < LEAST_KEPT * trained and trained - gain >= LEAST_GAIN:
        findings.append("remembers")
        kept = f"gain {gain / trained:.0%} of what training views gain (under {LEAST_KEPT:.0%})" if gain > 0 else "lose"
        said.append(f"It remembers: held-out views {kept}.")
    elif gain >= LEAST_GAIN:
        kept = f"gain {gain / trained:.0%} of what training views gain" if trained > gain else "gain no less"
        said.append(f"It does not just remember: held-out views {kept}.")
    if gain < LEAST_GAIN:
        said.append(f"Less than {LEAST_GAIN} dB on held-out views is no gain: there is nothing to place.")
        return Verdict((*findings, "no gain"), " ".join(said))
    wrong = held_out.mean("wrong_view")
    same = wrong >= MAIN_SHARE * gain
    if same:
        findings.append("same in every view")
    does = "does much the same in every view" if same else "does what is meant for the view"
    said.append(f"It {does}: the residual of the nearest other view gains {wrong:+.3f} dB.")
    parts = _parts(found)
    main: list[Finding] = [kind for kind, part in parts.items() if part >= MAIN_SHARE * gain]
    findings += main
    does = f"It {' and '.join(main)}" if main else "It does a little of everything"
    colours, shapes, sharpness = parts.values()
    said.append(
        f"{does}: of the gain, {colours:+.3f} dB are colours, {shapes:+.3f} dB shapes, {sharpness:+.3f} dB sharpness "
        f"(what it does is what has at least {MAIN_SHARE:.0%})."
    )
    return Verdict(tuple(findings), " ".join(said))


def _parts(found: GainMap) -> dict[Finding, float]:
    """What each kind of correction has of the mean held-out gain, in dB; colours and the others may overlap."""
    octaves = found.held_out.octaves
    return {
        "corrects colours": max(found.held_out.mean("colour_map"), sum(octaves[:COLOUR])),
        "corrects shapes": sum(octaves[COLOUR:QUARTER_NYQUIST]),
        "sharpens": sum(octaves[QUARTER_NYQUIST:]),
    }

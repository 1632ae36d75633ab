"""What an experiment is told, and what it answers."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Setting:
    """How to measure.

    Args:
        seeds: repetitions, with the seeds from 0 up to ``seeds`` - 1.
        quick: a tiny run that shows that everything works, and says nothing about the claim.
        data: folder with ``images`` and ``scenes``; None where there is none.
    """

    seeds: int
    quick: bool
    data: Path | None = None

    def each_seed(self) -> Iterator[int]:
        """The seeds, each announced on the standard error stream."""
        for seed in range(self.seeds):
            print(f"  seed {seed + 1} of {self.seeds}", file=sys.stderr, flush=True)
            yield seed


@dataclass(frozen=True)
class Verdict:
    """Whether a claim held, and by how much.

    ``held`` is None where that is open, because it could not be measured here or because the difference is within
    chance; ``by`` says which.
    """

    claim: str
    held: bool | None
    by: str


def interval(values: Sequence[float]) -> str:
    """Mean and standard deviation of ``values`` over seeds, such as ``+1.20 ± 0.05``, with a third digit for means
    below 0.1; the values may be differences."""
    mean = statistics.fmean(values)
    digits = 2 if abs(mean) >= 0.1 else 3
    shown = f"{statistics.stdev(values):.{digits}f}" if len(values) > 1 else "?"
    return f"{mean:+.{digits}f} ± {shown}"


def larger(claim: str, first: Sequence[float], second: Sequence[float], *, unit: str) -> Verdict:
    """The verdict that ``first`` is larger than ``second`` on average over the same seeds.

    It is open where the mean difference is within two standard errors of 0, and with one pair; what is equal in every
    pair is not larger. ``by`` gives the mean difference, its standard deviation and how many pairs agree in sign.
    """
    gaps = [one - other for one, other in zip(first, second, strict=True)]
    said = f"{interval(gaps)} {unit}, {sum(gap > 0 for gap in gaps)} of {len(gaps)} pairs"
    mean = statistics.fmean(gaps)
    chance = 2 * statistics.stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else math.inf
    if abs(mean) <= chance and any(gaps):
        return Verdict(claim, None, f"{said}: within chance")
    return Verdict(claim, mean > 0, said)

"""Which frequencies a network has learnt at which step: the heat map that shows spectral bias.

Source: Rahaman et al. 2019, On the Spectral Bias of Neural Networks, section 3 and figure 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

LEARNT = 0.8
"""Share of its amplitude from which a frequency counts as learnt. Our choice."""


def amplitude_shares(
    signal: Float[Tensor, " n"], cycles: Sequence[int], amplitudes: Sequence[float]
) -> Float[Tensor, " k"]:
    """The amplitude that ``signal`` has at each of ``cycles`` (over its length) as a share of ``amplitudes``.

    Raises:
        ValueError: a frequency at or above half the number of samples, or none.
    """
    if not cycles or min(cycles) < 1 or 2 * max(cycles) >= len(signal):
        raise ValueError(f"cycles={list(cycles)} of {len(signal)} samples: give some from 1 to less than half of that")
    waves = torch.fft.rfft(signal.double())[list(cycles)]
    return 2 * waves.abs() / len(signal) / waves.real.new_tensor(amplitudes)


@dataclass(frozen=True)
class Heatmap:
    """Shares [steps, cycles] of the amplitude of each frequency at each step, 1 where it is learnt."""

    steps: tuple[int, ...]
    cycles: tuple[int, ...]
    shares: tuple[tuple[float, ...], ...]

    def steps_to(self, share: float = LEARNT) -> tuple[int | None, ...]:
        """The first step from which each frequency never again has less than ``share`` of its amplitude; None where
        there is none."""
        return tuple(self._settled([row[column] for row in self.shares], share) for column in range(len(self.cycles)))

    def _settled(self, values: Sequence[float], share: float) -> int | None:
        below = [index for index, value in enumerate(values) if value < share]
        first = below[-1] + 1 if below else 0
        return self.steps[first] if first < len(self.steps) else None

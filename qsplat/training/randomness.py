"""What is random in a training, kept apart from the caller's random numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import UInt8
from torch import Tensor

RandomState = UInt8[Tensor, " bytes"]


class Randomness:
    """torch's own random numbers as one run draws them, on the CPU and on its device."""

    def __init__(self, seed: int, device: str) -> None:
        self._devices = [torch.device(device)] if device != "cpu" else []
        with torch.random.fork_rng(devices=self._devices):
            torch.manual_seed(seed)
            self.states = self._current()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Draw from here, and leave the caller's random state as it was."""
        with torch.random.fork_rng(devices=self._devices):
            torch.set_rng_state(self.states[0])
            for device, state in zip(self._devices, self.states[1:], strict=False):
                torch.cuda.set_rng_state(state, device)
            try:
                yield
            finally:
                self.states = self._current()

    def _current(self) -> list[RandomState]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self._devices)]


class PhotoOrder:
    """Which photo comes next: each once per epoch, in a new random order each time.

    Without a ``generator`` the order is drawn from torch's own random numbers, as densification's choices are. With
    one it stays the same, whatever else is drawn.
    """

    def __init__(self, count: int, upcoming: Sequence[int] = (), *, generator: torch.Generator | None = None) -> None:
        self._count, self.upcoming, self.generator = count, list(upcoming), generator

    def __next__(self) -> int:
        if not self.upcoming:
            self.upcoming = torch.randperm(self._count, generator=self.generator).tolist()
        return self.upcoming.pop(0)


def branched(state: RandomState) -> torch.Generator:
    """A generator of its own that begins where ``state`` decides."""
    parent = torch.Generator()
    parent.set_state(state)
    return torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=parent)))


def generator_at(state: RandomState) -> torch.Generator:
    """The generator that was in ``state``."""
    generator = torch.Generator()
    generator.set_state(state)
    return generator

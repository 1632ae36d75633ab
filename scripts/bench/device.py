"""Measuring on a GPU by its own clock; on a CPU the same calls go by the clock of the benchmarks there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from measuring import Times, clock, processor, sgemm_gflops

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")


class Stopwatch:
    """Milliseconds between its marks. On a GPU these are CUDA events, among the work that waits there: a stage lasts as
    long as its work does, or as long as Python takes to ask for it, if that is longer."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.names: list[str] = []
        self.moments = [self._now()]

    def mark(self, name: str) -> None:
        """End the stage ``name``."""
        self.names.append(name)
        self.moments.append(self._now())

    def times(self) -> Times:
        """Duration of each stage."""
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()
            between = [first.elapsed_time(second) for first, second in itertools.pairwise(self.moments)]
        else:
            between = [1e3 * (second - first) for first, second in itertools.pairwise(self.moments)]
        return dict(zip(self.names, between, strict=True))

    def _now(self) -> Any:
        if self.device != "cuda":
            return clock(self.device)
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def forward_and_backward(function: Callable[[], torch.Tensor], inputs: Sequence[torch.Tensor], device: str) -> Times:
    """``forward_ms`` of ``function`` and ``backward_ms`` of its gradients, that of the output being the output."""
    import torch

    watch = Stopwatch(device)
    output = function()
    watch.mark("forward_ms")
    torch.autograd.grad(output, inputs, output.detach())
    watch.mark("backward_ms")
    return watch.times()


def peak_mib(work: Callable[[], Result], device: str) -> tuple[Result, float | None]:
    """The result of ``work``, and how much PyTorch's memory on ``device`` grew meanwhile; None on a CPU."""
    if device != "cuda":
        return work(), None
    import torch

    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = work()
    torch.cuda.synchronize()
    return result, round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)


def gflops(device: str) -> float:
    """Speed of a float32 matrix product that keeps ``device`` busy."""
    return sgemm_gflops(device, side=8192 if device == "cuda" else 768)


def accelerator(device: str) -> dict[str, Any]:
    """Name of the device, and of a GPU the memory and the version of CUDA."""
    if device != "cuda":
        return {"isa": processor()}
    import torch

    properties = torch.cuda.get_device_properties(0)
    memory = round(properties.total_memory / 2**30, 1)
    return {"isa": properties.name, "memory_gib": memory, "cuda": torch.version.cuda}


def calibration(speed: float, device: str) -> dict[str, Any]:
    """What ends every row: the speed of the products, and the device in the place of threads and their processor."""
    return {"sgemm_gflops": speed, "threads": None, "isa": accelerator(device)["isa"]}

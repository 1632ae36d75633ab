"""What the layers and heads of the residual network cost: time and memory beside a plain convolution of PyTorch.

    python scripts/bench/convolutions.py [--sizes WxH ...] [--shown WxH] [--channels N] [--repeats N] [--threads N]
                                         [--json FILE]

Layers have 64 to 64 channels: PyTorch's Conv2d with 3x3 pixels, and what may take its place. Heads are those of
``--pipeline.model.qnn.convolution`` and ``.architecture``, at their defaults but in float32. The cases take turns. They
are timed forward and backward on crops of the sizes given, and forward without gradients on an image that is shown,
after CF-Conv has made its kernels. Times are of the processor, all threads together, so that other programs do not
count; ``times`` is their ratio to PyTorch's Conv2d for layers, and to the head of standard convolutions for heads.
Memory is the most that one run takes beyond what was in use.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from measuring import Options, Times, extra_megabytes, report, run, size, take_turns

if TYPE_CHECKING:
    from torch import Tensor, nn

    from qsplat.qnn import QnnConfig

LAYER, HEAD = "torch Conv2d", "CNN"
"""What layers and heads are compared with."""


@dataclass(frozen=True)
class Case:
    """A layer or head and a call of it; ``inputs`` are what gradients are asked for, none where none are."""

    module: nn.Module
    forward: Callable[[], Tensor]
    inputs: Sequence[Tensor]

    def __call__(self) -> Times:
        """Processor milliseconds of one run."""
        import torch

        with torch.set_grad_enabled(bool(self.inputs)):
            began = time.process_time()
            output = self.forward()
            middle = time.process_time()
            if self.inputs:
                torch.autograd.grad(output, self.inputs, output.detach())
        ended = time.process_time()
        return {"forward_ms": 1e3 * (middle - began), "backward_ms": 1e3 * (ended - middle)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the JSON file if one is named."""
    options = Options(__doc__)
    crops = [(80, 60), (160, 120)]
    options.add_argument("--sizes", type=size, nargs="+", default=crops, metavar="WxH", help="crops (80x60 160x120)")
    options.add_argument("--shown", type=size, default=(400, 300), metavar="WxH", help="image (default 400x300)")
    options.add_count("--channels", default=64, help="of features")
    options.add_count("--repeats", default=3, help="turns that count")
    options.add_count("--threads", default=None, help="threads, torch's own number when not given")
    given = options.parse_args(arguments)

    return run(lambda: report(given, "Processor milliseconds, and megabytes", measure))


def measure(given: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each layer and head at each size."""
    rows = []
    for (width, height), learning in [*((one, True) for one in given.sizes), (given.shown, False)]:
        for kind, compared, cases in (
            ("layer", LAYER, layers(given.channels, width, height, learning=learning)),
            ("head", HEAD, heads(given.channels, width, height, learning=learning)),
        ):
            found = take_turns(list(cases.values()), given.repeats)
            total = {name: sum(times.values()) for name, times in zip(cases, found.medians, strict=True)}
            for (name, case), times in zip(cases.items(), found.medians, strict=True):
                rows.append(
                    {
                        "kind": kind,
                        "name": name,
                        "channels": given.channels,
                        "width": width,
                        "height": height,
                        "parameters": sum(one.numel() for one in case.module.parameters()),
                        "forward_ms": round(times["forward_ms"], 2),
                        "backward_ms": round(times["backward_ms"], 2) if learning else None,
                        "times": round(total[name] / total[compared], 2),
                        "megabytes": extra_megabytes(case),
                        "sgemm_gflops": found.sgemm_gflops,
                    }
                )
    return rows


def layers(channels: int, width: int, height: int, *, learning: bool) -> Mapping[str, Case]:
    """Layers on features of that size; gradients are with respect to these and all parameters."""
    import torch
    from torch import nn

    from qsplat.qnn.convolutions import CFConv, FDConv, Standard, convolution

    torch.manual_seed(0)
    features = torch.randn(1, channels, height, width).contiguous(memory_format=torch.channels_last)
    features.requires_grad_(learning)
    modules: dict[str, nn.Module] = {LAYER: nn.Conv2d(channels, channels, 3, padding=1)}
    for name, choice in {"standard": Standard(), "FDConv": FDConv(), "CF-Conv": CFConv()}.items():
        modules[name] = convolution(choice, channels, channels, kernel=3)

    def case(module: nn.Module) -> Case:
        for parameter in module.train(learning).parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return Case(module, lambda: module(features), [features, *module.parameters()] if learning else [])

    return {name: case(module) for name, module in modules.items()}


def heads(channels: int, width: int, height: int, *, learning: bool) -> Mapping[str, Case]:
    """Heads on an image of that size."""
    from qsplat.qnn import QnnConfig
    from qsplat.qnn.convolutions import CFConv, FDConv

    usual = QnnConfig(channels=channels, precision="fp32")
    configs = {
        HEAD: usual,
        "FDConv": replace(usual, convolution=FDConv()),
        "CF-Conv": replace(usual, convolution=CFConv()),
        "RFF-CA": replace(usual, architecture="rffca"),
    }
    return {name: head(config, width, height, learning=learning) for name, config in configs.items()}


def head(config: QnnConfig, width: int, height: int, *, learning: bool) -> Case:
    """A head on a random image of that size; gradients are with respect to this and all parameters."""
    import torch

    from qsplat.cameras import Camera
    from qsplat.qnn import QNN, image_residual
    from qsplat.qnn.queries import pixel_queries

    torch.manual_seed(0)
    image = torch.rand(height, width, 3, requires_grad=learning)
    focal = float(width)
    queries = pixel_queries(Camera(torch.eye(4), focal, focal, width / 2, height / 2, width, height))
    network = QNN(config).train(learning).requires_grad_(learning)
    learnt = [image, *network.parameters()] if learning else []
    return Case(network, lambda: image_residual(network, image, queries), learnt)


if __name__ == "__main__":
    sys.exit(main())

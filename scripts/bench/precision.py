"""What bfloat16 costs beside float32 on this processor: does ``precision="auto"`` choose the faster one?

    python scripts/bench/precision.py [--sizes WxH ...] [--shown WxH] [--samples N] [--repeats N] [--threads N]
                                      [--json FILE]

The residual network is timed forward and backward on crops of the sizes given, and forward without gradients on an
image that is shown; the small ``qsplat-nerf`` forward and backward on samples of rays. Both kinds of arithmetic take
turns. Times are of the processor, all threads together, so that other programs do not count; ``times`` is bfloat16's
as a multiple of float32's, and ``auto`` what the library takes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convolutions import Case
from measuring import Options, machine, run, show, size, take_turns, use_threads, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from qsplat.precision import Precision

KINDS: tuple[Precision, ...] = ("bf16", "fp32")


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and write the JSON file if one is named."""
    options = Options(__doc__)
    crops = [(27, 20), (101, 76), (252, 189)]
    options.add_argument("--sizes", type=size, nargs="+", default=crops, metavar="WxH", help="27x20 101x76 252x189")
    options.add_argument("--shown", type=size, default=(400, 300), metavar="WxH", help="image (default 400x300)")
    options.add_count("--samples", default=12_288, help="of rays")
    options.add_count("--repeats", default=7, help="turns that count")
    options.add_count("--threads", default=None, help="threads, torch's own number when not given")
    given = options.parse_args(arguments)

    def bench() -> None:
        threads = use_threads(given.threads)
        from qsplat.training.memory import keep_freed_memory

        keep_freed_memory()
        rows = list(measure(given))
        show("Processor milliseconds", rows)
        if given.json is not None:
            write_json(given.json, {"machine": {**machine(), **instructions()}, "threads": threads, "rows": rows})

    return run(bench)


def instructions() -> dict[str, bool]:
    """Which instructions for bfloat16 an x86 processor has."""
    import torch

    return {"avx512_bf16": torch.cpu._is_avx512_bf16_supported(), "amx": torch.cpu._is_amx_tile_supported()}


def measure(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each network and size."""
    import torch

    from qsplat.precision import uses_bfloat16

    auto = KINDS[0] if uses_bfloat16("auto", torch.device("cpu")) else KINDS[1]
    cases = [(f"head, crop of {w}x{h}", [head(kind, w, h, learning=True) for kind in KINDS]) for w, h in given.sizes]
    width, height = given.shown
    cases.append((f"head, {width}x{height} shown", [head(kind, width, height, learning=False) for kind in KINDS]))
    cases.append((f"nerf, {given.samples} samples", [field(kind, given.samples) for kind in KINDS]))
    for name, pair in cases:
        found = take_turns(pair, given.repeats)
        half, full = (sum(times.values()) for times in found.medians)
        yield {
            "what": name,
            "bf16_ms": round(half, 2),
            "fp32_ms": round(full, 2),
            "times": round(half / full, 2),
            "auto": auto,
            "sgemm_gflops": found.sgemm_gflops,
        }


def head(kind: Precision, width: int, height: int, *, learning: bool) -> Case:
    """The residual network on a random image of that size; gradients are with respect to this and all parameters."""
    import torch

    from qsplat.cameras import Camera
    from qsplat.qnn import QNN, QnnConfig, image_residual
    from qsplat.qnn.queries import pixel_queries

    torch.manual_seed(0)
    network = QNN(QnnConfig(precision=kind)).train(learning).requires_grad_(learning)
    image = torch.rand(height, width, 3, requires_grad=learning)
    focal = float(width)
    queries = pixel_queries(Camera(torch.eye(4), focal, focal, width / 2, height / 2, width, height))
    learnt = [image, *network.parameters()] if learning else []
    return Case(network, lambda: image_residual(network, image, queries), learnt)


def field(kind: Precision, samples: int) -> Case:
    """The small ``qsplat-nerf`` on random samples; gradients are with respect to all parameters."""
    import torch

    from qsplat.fields.nerf import RadianceField
    from qsplat.training.field_presets import field_preset

    torch.manual_seed(0)
    network = RadianceField(replace(field_preset("nerf", "small", iterations=1).field, precision=kind))
    where, towards = torch.rand(samples, 3) * 2 - 1, torch.nn.functional.normalize(torch.randn(samples, 3), dim=-1)

    def forward() -> Tensor:
        density, color = network(where, towards)
        return torch.cat([density[:, None], color], dim=1)

    return Case(network, forward, list(network.parameters()))


if __name__ == "__main__":
    sys.exit(main())

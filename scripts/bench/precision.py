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
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convolutions import Case, head
from measuring import Options, report, run, size, take_turns

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

    return run(lambda: report(given, "Processor milliseconds", measure, about=instructions))


def instructions() -> dict[str, bool]:
    """Which instructions for bfloat16 an x86 processor has."""
    import torch

    return {"avx512_bf16": torch.cpu._is_avx512_bf16_supported(), "amx": torch.cpu._is_amx_tile_supported()}


def measure(given: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each network and size."""
    import torch

    from qsplat.precision import uses_bfloat16
    from qsplat.qnn import QnnConfig

    def heads(width: int, height: int, *, learning: bool) -> list[Case]:
        return [head(QnnConfig(precision=kind), width, height, learning=learning) for kind in KINDS]

    auto = KINDS[0] if uses_bfloat16("auto", torch.device("cpu")) else KINDS[1]
    width, height = given.shown
    cases = {f"head, crop of {w}x{h}": heads(w, h, learning=True) for w, h in given.sizes}
    cases[f"head, {width}x{height} shown"] = heads(width, height, learning=False)
    cases[f"nerf, {given.samples} samples"] = [field(kind, given.samples) for kind in KINDS]
    rows = []
    for name, pair in cases.items():
        found = take_turns(pair, given.repeats)
        half, full = (sum(times.values()) for times in found.medians)
        rows.append(
            {
                "what": name,
                "bf16_ms": round(half, 2),
                "fp32_ms": round(full, 2),
                "times": round(half / full, 2),
                "auto": auto,
                "sgemm_gflops": found.sgemm_gflops,
            }
        )
    return rows


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

"""How fast the loss and the optimiser's step are on this machine.

    python scripts/bench/loss.py [--json FILE] [--threads N] [--repeats N] [--sizes WxH ...] [--gaussians N]

Times the photometric loss of random RGB images, with and without a mask, beside its twin: SSIM by depthwise
convolutions with the 11x11 window, as most trainings have it, and autograd. The step of the optimisers of ``gaussians``
Gaussians with harmonics of degree 3 stands beside ``torch.optim.Adam`` as it comes (a loop over the tensors) and with
``foreach=True``. A step reads and writes seven numbers per parameter; ``copy_ms`` is the time to copy as many bytes.
Freed memory stays in the process, as in training.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from measuring import (
    Options,
    Times,
    forward_and_backward,
    machine,
    milliseconds,
    run,
    show,
    size,
    take_turns,
    use_threads,
    write_json,
)

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import ParameterDict
    from torch.optim import Optimizer

SIZES = ((400, 300), (800, 600))
WINDOW, SIGMA = 11, 1.5
ACCESSES = 7
"""Numbers per parameter that Adam reads (parameter, gradient, both moments) and writes (all but the gradient)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the rows."""
    options = Options(__doc__)
    options.add_count("--threads", default=None, help="threads, torch's own number when not given")
    options.add_count("--repeats", default=15, help="repeats of every case")
    options.add_count("--gaussians", default=30_000, help="Gaussians that the optimisers move")
    options.add_argument("--sizes", nargs="+", type=size, default=SIZES, metavar="WxH", help="of the images, in pixels")
    given = options.parse_args(arguments)

    def bench() -> None:
        threads = use_threads(given.threads)
        from qsplat.training.memory import keep_freed_memory

        keep_freed_memory()
        small = next((size for size in given.sizes if min(size) < WINDOW), None)
        if small is not None:
            raise ValueError(f"--sizes {small[0]}x{small[1]}: SSIM needs at least {WINDOW} pixels on both sides")
        found = {
            "machine": machine(),
            "loss": losses(given.sizes, given.repeats, threads),
            "optimiser": [steps(given.gaussians, given.repeats, threads)],
        }
        if given.json:
            write_json(given.json, found)
        show("photometric loss, beside convolutions and autograd", found["loss"])
        show("step of the optimisers, beside torch.optim.Adam", found["optimiser"])

    return run(bench)


def losses(sizes: Sequence[tuple[int, int]], repeats: int, threads: int) -> list[dict[str, Any]]:
    """Rows of the loss at every size, without and with a mask."""
    kinds = [(*size, masked) for size in sizes for masked in (False, True)]
    comparisons = [Comparison(*kind) for kind in kinds]
    found = take_turns([case for one in comparisons for case in (one.ours, one.twin)], repeats)
    rows = []
    for (width, height, masked), ours, twin in zip(kinds, found.medians[::2], found.medians[1::2], strict=True):
        total, other = sum(ours.values()), sum(twin.values())
        row = {"width": width, "height": height, "masked": masked, **ours, "total_ms": round(total, 3)}
        row |= {f"twin_{name}": value for name, value in twin.items()}
        rows.append({**row, "ratio": round(other / total, 1), "sgemm_gflops": found.sgemm_gflops, "threads": threads})
    return rows


class Comparison:
    """A random image, a photo that it is compared with, and a mask that leaves out a tenth of the pixels."""

    def __init__(self, width: int, height: int, masked: bool) -> None:
        import torch

        generator = torch.Generator().manual_seed(width)
        self.photo = torch.rand(height, width, 3, generator=generator)
        noise = 0.2 * torch.randn(height, width, 3, generator=generator)
        self.image = (self.photo + noise).requires_grad_()
        self.mask = torch.rand(height, width, generator=generator) > 0.1 if masked else None

    def ours(self) -> Times:
        """The loss that training uses."""
        from qsplat.training.losses import photometric_loss

        return forward_and_backward(lambda: photometric_loss(self.image, self.photo, mask=self.mask), [self.image])

    def twin(self) -> Times:
        """The same in torch operations."""
        return forward_and_backward(lambda: loss_by_convolutions(self.image, self.photo, self.mask), [self.image])


def loss_by_convolutions(image: Tensor, photo: Tensor, mask: Tensor | None, *, ssim_weight: float = 0.2) -> Tensor:
    """``photometric_loss`` of images [h, w, c] as most trainings have it: five depthwise convolutions."""
    import torch
    from torch.nn.functional import conv2d

    if mask is not None:
        image, photo = image * mask[..., None], photo * mask[..., None]
    x, y = (one.permute(2, 0, 1)[None] for one in (image, photo))
    weights = torch.tensor([math.exp(-((i - WINDOW // 2) ** 2) / (2 * SIGMA**2)) for i in range(WINDOW)])
    window = torch.outer(weights, weights) / weights.sum() ** 2
    window = window.expand(x.shape[1], 1, WINDOW, WINDOW).contiguous()

    def blurred(planes: Tensor) -> Tensor:
        return conv2d(planes, window, groups=planes.shape[1])

    a, b = blurred(x), blurred(y)
    xx, yy, xy = blurred(x * x) - a * a, blurred(y * y) - b * b, blurred(x * y) - a * b
    similarity = (2 * a * b + 0.01**2) * (2 * xy + 0.03**2)
    similarity = similarity / ((a * a + b * b + 0.01**2) * (xx + yy + 0.03**2))
    difference = (x - y).abs()
    if mask is None:
        return (1 - ssim_weight) * difference.mean() + ssim_weight * (1 - similarity.mean())
    border = WINDOW // 2
    inside = mask[border:-border, border:-border]
    absolute = difference.sum() / (mask.sum() * x.shape[1])
    dissimilarity = ((1 - similarity) * inside).sum() / (inside.sum() * x.shape[1])
    return (1 - ssim_weight) * absolute + ssim_weight * dissimilarity


def steps(gaussians: int, repeats: int, threads: int) -> dict[str, Any]:
    """The row of the optimisers."""
    import torch

    from qsplat.training.optimizers import gaussian_optimizers

    def torch_optimizers(parameters: ParameterDict, foreach: bool | None) -> list[Optimizer]:
        return [torch.optim.Adam([parameter], eps=1e-15, foreach=foreach) for parameter in parameters.values()]

    sets = [random_parameters(gaussians) for _ in range(3)]
    optimizers = [
        list(gaussian_optimizers(sets[0]).values()),
        torch_optimizers(sets[1], None),
        torch_optimizers(sets[2], True),
    ]
    numbers = sum(parameter.numel() for parameter in sets[0].values())
    source = torch.ones(numbers * ACCESSES // 2)
    copied = torch.empty_like(source)

    def step(some: Sequence[Optimizer]) -> Times:
        return {"ms": milliseconds(lambda: [one.step() for one in some])}

    cases = [lambda some=some: step(some) for some in optimizers]
    found = take_turns([*cases, lambda: {"ms": milliseconds(lambda: copied.copy_(source))}], repeats)
    ours, loop, foreach, copy = (times["ms"] for times in found.medians)
    return {
        "gaussians": gaussians,
        "step_ms": ours,
        "twin_step_ms": loop,
        "foreach_step_ms": foreach,
        "ratio": round(loop / ours, 1),
        "copy_ms": copy,
        "copy_gb_per_second": round(4e-6 * numbers * ACCESSES / copy, 1),
        "sgemm_gflops": found.sgemm_gflops,
        "threads": threads,
    }


def random_parameters(gaussians: int) -> ParameterDict:
    """Parameters of Gaussians with harmonics of degree 3, and gradients."""
    import torch

    from qsplat.gaussians import seed_from_points
    from qsplat.training.parameters import parameters_of

    generator = torch.Generator().manual_seed(gaussians)
    points, colors = torch.rand(2, gaussians, 3, generator=generator)
    parameters = parameters_of(seed_from_points(points, colors, generator=generator))
    for parameter in parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return parameters


if __name__ == "__main__":
    sys.exit(main())

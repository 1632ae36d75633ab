"""How fast qsplat is on this machine's GPU.

    python scripts/bench/gpu.py [--json FILE] [--repeats N] [--cases N@WxH ...] [--training N@WxH ...] [--iterations N]

The cases are those of the benchmarks for the CPU, and a million Gaussians at 1920x1080. ``rows`` are whole renderings
by the ``cuda`` backend, with projection and harmonics of degree 3: gsplat does all of it in one call. Beside the
rendering of a small case stands the reference backend, beside the loss, at the size of each case's image, its twin by
convolutions and autograd. The head is applied to an image of the largest of these sizes without gradients, in tiles, as
when a view is shown; convolutions in float32 use TF32, which is what PyTorch does when it is not told otherwise.

Cases take turns; numbers are medians. Parts are timed by CUDA events. Iterations are those of ``fit()``, by the clock;
their ``breakdown_ms`` is of the same step taken apart, with the densifier and the records left out. ``sgemm_gflops`` is
a product of float32 matrices of 8192 rows and columns, ``peak_memory_mib`` the most that PyTorch had allocated at once
for a case. gsplat builds its kernels when they are first used, before anything is timed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from device import Stopwatch, accelerator, calibration, forward_and_backward, gflops, peak_mib
from loss import Comparison, loss_by_convolutions
from measuring import Options, Times, case, machine, run, show, take_turns, write_json
from rasterizer import CASES, TWIN_CASE, Size, overlaps, random_layer
from step import Training
from training import made_up_scene

if TYPE_CHECKING:
    import torch

    from qsplat.precision import Precision

LARGE = (1_000_000, 1920, 1080)
TRAINING = ((30_000, 400, 300), LARGE)
PARTS = "breakdown_ms"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the rows."""
    options = Options(__doc__)
    options.add_count("--repeats", default=15, help="repeats of every case; a fifth of it for trainings and twins")
    options.add_argument("--cases", nargs="+", type=case, default=(*CASES, LARGE), metavar="N@WxH", help="to render")
    options.add_argument("--training", nargs="+", type=case, default=TRAINING, metavar="N@WxH", help="to train")
    options.add_count("--iterations", default=20, help="steps to time in each phase of a training")
    given = options.parse_args(arguments)

    def bench() -> None:
        import torch

        check_gpu()
        try:
            found = measure("cuda", given.cases, given.training, given.repeats, given.iterations)
        except torch.cuda.OutOfMemoryError as problem:
            text = str(problem).splitlines()[0]
            raise MemoryError(f"{text} Name smaller --cases and --training than {LARGE[0]}@1920x1080.") from None
        if given.json:
            write_json(given.json, found)
        for title, table in TABLES.items():
            show(title, [{key: value for key, value in row.items() if key != PARTS} for row in found[table]])
        for row in found["training"]:
            show(f"ms of a step, {row['phase']}, {row['gaussians']} Gaussians", [row[PARTS]])

    return run(bench)


TABLES = {
    "rendering, RGB": "rows",
    "rendering, beside the reference backend": "twins",
    "photometric loss, beside convolutions and autograd": "loss",
    "the head applied to an image": "head",
    "training": "training",
}


def check_gpu() -> None:
    """Draw one splat.

    Raises:
        BackendUnavailable: there is no GPU for PyTorch, or gsplat has no kernels for it.
    """
    import torch

    from qsplat.render import BackendUnavailable, rasterize

    if not torch.cuda.is_available():
        raise BackendUnavailable(
            "there is no NVIDIA GPU that this PyTorch can use; the benchmarks of the CPU are the other files beside "
            "this one, and python scripts/doctor.py says what a GPU needs"
        )
    splats, camera = random_layer(1, 16, 16)
    moved = {name: value.to("cuda") for name, value in vars(splats).items() if value is not None}
    rasterize(replace(splats, **moved), camera.to("cuda"))


def measure(
    device: str, cases: Sequence[Size], trainings: Sequence[Size], repeats: int, iterations: int
) -> dict[str, Any]:
    """Every table, and the machine."""
    few, sizes = max(1, repeats // 5), sorted({size[1:] for size in cases})
    return {
        "machine": machine() | accelerator(device),
        "rows": renderings(cases, repeats, device),
        "twins": [twins(TWIN_CASE, few, device)],
        "loss": losses(sizes, repeats, device),
        "head": heads(sizes[-1], repeats, device),
        "training": trained(trainings, few, iterations, device),
    }


class Drawing:
    """Random splats on ``device``, ready to be rendered."""

    def __init__(self, size: Size, device: str) -> None:
        import torch

        from qsplat.render import RasterConfig
        from qsplat.render.projection import project

        self.size, self.device = size, device
        self.config = RasterConfig(depth=False)
        splats, camera = random_layer(*size)
        flat = project(splats, camera, self.config)
        records = torch.cat([flat.conics, flat.opacities[:, None]], dim=1)
        self.overlaps = overlaps(records[flat.radii > 0])
        named = {name: value for name, value in vars(splats).items() if value is not None}
        moved = {name: value.to(device).requires_grad_() for name, value in named.items()}
        self.splats, self.camera, self.inputs = replace(splats, **moved), camera.to(device), list(moved.values())

    @staticmethod
    def once(size: Size, device: str) -> Drawing:
        """Ready, and rendered once."""
        drawing = Drawing(size, device)
        drawing.render()
        return drawing

    def render(self, *, reference: bool = False) -> Times:
        """By the backend of the device, or by the reference backend."""
        from qsplat.render import rasterize

        def color() -> torch.Tensor:
            backend = "reference" if reference else None
            return rasterize(self.splats, self.camera, config=self.config, backend=backend).color

        return forward_and_backward(color, self.inputs, self.device)


def renderings(sizes: Sequence[Size], repeats: int, device: str) -> list[dict[str, Any]]:
    """Rows of the rasterizer."""
    drawings, peaks = zip(*(peak_mib(partial(Drawing.once, size, device), device) for size in sizes), strict=True)
    found = take_turns([drawing.render for drawing in drawings], repeats, calibrate=partial(gflops, device))
    rows = []
    for drawing, peak, times in zip(drawings, peaks, found.medians, strict=True):
        (gaussians, width, height), total = drawing.size, sum(times.values())
        row = {
            "gaussians": gaussians,
            "width": width,
            "height": height,
            "overlap_per_pixel": round(drawing.overlaps / (width * height), 2),
            **times,
            "total_ms": round(total, 3),
            "ns_per_overlap": round(total * 1e6 / drawing.overlaps, 3),
            **calibration(found.sgemm_gflops, device),
            "peak_memory_mib": peak,
        }
        rows.append(row)
    return rows


def twins(size: Size, repeats: int, device: str) -> dict[str, Any]:
    """The row of a rendering beside the reference backend."""
    drawing = Drawing(size, device)
    cases = [drawing.render, partial(drawing.render, reference=True)]
    found = take_turns(cases, repeats, calibrate=partial(gflops, device))
    gaussians, width, height = size
    return {
        "gaussians": gaussians,
        "width": width,
        "height": height,
        **beside(*found.medians),
        **calibration(found.sgemm_gflops, device),
    }


def beside(times: Times, twin: Times) -> dict[str, Any]:
    """Times, those of the twin, and the ratio of the totals."""
    total, other = sum(times.values()), sum(twin.values())
    others = {f"twin_{name}": value for name, value in twin.items()}
    return {**times, "total_ms": round(total, 3), **others, "ratio": round(other / total, 1)}


def losses(sizes: Sequence[tuple[int, int]], repeats: int, device: str) -> list[dict[str, Any]]:
    """Rows of the loss."""
    import torch

    from qsplat.training.losses import photometric_loss

    cases, peaks = [], []
    for width, height in sizes:
        made_up = Comparison(width, height, False)
        photo = made_up.photo.to(device)
        image = made_up.image.detach().to(device).requires_grad_()

        def twin(image: torch.Tensor = image, photo: torch.Tensor = photo) -> torch.Tensor:
            with torch.device(device):
                return loss_by_convolutions(image, photo, None)

        functions = partial(photometric_loss, image, photo), twin
        cases += [partial(forward_and_backward, function, [image], device) for function in functions]
        peaks.append(peak_mib(cases[-2], device)[1])
    found = take_turns(cases, repeats, calibrate=partial(gflops, device))
    return [
        {
            "width": width,
            "height": height,
            **beside(ours, theirs),
            **calibration(found.sgemm_gflops, device),
            "peak_memory_mib": peak,
        }
        for (width, height), ours, theirs, peak in zip(
            sizes, found.medians[::2], found.medians[1::2], peaks, strict=True
        )
    ]


def heads(size: tuple[int, int], repeats: int, device: str) -> list[dict[str, Any]]:
    """Rows of the head with bfloat16 and with float32."""
    import torch

    from qsplat.cameras import Camera
    from qsplat.qnn import QNN, QnnConfig, image_residual, part_queries

    width, height = size
    camera = Camera(torch.eye(4), float(width), float(width), width / 2, height / 2, width, height).to(device)
    image = torch.rand(height, width, 3, generator=torch.Generator().manual_seed(0)).to(device)
    precisions: tuple[Precision, ...] = ("bf16", "fp32")
    networks = [QNN(QnnConfig(precision=one)).to(device).eval().requires_grad_(False) for one in precisions]

    def apply(network: QNN) -> Times:
        watch = Stopwatch(device)
        assert network.queries is not None
        image_residual(network, image, part_queries(network.queries, camera))
        watch.mark("forward_ms")
        return watch.times()

    cases = [partial(apply, network) for network in networks]
    peaks = [peak_mib(one, device)[1] for one in cases]
    found = take_turns(cases, repeats, calibrate=partial(gflops, device))
    return [
        {
            "precision": precision,
            "width": width,
            "height": height,
            **times,
            **calibration(found.sgemm_gflops, device),
            "peak_memory_mib": peak,
        }
        for precision, times, peak in zip(precisions, found.medians, peaks, strict=True)
    ]


def trained(sizes: Sequence[Size], repeats: int, iterations: int, device: str) -> list[dict[str, Any]]:
    """Rows of the phases of training at every size, and the parts of their steps."""
    phases = {"splatting": "splatting", "joint": "joint"}
    kinds = [Training(made_up_scene(*size), size[0], iterations, phases, device=device) for size in sizes]
    peaks = [peak_mib(kind.train, device)[1] for kind in kinds]
    found = take_turns([kind.train for kind in kinds], repeats, warm=True, calibrate=partial(gflops, device))
    return [
        {
            "phase": phase,
            "iterations_per_second": round(1e3 / times[phase], 2),
            PARTS: kind.parts(phase),
            "gaussians": gaussians,
            "width": width,
            "height": height,
            **calibration(found.sgemm_gflops, device),
            "peak_memory_mib": peak,
        }
        for kind, (gaussians, width, height), times, peak in zip(kinds, sizes, found.medians, peaks, strict=True)
        for phase in phases
    ]


if __name__ == "__main__":
    sys.exit(main())

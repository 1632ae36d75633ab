"""How fast the cpu backend is on this machine.

    python scripts/bench/rasterizer.py [--json FILE] [--threads N] [--repeats N] [--binary NAME ...]

Draws random splats (3-sigma major radius log-uniform in 2 to 10 pixels, aspect 0.3 to 1, 0.3 square pixels of blur,
opacity 0.1 to 0.9) and times the rasterizer (depth sort, binning, compositing) and, apart from it, the projection with
harmonics of degree 3. Cases and binaries take turns; numbers are medians. ``overlap_per_pixel`` is the sum of the areas
of the ellipses in which alpha reaches 1/255, divided by the pixels; ``ns_per_overlap`` divides the total time by that
sum. ``sgemm_gflops`` is a float32 matrix product measured between the repeats: compare machines by it.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qsplat.cameras import Camera
    from qsplat.gaussians import Splats

CASES = ((20_000, 400, 300), (30_000, 400, 300), (100_000, 400, 300), (20_000, 800, 600), (100_000, 800, 600))


@dataclass(frozen=True)
class Row:
    """Times of the rasterizer on one case."""

    gaussians: int
    width: int
    height: int
    overlap_per_pixel: float
    forward_ms: float
    backward_ms: float
    total_ms: float
    ns_per_overlap: float
    sgemm_gflops: float
    threads: int
    isa: str


@dataclass(frozen=True)
class ProjectionRow:
    """Times of projection and harmonics on one case."""

    gaussians: int
    forward_ms: float
    backward_ms: float
    threads: int
    isa: str


def main() -> None:
    """Measure, print and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--threads", type=int, help="threads, torch's own number by default")
    parser.add_argument("--repeats", type=int, default=15, help="repeats of every case (default 15)")
    parser.add_argument("--binary", nargs="+", help="binaries to measure, all that this processor can run by default")
    options = parser.parse_args()
    if options.repeats < 1 or (options.threads is not None and options.threads < 1):
        sys.exit(f"--repeats {options.repeats} --threads {options.threads}: both must be at least 1")

    import torch

    from qsplat.kernels import best_binary, runnable_binaries
    from qsplat.render import BackendUnavailable

    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        best_binary()
    except BackendUnavailable as problem:
        sys.exit(str(problem))
    unknown = set(options.binary or ()) - set(runnable_binaries())
    if unknown:
        sys.exit(f"--binary {' '.join(sorted(unknown))}: this processor runs {' '.join(runnable_binaries())}")
    rows, projections = measure(tuple(options.binary or runnable_binaries()), options.repeats)
    if options.json:
        unfinished = options.json.with_suffix(".unfinished")
        unfinished.write_text(
            json.dumps({"rows": [*map(asdict, rows)], "projection": [*map(asdict, projections)]}, indent=1)
        )
        unfinished.replace(options.json)
    show(rows, projections)


def random_layer(count: int, width: int, height: int) -> tuple[Splats, Camera]:
    """Flat splats that face the camera, all over the image, at random depths."""
    import torch

    from qsplat.cameras import Camera
    from qsplat.gaussians import Splats

    generator = torch.Generator().manual_seed(count)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator) * (high - low) + low

    focal = float(width)
    depth = uniform(1, 5, count)
    pixels = torch.stack([uniform(0, width, count), uniform(0, height, count)], dim=-1)
    slopes = (pixels - torch.tensor([width / 2, height / 2])) / focal
    major = torch.exp(uniform(math.log(2), math.log(10), count)) / 3 * depth / focal
    turn = uniform(0, math.pi, count) / 2
    zero = torch.zeros(count)
    splats = Splats(
        means=torch.cat([slopes, torch.ones(count, 1)], dim=-1) * depth[:, None],
        quats=torch.stack([turn.cos(), zero, zero, turn.sin()], dim=-1),
        scales=torch.stack([major, major * uniform(0.3, 1, count), 1e-4 * major], dim=-1),
        opacities=uniform(0.1, 0.9, count),
        sh=torch.randn(count, 16, 3, generator=generator) * 0.2,
    )
    return splats, Camera(torch.eye(4), focal, focal, width / 2, height / 2, width, height)


class Case:
    """One case on one binary, ready to be timed."""

    def __init__(self, size: tuple[int, int, int], binary: str) -> None:
        import torch

        from qsplat import kernels
        from qsplat.render import RasterConfig
        from qsplat.render.cpu import Call, Composite, Project

        self.size, self.binary = size, binary
        splats, camera = random_layer(*size)
        call = Call(camera, RasterConfig(depth=False), kernels.load(binary))
        fields = (splats.means, splats.quats, splats.scales, splats.opacities, splats.sh)
        inputs = [field.requires_grad_() for field in fields if field is not None]
        means2d, records, radii = (part.detach() for part in Project.apply(call, camera.cam_from_world, *inputs, None))
        flat = [means2d.requires_grad_(), records.requires_grad_()]
        self.stages = {
            "raster": (lambda: Composite.apply(call, *flat, radii), flat),
            "project": (lambda: Project.apply(call, camera.cam_from_world, *inputs, None), inputs),
        }
        conics = records[radii > 0].detach()
        level = 2 * torch.log(conics[:, 3] * 255).clamp_min(0)
        det = conics[:, 0] * conics[:, 2] - conics[:, 1] ** 2
        self.overlaps = float((math.pi * level / det.sqrt()).sum())
        self.times: dict[str, list[float]] = {"raster": [], "raster_back": [], "project": [], "project_back": []}

    def run(self) -> None:
        """Time every stage once."""
        import torch

        for name, (function, inputs) in self.stages.items():
            start = time.perf_counter()
            outputs = function()[:2]
            middle = time.perf_counter()
            torch.autograd.grad(outputs, inputs, [output.detach() for output in outputs])
            end = time.perf_counter()
            self.times[name].append((middle - start) * 1e3)
            self.times[f"{name}_back"].append((end - middle) * 1e3)

    def median(self, stage: str) -> float:
        """Median time of a stage in milliseconds, without the first two runs."""
        return round(statistics.median(self.times[stage][2:]), 3)


def sgemm_gflops() -> float:
    """Speed of a float32 matrix product on torch's threads."""
    import torch

    a = torch.ones(768, 768)
    torch.mm(a, a)
    start = time.perf_counter()
    torch.mm(a, a)
    return 2 * 768**3 / (time.perf_counter() - start) / 1e9


def measure(binaries: tuple[str, ...], repeats: int) -> tuple[list[Row], list[ProjectionRow]]:
    """Rows of every case and binary, which take turns."""
    import torch

    cases = [Case(size, binary) for size in CASES for binary in binaries]
    products = []
    for _ in range(repeats + 2):
        for case in cases:
            case.run()
        products.append(sgemm_gflops())
    threads, gflops = torch.get_num_threads(), round(statistics.median(products), 1)
    rows, projections = [], []
    for case in cases:
        (count, width, height), forward, backward = case.size, case.median("raster"), case.median("raster_back")
        total = forward + backward
        rows.append(
            Row(
                *case.size,
                overlap_per_pixel=round(case.overlaps / (width * height), 2),
                forward_ms=forward,
                backward_ms=backward,
                total_ms=round(total, 3),
                ns_per_overlap=round(total * 1e6 / case.overlaps, 3),
                sgemm_gflops=gflops,
                threads=threads,
                isa=case.binary,
            )
        )
        if (width, height) == (400, 300):
            times = case.median("project"), case.median("project_back")
            projections.append(ProjectionRow(count, *times, threads=threads, isa=case.binary))
    return rows, projections


def show(rows: list[Row], projections: list[ProjectionRow]) -> None:
    """Print both tables."""
    from rich.console import Console
    from rich.table import Table

    for title, records in (("rasterizer, RGB", rows), ("projection and harmonics of degree 3", projections)):
        table = Table(title=title)
        for name in asdict(records[0]):
            table.add_column(name.replace("_", " "), justify="right")
        for record in records:
            table.add_row(*(str(value) for value in asdict(record).values()))
        Console(width=120).print(table)


if __name__ == "__main__":
    main()

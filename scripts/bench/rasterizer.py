"""How fast the cpu backend is on this machine.

    python scripts/bench/rasterizer.py [--json FILE] [--threads N] [--repeats N] [--cases N@WxH ...] [--channels N ...]
                                       [--twin-case N@WxH] [--binary NAME ...]

Draws random splats (3-sigma major radius log-uniform in 2 to 10 pixels, aspect 0.3 to 1, 0.3 square pixels of blur,
opacity 0.1 to 0.9) and times the rasterizer (depth sort, binning, compositing) and, apart from it, the projection with
harmonics of degree 3. ``overlap_per_pixel`` is the sum of the areas of the ellipses in which alpha reaches 1/255,
divided by the pixels; ``ns_per_overlap`` divides the total time by that sum. ``sgemm_gflops`` is a float32 matrix
product measured between the repeats: compare machines by it. Freed memory stays in the process, as in training.

``work`` counts what the kernels, which do 4x4 pixels with one instruction, cannot leave out: the pairs of a splat and
a pixel in which alpha reaches 1/255, and the pairs of a splat and a block of pixels with such a pixel. Whatever is
hidden behind opaque splats is among them.

The twins are the same in torch operations: ``qsplat/render/projection.py`` beside the projection, and the reference
backend beside the whole rendering of a small case.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from layer import BLOCK, covered, overlaps, random_layer
from measuring import (
    Options,
    Times,
    case,
    count,
    forward_and_backward,
    machine,
    run,
    show,
    take_turns,
    use_threads,
    write_json,
)

if TYPE_CHECKING:
    import torch

Size = tuple[int, int, int]
"""Gaussians, width and height."""
CASES = ((20_000, 400, 300), (30_000, 400, 300), (100_000, 400, 300), (20_000, 800, 600), (100_000, 800, 600))
CHANNELS_CASE = (30_000, 400, 300)
TWIN_CASE = (1000, 128, 96)
"""What the reference backend draws in about a second."""


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
class Work:
    """What the rasterizer has to do: pairs of splats with pixels, and with blocks of pixels."""

    gaussians: int
    width: int
    height: int
    pairs: int
    blocks: int
    useful_lanes: float


@dataclass(frozen=True)
class TwinRow:
    """Times of a part and of its twin; ``ratio`` is that of the totals."""

    gaussians: int
    width: int
    height: int
    forward_ms: float
    backward_ms: float
    twin_forward_ms: float
    twin_backward_ms: float
    ratio: float
    threads: int
    isa: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the rows."""
    options = Options(__doc__)
    options.add_count("--threads", default=None, help="threads, torch's own number when not given")
    options.add_count("--repeats", default=15, help="repeats of every case")
    options.add_argument("--cases", nargs="+", type=case, default=CASES, metavar="N@WxH", help="Gaussians at a size")
    options.add_argument("--channels", nargs="+", type=count, default=(1, 3, 4, 8, 16), metavar="N", help="to compare")
    options.add_argument("--twin-case", type=case, default=TWIN_CASE, metavar="N@WxH", help="for the reference backend")
    options.add_argument("--binary", nargs="+", metavar="NAME", help="all that this processor can run when not given")
    given = options.parse_args(arguments)

    def bench() -> None:
        use_threads(given.threads)
        from qsplat.training.memory import keep_freed_memory

        keep_freed_memory()
        found = measure(given.cases, given.channels, given.twin_case, binaries(given.binary), given.repeats)
        if given.json:
            write_json(given.json, found)
        for title, table in TABLES.items():
            show(title, found[table])

    return run(bench)


TABLES = {
    "rasterizer, RGB": "rows",
    "what there is to do": "work",
    "rasterizer by channels": "channels",
    "projection and harmonics of degree 3, beside torch operations": "projection",
    "whole rendering, beside the reference backend": "twins",
}


def binaries(wanted: Sequence[str] | None) -> Sequence[str]:
    """The binaries to measure.

    Raises:
        ValueError: this processor does not run one of them.
        BackendUnavailable: it runs none at all.
    """
    from qsplat.kernels import best_binary, runnable_binaries

    best_binary()
    unknown = set(wanted or ()) - set(runnable_binaries())
    if unknown:
        raise ValueError(f"--binary {' '.join(sorted(unknown))}: this processor runs {' '.join(runnable_binaries())}")
    return wanted or runnable_binaries()


def measure(
    sizes: Sequence[Size], channels: Sequence[int], twin_case: Size, names: Sequence[str], repeats: int
) -> dict[str, Any]:
    """Every table: cases take turns within a part. To the projection the size of the image hardly matters."""
    import torch

    threads = torch.get_num_threads()
    images = [Image(size, name) for size in sizes for name in names]
    broad = [(width, Image(CHANNELS_CASE, name, channels=width)) for width in channels for name in names]
    found = take_turns([one.composite for one in images] + [one.composite for _, one in broad], repeats)
    rows = [
        asdict(one.row(times, found.sgemm_gflops, threads))
        for one, times in zip([*images, *(one for _, one in broad)], found.medians, strict=True)
    ]
    flat = [one for one in images if one.size[1:] == sizes[0][1:]]
    both = take_turns([part for one in flat for part in (one.project, one.project_in_torch)], repeats)
    pairs = zip(flat, both.medians[::2], both.medians[1::2], strict=True)
    small = Image(twin_case, names[0])
    fast, slow = take_turns([small.render, small.render_by_reference], max(1, repeats // 5)).medians
    return {
        "machine": machine(),
        "rows": rows[: len(images)],
        "work": [asdict(one.work()) for one in images if one.binary == names[0]],
        "channels": [{"channels": width, **row} for (width, _), row in zip(broad, rows[len(images) :], strict=True)],
        "projection": [asdict(one.beside(times, twin, threads)) for one, times, twin in pairs],
        "twins": [{**asdict(small.beside(fast, slow, threads)), **small.per_overlap(fast, slow)}],
    }


class Image:
    """One case on one binary, ready to be timed. ``channels`` replace the harmonics by as many plain features."""

    def __init__(self, size: Size, binary: str, *, channels: int | None = None, **layer: Any) -> None:
        import torch

        from qsplat import kernels
        from qsplat.render import RasterConfig
        from qsplat.render.cpu import Call, Project

        self.size, self.binary = size, binary
        self.splats, self.camera = random_layer(*size, **layer)
        if channels is not None:
            features = torch.rand(size[0], channels, generator=torch.Generator().manual_seed(channels))
            self.splats = replace(self.splats, sh=None, features=features)
        self.config = RasterConfig(depth=False)
        self.call = Call(self.camera, self.config, kernels.load(binary))
        s = self.splats
        self.fields = [s.means, s.quats, s.scales, s.opacities, s.sh, s.features]
        self.learnt = [field.requires_grad_() for field in self.fields if field is not None]
        means2d, records, self.radii = Project.apply(self.call, self.camera.cam_from_world, *self.fields)
        self.flat = [means2d.detach().requires_grad_(), records.detach().requires_grad_()]
        self.overlaps = overlaps(records[self.radii > 0].detach())

    def composite(self) -> Times:
        """Depth sort, binning and compositing."""
        from qsplat.render.cpu import Composite

        return forward_and_backward(lambda: Composite.apply(self.call, *self.flat, self.radii), self.flat)

    def project(self) -> Times:
        """Projection and harmonics."""
        from qsplat.render.cpu import Project

        pose = self.camera.cam_from_world
        return forward_and_backward(lambda: Project.apply(self.call, pose, *self.fields), self.learnt)

    def project_in_torch(self) -> Times:
        """The same in torch operations."""
        from qsplat.render.projection import project

        def parts() -> list[torch.Tensor]:
            flat = project(self.splats, self.camera, self.config)
            return [flat.means2d, flat.conics, flat.opacities, flat.depths, flat.channels]

        return forward_and_backward(parts, self.learnt)

    def render(self) -> Times:
        """Projection and rasterizer together."""
        from qsplat.render import cpu

        return forward_and_backward(
            lambda: cpu.rasterize(self.splats, self.camera, self.config, library=self.call.library).color, self.learnt
        )

    def render_by_reference(self) -> Times:
        """The same by the reference backend."""
        from qsplat.render import reference

        return forward_and_backward(
            lambda: reference.rasterize(self.splats, self.camera, self.config).color, self.learnt
        )

    def row(self, times: Times, sgemm_gflops: float, threads: int) -> Row:
        """What is written about the rasterizer."""
        total = times["forward_ms"] + times["backward_ms"]
        return Row(
            *self.size,
            overlap_per_pixel=round(self.overlaps / (self.size[1] * self.size[2]), 2),
            **times,
            total_ms=round(total, 3),
            ns_per_overlap=round(total * 1e6 / self.overlaps, 3),
            sgemm_gflops=sgemm_gflops,
            threads=threads,
            isa=self.binary,
        )

    def per_overlap(self, times: Times, twin: Times) -> dict[str, float]:
        """Nanoseconds per overlap of a rendering and of its twin."""
        both = {"ns_per_overlap": times, "twin_ns_per_overlap": twin}
        return {name: round(sum(some.values()) * 1e6 / self.overlaps, 3) for name, some in both.items()}

    def work(self) -> Work:
        """What is written about the work; ``useful_lanes`` is the share of the blocks' pixels that count."""
        means2d, records = (part[self.radii > 0].detach() for part in self.flat)
        pairs, blocks = covered(means2d, records, self.size[1], self.size[2])
        return Work(*self.size, pairs, blocks, round(pairs / (blocks * BLOCK**2), 3))

    def beside(self, times: Times, twin: Times, threads: int) -> TwinRow:
        """What is written about a part and its twin."""
        ratio = round(sum(twin.values()) / sum(times.values()), 1)
        twins = {f"twin_{name}": value for name, value in twin.items()}
        return TwinRow(*self.size, **times, **twins, ratio=ratio, threads=threads, isa=self.binary)


if __name__ == "__main__":
    sys.exit(main())

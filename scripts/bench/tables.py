"""The tables of docs/performance.md, made of what the benchmarks wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean, median
from typing import Any

from aims import targets, targets_of_crops, targets_of_programs
from cells import ISA, Row, Table, both_ways, by_case, number, size

FLOPS_PER_PAIR = 30 + 62
"""Of compositing a splat into a pixel in RGB, forward and backward, counted by hand."""
INSTRUCTIONS_PER_BLOCK = 26 + 44
"""Vector arithmetic of the inner loops of ``composite.c`` and ``replay.c`` in RGB, counted in the AVX-512 binary."""
FLOPS_PER_INSTRUCTION = 32
"""Of a matrix product: a multiplication and an addition in sixteen lanes."""
FLOPS_PER_VALUE = 358
"""Of the loss of one channel of a pixel: four moments and three slopes through both passes of the window, and 50."""
PROJECTION_NUMBERS = 59 + 11 + 59 + 9 + 10 + 59
"""Read and written per Gaussian, forward and backward: fields, record with mean and radius; gradients of both."""


def machine(rasterizer: Any, loss: Any) -> Table:
    """What the figures were measured on."""
    known, row = rasterizer["machine"], rasterizer["rows"][0]
    return [
        {
            "Processor": known["processor"],
            "Cores": str(known["cores"]),
            "Threads": str(row["threads"]),
            "Matrix product": f"{number(row['sgemm_gflops'])} GFLOP/s",
            "Copying": f"{number(loss['optimiser'][0]['copy_gb_per_second'])} GB/s",
            "PyTorch": known["torch"],
            "Python": known["python"],
        }
    ]


def rasterizer_rows(found: Any) -> Table:
    """RGB, all binaries beside each other."""
    return [compared(case) for case in by_case(found["rows"])]


def compared(case: Mapping[str, Row]) -> dict[str, str]:
    """A case on every binary."""
    best, *others = case.items()
    first = best[1]
    line = {"Gaussians": f"{first['gaussians']:,}", "Size": size(first)}
    line |= {"Overlap": number(first["overlap_per_pixel"])} if "channels" not in first else {}
    line |= {ISA[best[0]]: both_ways(first), "ns per overlap": number(first["ns_per_overlap"])}
    for isa, row in others:
        line |= {ISA[isa]: both_ways(row), f"{ISA[isa]} / {ISA[best[0]]}": number(row["total_ms"] / first["total_ms"])}
    return line


def channel_rows(found: Any) -> Table:
    """By channels."""
    cases = by_case(found["channels"])
    return [{"Channels": str(next(iter(case.values()))["channels"]), **compared(case)} for case in cases]


def twin_row(row: Row, name: str) -> dict[str, str]:
    """A part beside its twin."""
    twin = {"forward_ms": row["twin_forward_ms"], "backward_ms": row["twin_backward_ms"]}
    return {"Part": name, "qsplat": both_ways(row), "Twin": both_ways(twin), "Twin / qsplat": number(row["ratio"])}


def twins(rasterizer: Any, loss: Any, training: Any) -> Table:
    """Every part beside its twin in torch operations."""
    rows = [
        twin_row(row, f"projection and harmonics, {row['gaussians']:,} Gaussians, {ISA[row['isa']]}")
        for row in rasterizer["projection"]
    ]
    for row in rasterizer["twins"]:
        per_overlap = f"{number(row['ns_per_overlap'])} and {number(row['twin_ns_per_overlap'])} ns per overlap"
        name = f"rendering, {row['gaussians']:,} Gaussians, {size(row)}, float64 reference ({per_overlap})"
        rows.append(twin_row(row, name))
    rows += [
        twin_row(row, f"L1 + D-SSIM, {size(row)}{', with a mask' if row['masked'] else ''}") for row in loss["loss"]
    ]
    for row in loss["optimiser"]:
        name = f"step of the optimisers, {row['gaussians']:,} Gaussians"
        times = number(row["step_ms"]), number(row["twin_step_ms"]), number(row["ratio"])
        rows.append(dict(zip(rows[0], (name, *times), strict=True)))
    for row in training:
        if row["ratio"] is not None:
            name = f"step of training, {row['gaussians']:,} Gaussians, {size(row)}, float64 reference"
            rates = row["iterations_per_second"], row["twin_iterations_per_second"]
            times = (*(number(1e3 / rate) for rate in rates), number(row["ratio"]))
            rows.append(dict(zip(rows[0], (name, *times), strict=True)))
    return rows


def rasterizer_floors(found: Any) -> Table:
    """Milliseconds that the rasterizer's work takes at the speed of the matrix product, counted in three ways."""
    lines = []
    rows = [row for row in found["rows"] if row["isa"] == found["rows"][0]["isa"]]
    for row, work in zip(rows, found["work"], strict=True):
        rate, measured = row["sgemm_gflops"] * 1e6, row["total_ms"]
        floors = {
            "Pairs": work["pairs"] * FLOPS_PER_PAIR / rate,
            "All lanes": 16 * work["blocks"] * FLOPS_PER_PAIR / rate,
            "Instructions": work["blocks"] * INSTRUCTIONS_PER_BLOCK * FLOPS_PER_INSTRUCTION / rate,
        }
        line = {"Gaussians": f"{row['gaussians']:,}", "Size": size(row), "Million pairs": number(work["pairs"] / 1e6)}
        line |= {"Useful lanes": f"{100 * work['useful_lanes']:.0f} %"}
        line |= {f"{name}, ms": number(floor) for name, floor in floors.items()}
        line |= {"Measured, ms": number(measured)}
        line |= {f"/ {name.lower()}": number(measured / floor) for name, floor in floors.items()}
        lines.append(line)
    return lines


def floors(rasterizer: Any, loss: Any) -> Table:
    """What the arithmetic, or the traffic with memory, of the other parts takes at least."""
    lines = []

    def line(part: str, counted: str, floor: float, measured: float) -> None:
        times = {"Floor, ms": floor, "Measured, ms": measured, "Measured / floor": measured / floor}
        lines.append({"Part": part, "Counted": counted, **{name: number(value) for name, value in times.items()}})

    step = loss["optimiser"][0]
    for row in rasterizer["projection"]:
        if row["isa"] == rasterizer["rows"][0]["isa"]:
            megabytes = 4e-6 * PROJECTION_NUMBERS * row["gaussians"]
            floor, measured = megabytes / step["copy_gb_per_second"], row["forward_ms"] + row["backward_ms"]
            name = f"projection and harmonics, {row['gaussians']:,} Gaussians"
            line(name, f"{number(megabytes)} MB to and from memory", floor, measured)
    for row in loss["loss"]:
        if not row["masked"]:
            flops = FLOPS_PER_VALUE * 3 * row["width"] * row["height"]
            floor = flops / row["sgemm_gflops"] / 1e6
            line(f"L1 + D-SSIM, {size(row)}", f"{number(flops / 1e6)} million operations", floor, row["total_ms"])
    megabytes = step["copy_ms"] * step["copy_gb_per_second"]
    name = f"step of the optimisers, {step['gaussians']:,} Gaussians"
    line(name, f"{number(megabytes)} MB to and from memory", step["copy_ms"], step["step_ms"])
    return lines


def fit(found: Any) -> Table:
    """The rasterizer's time as what overlaps and pixels cost (least squares of the ratios)."""
    import numpy

    lines = []
    for isa in dict.fromkeys(row["isa"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["isa"] == isa]
        pixels = numpy.array([row["width"] * row["height"] for row in rows])
        counts = numpy.stack([pixels * [row["overlap_per_pixel"] for row in rows], pixels], axis=1)
        line = {"Binary": ISA[isa]}
        for way in ("forward", "backward"):
            times = 1e6 * numpy.array([row[f"{way}_ms"] for row in rows])
            costs = numpy.linalg.lstsq(counts / times[:, None], numpy.ones(len(rows)), rcond=None)[0]
            line |= {f"{way}, ns per overlap": number(costs[0]), f"{way}, ns per pixel": number(costs[1])}
        lines.append(line)
    return lines


def startup_rows(found: Any) -> Table:
    """How long programs take to begin."""
    stages = {"torch_ms": "torch", "modules_ms": "Modules", "scene_ms": "Photos", "iteration_ms": "First iteration"}
    return [
        {
            "Start": row["start"],
            "Milliseconds": number(row["total_ms"]),
            **{label: number(row[stage]) for stage, label in stages.items()},
        }
        for row in found["rows"]
    ]


def crops(found: Any) -> Table:
    """Means over the seeds of what crops cost and save."""
    lines = []
    for scene in dict.fromkeys(row["scene"] for row in found):
        rows = [row for row in found if row["scene"] == scene]
        psnr, ratio = {}, {}
        for variant in dict.fromkeys(row["variant"] for row in rows):
            some = [row for row in rows if row["variant"] == variant]
            psnr[variant] = [row["psnr"] for row in some]
            ratio[variant] = median(row["joint_ms"] / row["splatting_ms"] for row in some)
        line = {"Scene": scene}
        line |= {f"PSNR, {variant}": f"{mean(values):.3f}" for variant, values in psnr.items()}
        for variant in (name for name in psnr if name != "no head"):
            gains = [one - none for one, none in zip(psnr[variant], psnr["no head"], strict=True)]
            line[f"{variant}, gain of each seed"] = " ".join(f"{gain:+.3f}" for gain in gains)
        line |= {f"time, {variant}": number(value) for variant, value in ratio.items()}
        lines.append(line)
    return lines


def convolution_rows(found: Any) -> Table:
    """Times and memory of layers and heads, a column for each size."""
    rows, lines = found["rows"], []
    for kind, name in dict.fromkeys((row["kind"], row["name"]) for row in rows):
        some = [row for row in rows if (row["kind"], row["name"]) == (kind, name)]
        line = {"What": f"{kind}: {name}", "Parameters": f"{some[0]['parameters']:,}"}
        for row in some:
            shown = row["backward_ms"] is None
            times = number(row["forward_ms"]) if shown else both_ways(row)
            way = "forward" if shown else "forward + backward"
            line[f"{size(row)}, {way}, ms"] = f"{times} ({number(row['times'])}x)"
            line[f"{size(row)}, MB"] = number(row["megabytes"])
        lines.append(line)
    return lines


def precision_rows(found: Any) -> Table:
    """Times of bfloat16 and of float32, and which of them the library takes, with the processor."""
    machine = found["machine"]
    has = [label for name, label in {"avx512_bf16": "AVX-512", "amx": "AMX"}.items() if machine[name]]
    processor = f"{machine['processor']} ({' and '.join(has) or 'neither AVX-512 nor AMX'} for bfloat16)"
    return [
        {
            "What": row["what"],
            "Processor": processor,
            "bfloat16, ms": number(row["bf16_ms"]),
            "float32, ms": number(row["fp32_ms"]),
            "bfloat16 / float32": number(row["times"]),
            "Taken": {"bf16": "bfloat16", "fp32": "float32"}[row["auto"]],
        }
        for row in found["rows"]
    ]


def ns_train_rows(found: Any) -> Table:
    """The rate of ``fit()`` and of ``ns-train``."""
    return [
        {
            "Command": row["command"],
            "Gaussians": f"{row['gaussians']:,}",
            "Iterations per second": number(row["iterations_per_second"]),
            "Milliseconds": number(row["ms"]),
            "Ratio": number(row["ratio_to_fit"]),
        }
        for row in found["rows"]
    ]


def training_rows(found: Any) -> Table:
    """The rate of each phase."""
    return [
        {
            "Phase": row["phase"],
            "Gaussians": f"{row['gaussians']:,}",
            "Size": size(row),
            "Overlap": number(row["overlap_per_pixel"]),
            "Iterations per second": number(row["iterations_per_second"]),
            "Milliseconds": number(1e3 / row["iterations_per_second"]),
        }
        for row in found
    ]


def breakdown(found: Any) -> Table:
    """The parts of a step of each phase."""
    longest = sorted(found, key=lambda row: -len(row["breakdown_ms"]))
    parts = dict.fromkeys(part for row in longest for part in row["breakdown_ms"])
    lines = [{"Part": part, **{row["phase"]: number(row["breakdown_ms"].get(part)) for row in found}} for part in parts]
    total = {row["phase"]: number(sum(row["breakdown_ms"].values())) for row in found}
    return [*lines, {"Part": "all of it", **total}]


def growth(found: Any) -> Table:
    """The exponents of each sweep."""
    labels = {
        "projection_ms": "Projection",
        "rasterizer_ms": "Rasterizer",
        "step_ms": "Step of training",
        "memory_mb": "Memory beyond imports",
    }
    sweeps: dict[str, dict[str, str]] = {}
    for row in found["growth"]:
        empty = {"Sweep": row["sweep"], "Work": row["work"].replace("_", " "), **dict.fromkeys(labels.values(), "")}
        line = sweeps.setdefault(row["sweep"], empty)
        line[labels[row["quantity"]]] = f"{row['exponent']:.2f} ({row['last_exponent']:.2f})"
    return list(sweeps.values())


def scaling_rows(found: Any) -> Table:
    """Every case of every sweep."""
    return [
        {
            "Sweep": row["sweep"],
            "Gaussians": f"{row['gaussians']:,}",
            "Size": size(row),
            "Overlap": number(row["overlap_per_pixel"]),
            "Channels": str(row["channels"]),
            "Threads": str(row["threads"]),
            "Rasterizer, ms": both_ways(row),
            "Projection, ms": number(row["projection_ms"]),
            "Step, ms": number(row["step_ms"]),
            "Peak, MB": number(row["peak_mb"]),
        }
        for row in found["rows"]
    ]


def largest(found: Any) -> Table:
    """The training of the most Gaussians."""
    return [
        {
            "Phase": row["phase"],
            "Gaussians before": f"{row['gaussians_before']:,}",
            "After": f"{row['gaussians']:,}",
            "Size": size(row),
            "Step, ms": number(row["step_ms"]),
            "Step with densification, ms": number(row["densifying_step_ms"]),
            "Peak, MB": number(row["peak_mb"]),
            "Of which imports, MB": number(row["imported_mb"]),
        }
        for row in found["training"]
    ]


TABLES: Mapping[str, tuple[Sequence[str], Callable[..., Table]]] = {
    "machine": (("rasterizer", "loss"), machine),
    "targets": (("rasterizer", "loss", "training", "scaling"), targets),
    "targets-programs": (("startup", "ns_train"), targets_of_programs),
    "targets-crops": (("head_crops",), targets_of_crops),
    "rasterizer": (("rasterizer",), rasterizer_rows),
    "channels": (("rasterizer",), channel_rows),
    "twins": (("rasterizer", "loss", "training"), twins),
    "rasterizer-floors": (("rasterizer",), rasterizer_floors),
    "floors": (("rasterizer", "loss"), floors),
    "fit": (("rasterizer",), fit),
    "training": (("training",), training_rows),
    "breakdown": (("training",), breakdown),
    "growth": (("scaling",), growth),
    "scaling": (("scaling",), scaling_rows),
    "largest": (("scaling",), largest),
    "startup": (("startup",), startup_rows),
    "convolutions": (("convolutions",), convolution_rows),
    "precision": (("precision",), precision_rows),
    "crops": (("head_crops",), crops),
    "ns-train": (("ns_train",), ns_train_rows),
}

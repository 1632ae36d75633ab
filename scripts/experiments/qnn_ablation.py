"""Does the queried-convolution head earn its place? Paired trainings with and without it, over seeds.

    python scripts/experiments/qnn_ablation.py DIR [DIR ...] [--variants NAME,...] [--seeds N] [--hold-out WAY]
                                               [--max-side N] [--gaussians N] [--iterations N] [--head-iterations N]
                                               [--film N] [--workers N] [--cache DIR] [--json FILE] [--markdown FILE]
    python scripts/experiments/qnn_ablation.py --quick
    python scripts/experiments/qnn_ablation.py --list

Trains every scene (a folder with photos and transforms.json, or transforms_train.json) without a head, goes on from the
same states and with the same order of photos with one head after the other, and compares each run with plain splatting:
scores on training and held-out views, error by octave of frequency, views that gained, processor time (the trainings
use one thread each). Plain splatting is also given the time of the head, as iterations and as Gaussians.

Finished runs stay in the cache: the same command takes up where it was interrupted, and more variants, seeds or scenes
are added to what is there. A run that fails becomes a line with its reason, and is tried again by the next command.
FILEs are written anew after every run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))  # for what experiments share with benchmarks

from ablation_cache import Cache, code_digest
from ablation_film import FEWEST
from ablation_pairs import comparisons, over_scenes
from ablation_plan import Cell, Run, State, jobs_of, runs_of
from ablation_progress import Progress
from ablation_tables import page
from ablation_variants import REFERENCE, Headed, Variant, chosen, listing
from captures import read_capture
from holdouts import EVERY, HoldOut
from workers import work_off

from scripts.bench.measuring import Options, file_to_write, machine, run, write_json

ROOT = Path(__file__).resolve().parents[2]
ROWS = (
    *("ablation_features", "ablation_film", "ablation_learning", "ablation_pairs", "ablation_plan", "ablation_plus"),
    *("ablation_scores", "ablation_time", "captures", "holdouts"),
)
"""The scripts that decide what a row says, besides the variant, which its key holds."""
QUICK = {"max_side": 64, "gaussians": 300, "iterations": 40, "head_iterations": 10, "seeds": 1, "hold_out": "every8"}
QUICK_VARIANTS = "joint,detached,posthoc,alone-time"
WAYS: Mapping[str, tuple[HoldOut, ...]] = {"every8": ("every8",), "block": ("block",), "both": ("every8", "block")}
Do = Callable[[State | Run], object]


def main(arguments: Sequence[str] | None = None, *, do: Callable[[Cache, str], Do] | None = None) -> int:
    """Train, compare, print and write. ``do`` makes what does the jobs; ``ablation_learning.Laboratory`` when None."""
    given = options().parse_args(arguments)
    if given.list:
        print(listing())
        return 0
    try:
        return run(partial(measure, given, do))
    except KeyboardInterrupt:
        print("qnn_ablation: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def options() -> Options:
    """The command line."""
    options = Options(__doc__)
    options.add_argument("scenes", nargs="*", type=Path, metavar="DIR")
    options.add_argument(
        "--variants",
        default="core",
        metavar="NAME,...",
        help="variants, or groups of them, to compare with plain splatting (default core)",
    )
    options.add_argument("--list", action="store_true", help="say what the variants are, and end")
    options.add_argument("--hold-out", choices=list(WAYS), default="both", help="views held out (default both)")
    options.add_count("--seeds", default=3, help="trainings of each variant, scene and hold-out")
    options.add_count("--max-side", default=252, help="longer side of the photos in pixels")
    options.add_count("--gaussians", default=30_000, help="most Gaussians")
    options.add_count("--iterations", default=30_000, help="of plain splatting")
    options.add_count(
        "--head-iterations",
        default=None,
        help="in which a head learns: the last ones of a joint training, further ones after a finished base, for which "
        "'alone-on' goes on; a quarter of --iterations when not given; the networks of qsplat-plus learn for the steps "
        "of PlusConfig",
    )
    options.add_count(
        "--film",
        default=None,
        help="frames in which each model is filmed past the cameras, to say how it flickers; another number, or none, "
        "is another run, which shares the trainings without a head",
    )
    options.add_count("--workers", default=1, help="processes that train at the same time, with one thread each")
    options.add_argument(
        "--cache",
        type=Path,
        default=ROOT / "outputs" / "experiments",
        metavar="DIR",
        help="folder of finished runs (default outputs/experiments)",
    )
    options.add_argument("--markdown", type=file_to_write, metavar="FILE", help="write the tables to this file")
    options.add_argument(
        "--quick", action="store_true", help="a tiny run of a few variants, on the bundled scene if none is given"
    )
    return options


def measure(given: argparse.Namespace, make: Callable[[Cache, str], Do] | None) -> None:
    """Do what is not in the cache, and tell what was found."""
    if make is None:
        from ablation_learning import Laboratory as make
    if given.quick:
        vars(given).update(QUICK, variants=QUICK_VARIANTS, scenes=given.scenes or [ROOT / "scenes" / "stilllife"])
    variants = chosen(given.variants.split(","))
    runs = [planned for cell in cells_of(given, variants) for planned in runs_of(cell, variants)]
    if given.cache.exists() and not given.cache.is_dir():
        raise ValueError(f"--cache {given.cache} is a file: give a folder")
    cache, failures = Cache(given.cache), dict[str, str]()
    jobs = jobs_of(runs, cache)
    progress = Progress(len({one.key for one in runs}), jobs, given.workers)
    print(progress.beginning(), flush=True)
    code = code_digest(ROWS, Path(__file__).parent)
    for finished in work_off(jobs, make(cache, code), given.workers):
        if finished.failure is not None:
            failures[finished.job.key] = finished.failure
        print(progress.after(finished, cache), flush=True)
        if isinstance(finished.job, Run):
            write(given, rows_of(runs, cache, failures))
    rows = rows_of(runs, cache, failures)
    write(given, rows)
    print(page(rows), end="")
    if any("failed" in row for row in rows):
        failed = sum("failed" in row for row in rows)
        raise ValueError(f"{failed} of {len(rows)} runs failed, the reasons stand above; the others are written")


def cells_of(given: argparse.Namespace, variants: Sequence[Variant]) -> list[Cell]:
    """What the command line asks for: all scenes with the first seed, then with the next one.

    Raises:
        ValueError: it does not make sense, or a folder is no capture.
    """
    if not given.scenes:
        raise ValueError("no scenes: give folders with photos and their poses, or --quick")
    learning = given.head_iterations or max(1, given.iterations // 4)
    jointly = [one.name for one in variants if isinstance(one, Headed) and one.mode != "frozen" and one.start is None]
    if learning > given.iterations and jointly:
        raise ValueError(f"--head-iterations {learning} are more than --iterations {given.iterations}: give fewer")
    if given.film is not None and given.film < FEWEST:
        raise ValueError(f"--film {given.film}: give at least {FEWEST} frames")
    captures = [read_capture(folder, max_side=given.max_side, holdout_every=EVERY) for folder in given.scenes]
    names = [one.name for one in captures]
    if len(set(names)) < len(names):
        raise ValueError(f"scenes named {', '.join(names)}: give folders of different names")
    return [
        Cell(one, way, seed, given.iterations, learning, given.gaussians, film=given.film or 0)
        for seed in range(given.seeds)
        for one in captures
        for way in WAYS[given.hold_out]
    ]


def rows_of(runs: Sequence[Run], cache: Cache, failures: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row for each run that is over."""
    rows = []
    for one in runs:
        named = {
            "scene": one.cell.capture.name,
            "hold_out": one.cell.hold_out,
            "seed": one.cell.seed,
            "variant": one.variant.name,
        }
        if cache.has(one.key):
            rows.append({**named, **cache.read(one.key)})
        elif one.key in failures:
            rows.append({**named, "failed": failures[one.key]})
    return rows


def write(given: argparse.Namespace, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the files that were asked for, from the rows there are."""
    if given.json is not None and rows:
        found = comparisons(rows)
        settings = {name: getattr(given, name) for name in ("iterations", "head_iterations", "gaussians", "max_side")}
        content = {
            "settings": settings,
            "machine": machine(),
            "reference": REFERENCE,
            "rows": rows,
            "summary": [asdict(one) for one in found],
            "over_scenes": over_scenes(found),
        }
        write_json(given.json, content)
    if given.markdown is not None and rows:
        from qsplat.io.atomic import written_whole

        with written_whole(given.markdown) as temporary:
            temporary.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

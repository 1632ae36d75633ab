"""Train several methods on the same scenes for the same budget, and show side by side what came of it.

    python scripts/compare.py --scene DIR [DIR ...] [--methods NAME,...] [--seeds N] [--budget 300s|5000]
                              [--max-side N] [--gaussians N] [--output DIR] [--workers N] [--ray ADDRESS]
                              [--again] [--page FILE.md]

Every run is measured by the same code on the same held-out views (every 8th, or those that the capture lists). The
budget is processor time of the training alone, or iterations. Trainings have one thread each, so that processor time
is wall-clock time on an idle machine, and nearly the same on a busy one; reading photos, measuring and saving are not
counted. A run of a given time is planned anew every twentieth of it, so that its schedules end when the time does.

Writes comparison.json, comparison.md (mean and spread over seeds) and comparison.html (one page that asks nothing of
the net) into the output folder, anew after every run: they hold what the command names, and nothing else. Finished runs
are kept in the folder's runs/: the same command takes up where it was interrupted, and one that names more methods,
seeds or scenes trains only what is missing. With --again nothing is trained: the files are written from the seeds of
each scene that all methods have finished, even while another command is at work on the others. --page FILE.md writes
the tables between the lines "<!-- results -->" and "<!-- end -->" of a page, and its rows without curves and views into
FILE.json beside it. A run that fails becomes a row with its reason, is tried again by the next command, and the exit
status is 1.

With --ray the runs are spread over a Ray cluster (pip install -e ".[scale]"); its machines need the same packages, and
this folder and the scenes under the same paths.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for what is shared with benchmarks and experiments

from comparison.methods import METHODS, chosen
from comparison.plan import Budget, Run, budget_of, captures_of, runs_of
from comparison.progress import Progress, counted
from comparison.training import Keeper, Trainer

from qsplat.io.atomic import written_whole
from scripts.bench.measuring import CommandLine, count, file_to_write, machine, run, usable_folder, write_json
from scripts.experiments.ablation_cache import Cache
from scripts.experiments.workers import Finished, work_off

ROOT = Path(__file__).resolve().parents[1]
Train = Callable[[Run], dict[str, Any]]


def main(arguments: Sequence[str] | None = None, *, train: Train | None = None) -> int:
    """Train, measure, print and write. ``train`` makes the row of a run; ``comparison.training.Trainer`` when None."""
    given = options().parse_args(arguments)
    told = sys.argv[1:] if arguments is None else arguments
    command = shlex.join(["python", "scripts/compare.py", *told])
    try:
        return run(partial(compare, given, command, train))
    except KeyboardInterrupt:
        print("compare: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def options() -> CommandLine:
    """The command line."""
    options = CommandLine(__doc__)
    options.add_argument("--scene", nargs="+", type=Path, required=True, metavar="DIR", help="folders of captures")
    options.add_argument(
        "--methods",
        type=_refusing(lambda text: chosen([name for name in text.split(",") if name])),
        default=list(METHODS.values()),
        metavar="NAME,...",
        help=f"what to compare (default all: {','.join(METHODS)})",
    )
    options.add_count("--seeds", default=3, help="trainings of each method on each scene")
    options.add_argument(
        "--budget",
        type=_refusing(budget_of),
        default=Budget(300, "seconds"),
        metavar="300s|5000",
        help="of each training: seconds of processor time, or iterations (default 300s)",
    )
    options.add_count("--max-side", default=400, help="longer side of the photos in pixels")
    options.add_count("--gaussians", default=30_000, help="most Gaussians, in each set where there are several")
    options.add_argument(
        "--output",
        type=Path,
        default=ROOT / "outputs" / "comparison",
        metavar="DIR",
        help="folder to write (default outputs/comparison)",
    )
    options.add_argument(
        "--workers",
        type=count,
        metavar="N",
        help="runs at the same time, with one thread each (default 1; with --ray as many as the cluster has room for)",
    )
    options.add_argument(
        "--ray", metavar="ADDRESS", help="Ray cluster to spread the runs over; 'local' starts one on this machine"
    )
    options.add_argument(
        "--page", type=file_to_write, metavar="FILE.md", help="page to write the tables into at the end"
    )
    options.add_argument("--again", action="store_true", help="train nothing: write what is finished")
    return options


def compare(given: argparse.Namespace, command: str, train: Train | None) -> None:
    """Do what is not in the cache, and tell what was found."""
    if given.page:
        filled_page(given.page, [])
    captures = captures_of(given.scene, max_side=given.max_side)
    runs = runs_of(captures, given.methods, seeds=given.seeds, budget=given.budget, gaussians=given.gaussians)
    usable_folder(given.output)
    cache, failures = Cache(given.output), dict[str, str]()
    to_do = [planned for planned in runs if not cache.has(planned.key)]
    if given.again:
        runs, to_do = finished_by_all(runs, to_do), []
        if not runs:
            raise ValueError(f"--again: {given.output} has no seed of a scene that all methods finished: train them")
    progress = Progress(runs, to_do, given.workers or 1)
    print(progress.beginning(), flush=True)
    for finished in doing(given, to_do, cache, train or Trainer()) if to_do else ():
        if finished.failure is not None:
            failures[finished.job.key] = finished.failure
        print(progress.after(finished, cache), flush=True)
        write(given, command, rows_of(runs, cache, failures))
    rows = rows_of(runs, cache, failures)
    print(write(given, command, rows))
    print(f"Written: {given.output / 'comparison.html'}, .md and .json")
    if given.page:
        write_page(given, rows)
    if failures:
        raise ValueError(
            f"{len(failures)} of {counted(len(rows), 'run')} failed, the reasons stand above; the others are written"
        )


def finished_by_all(runs: Sequence[Run], missing: Sequence[Run]) -> list[Run]:
    """The runs without the seeds of a scene that some method has not finished: means are over the same seeds."""
    incomplete = {(run.capture, run.seed) for run in missing}
    return [run for run in runs if (run.capture, run.seed) not in incomplete]


def doing(given: argparse.Namespace, runs: Sequence[Run], cache: Cache, train: Train) -> Iterator[Finished[Run]]:
    """Do ``runs``, here or on a cluster, and say of each that it is over, once it is in the cache."""
    if given.ray is None:
        yield from work_off(runs, Keeper(cache, train), given.workers or 1)
        return
    from comparison.cluster import spread

    for finished, row in spread(runs, train, given.ray, at_once=given.workers):
        if row is not None:
            cache.write(finished.job.key, row)
        yield finished


def rows_of(runs: Sequence[Run], cache: Cache, failures: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row for each run that is over, with its pictures."""
    rows = []
    for planned in runs:
        if cache.has(planned.key):
            rows.append({**planned.named, **cache.read(planned.key)})
        elif planned.key in failures:
            rows.append({**planned.named, "failed": failures[planned.key]})
    return rows


def write(given: argparse.Namespace, command: str, rows: Sequence[dict[str, Any]]) -> str:
    """Write the three files from the rows there are; the tables are returned."""
    from comparison.page import page
    from comparison.tables import summary, tables

    content = {
        "settings": {"command": command, **settings_of(given)},
        "machine": machine(),
        "summary": summary(rows),
        "rows": [{name: value for name, value in row.items() if name != "pictures"} for row in rows],
    }
    write_json(given.output / "comparison.json", content)
    text = tables(content)
    for name, written in {"comparison.md": text, "comparison.html": page(content, rows)}.items():
        with written_whole(given.output / name) as temporary:
            temporary.write_text(written, encoding="utf-8")
    return text


def settings_of(given: argparse.Namespace) -> dict[str, Any]:
    """What all runs have in common."""
    return {
        "budget": str(given.budget),
        "unit": given.budget.unit,
        "max_side": given.max_side,
        "gaussians": given.gaussians,
        "seeds": given.seeds,
    }


def write_page(given: argparse.Namespace, rows: Sequence[dict[str, Any]]) -> None:
    """Write the tables into the page, and the rows that they come from beside it."""
    from comparison.tables import data

    written = {
        given.page.with_suffix(".json"): data({"settings": settings_of(given), "machine": machine()}, rows),
        given.page: filled_page(given.page, rows),
    }
    for path, text in written.items():
        with written_whole(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def filled_page(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    """The text of a page with the tables of ``rows``.

    Raises:
        ValueError: it is no page of Markdown, or has no place for them.
    """
    from comparison.tables import filled, summary

    if path.suffix != ".md" or not path.is_file():
        why = "is no Markdown" if path.suffix != ".md" else "does not exist"
        raise ValueError(f"--page {path} {why}: give a page FILE.md that has a place for the tables")
    try:
        return filled(path.read_text(encoding="utf-8"), summary(rows))
    except ValueError as error:
        raise ValueError(f"--page {path}: {error}") from None


def _refusing(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """``parse`` for an option, whose refusal becomes that of the command line."""

    def parsed(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


if __name__ == "__main__":
    sys.exit(main())

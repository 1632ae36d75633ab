"""Try the claims of the sources: run experiments, write figures, say what held.

    python scripts/experiments/run.py NAME [NAME ...] [--seeds N] [--quick] [--output DIR]
    python scripts/experiments/run.py --all [--seeds N] [--quick] [--output DIR]
    python scripts/experiments/run.py NAME [NAME ...] --again [--output DIR]
    python scripts/experiments/run.py --list
    python scripts/experiments/run.py --page FILE.md [--output DIR]

An experiment is a module in scripts/experiments/claims whose docstring says claim, setting, source and expectation.
Each writes NAME.json and NAME.png into DIR and prints whether its claims held, by how much and over how many seeds.
Photos and scenes are read from the folder that the environment variable QSPLAT_DATA names; claims that need them are
open without it. One that fails does not stop the others, and makes the exit status 1. --again judges and draws the
figures in DIR without measuring. --page writes a table of what lies there.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))  # for what experiments share with benchmarks

from claims.listing import Described, described, page, read_result
from claims.record import Setting, Verdict

from qsplat.io.atomic import written_whole
from scripts.bench.measuring import count, file_to_write, machine, run, usable_folder

ROOT = Path(__file__).resolve().parents[2]
DATA = "QSPLAT_DATA"
LIST = re.compile(r'\[\n[^][{}"]*\]')
"""Numbers on a line each, which are written on one together. No text has line breaks in JSON."""
HELD = {True: "held", False: "did not hold", None: "open"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print and write what the command line asks for."""
    known = described()
    parser = options()
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.names if name not in known]:
        nearest = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0)[0]
        parser.error(f"there is no experiment {unknown[0]!r}: the nearest name is {nearest}, --list shows all")
    if not (given.names or given.all or given.list or given.page):
        parser.error("nothing to do: give names of experiments, --all or --list")
    if given.names and (given.all or given.list):
        parser.error(f"{'--list shows' if given.list else '--all runs'} every experiment: leave out {given.names[0]}")
    if given.output.exists() and not given.output.is_dir():
        parser.error(f"--output {given.output} is a file: give a folder")
    if given.list:
        print(listing(known))
        return 0
    try:
        return run(partial(measure_and_write, given, known))
    except KeyboardInterrupt:
        print("run: interrupted; what was finished is written", file=sys.stderr)
        return 130


class Options(argparse.ArgumentParser):
    """A command line whose refusals are one sentence."""

    def error(self, message: str) -> Any:
        """End with ``message`` and status 2."""
        self.exit(2, f"run: {message}\n")


def options() -> Options:
    """The command line."""
    options = Options(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", metavar="NAME", help="experiments to run")
    options.add_argument("--all", action="store_true", help="run all of them")
    options.add_argument("--list", action="store_true", help="say what there is, and end")
    options.add_argument("--seeds", type=count, metavar="N", help="repetitions; 5, or 1 with --quick, when not given")
    options.add_argument("--again", action="store_true", help="judge and draw what was measured before")
    options.add_argument("--quick", action="store_true", help="seconds each, to see that they run")
    options.add_argument(
        "--output",
        type=Path,
        default=ROOT / "outputs" / "claims",
        metavar="DIR",
        help="folder for figures (default outputs/claims)",
    )
    options.add_argument("--page", type=file_to_write, metavar="FILE", help="write a table of all results in DIR")
    return options


def listing(known: dict[str, Described]) -> str:
    """Every name with its title and claim."""
    return "\n\n".join(f"{name}: {one.title}\n  Claim: {one.claim}" for name, one in known.items())


def measure_and_write(given: argparse.Namespace, known: dict[str, Described]) -> None:
    """Run one experiment after the other, and write the page.

    Raises:
        ValueError: some failed.
    """
    names = list(known) if given.all else list(dict.fromkeys(given.names))
    setting = Setting(given.seeds or (1 if given.quick else 5), given.quick, data_folder())
    failures = []
    if names:
        usable_folder(given.output)
    for name in names:
        print(f"{name}: {known[name].title}", flush=True)
        try:
            result = judged_again(given.output, name) if given.again else result_of(name, setting)
            write(given.output, name, result)
        except Exception as error:
            failures.append(name)
            said = " ".join(str(error).split())
            print(f"  failed ({type(error).__name__}): {said}", file=sys.stderr, flush=True)
            continue
        print(report(result), flush=True)
    if given.page:
        with written_whole(given.page) as temporary:
            temporary.write_text(page(given.output, known), encoding="utf-8")
    if failures:
        raise ValueError(f"{len(failures)} of {len(names)} experiments failed: {', '.join(failures)}")


def data_folder() -> Path | None:
    """The folder that QSPLAT_DATA names.

    Raises:
        ValueError: it is no folder.
    """
    named = os.environ.get(DATA)
    if named and not Path(named).is_dir():
        raise ValueError(f"{DATA}={named} is no folder: give the one with images and scenes, or unset it")
    return Path(named) if named else None


def result_of(name: str, setting: Setting) -> dict[str, Any]:
    """Everything that the JSON file of an experiment holds."""
    module = importlib.import_module(f"claims.{name}")
    began = time.process_time()
    figures = module.measure(setting)
    verdicts: list[Verdict] = module.judge(figures)
    return {
        "name": name,
        "seeds": setting.seeds,
        "quick": setting.quick,
        "machine": machine(),
        "minutes": round((time.process_time() - began) / 60, 2),
        "figures": figures,
        "verdicts": [asdict(verdict) for verdict in verdicts],
    }


def judged_again(folder: Path, name: str) -> dict[str, Any]:
    """What the JSON file of an experiment holds, with the verdicts that its figures have now."""
    result = read_result(folder / f"{name}.json")
    verdicts: list[Verdict] = importlib.import_module(f"claims.{name}").judge(result["figures"])
    return {**result, "verdicts": [asdict(verdict) for verdict in verdicts]}


def write(folder: Path, name: str, result: dict[str, Any]) -> None:
    """NAME.png and NAME.json; the picture first, so that figures always have one."""
    draw: Callable[[dict[str, Any], Path], None] = importlib.import_module(f"claims.{name}").draw
    with written_whole(folder / f"{name}.png") as temporary:
        picture = temporary.with_suffix(".png")
        try:
            draw(result["figures"], picture)
            os.replace(picture, temporary)
        finally:
            picture.unlink(missing_ok=True)
    with written_whole(folder / f"{name}.json") as temporary:
        text = json.dumps(result, indent=1, allow_nan=False)
        temporary.write_text(LIST.sub(lambda found: " ".join(found[0].split()), text) + "\n", encoding="utf-8")


def report(result: dict[str, Any]) -> str:
    """What was found, a line for each claim."""
    note = ", a quick run that says nothing about the claim" if result["quick"] else ""
    seeds = f"{result['seeds']} seed{'s' * (result['seeds'] > 1)}"
    over = f"over {seeds}, {result['minutes']:.1f} minutes of processor time{note}"
    lines = [f"  {HELD[one['held']]}: {one['claim']} [{one['by']}]" for one in result["verdicts"]]
    return "\n".join([*lines, f"  {over}"])


if __name__ == "__main__":
    sys.exit(main())

"""The ablation of the head with a made-up trainer: plans, cache and processes.

This module does not import torch, so that the processes that import the made-up trainer from it start quickly.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from experiment_rows import module, row
from test_startup import ASK_FOR_HELP

pytestmark = pytest.mark.usefixtures("experiments")

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "scripts" / "experiments"
STILLLIFE = ROOT / "scenes" / "stilllife"
TINY = "--seeds 2 --hold-out every8 --iterations 40 --head-iterations 10 --max-side 64 --gaussians 100"


# The made-up trainer: it must be importable by other processes, as the real one is.


@dataclass(frozen=True)
class MadeUp:
    """Writes rows whose PSNR follows from the names of the runs, and notes every job in a file of ``notes``."""

    cache: Any
    code: str
    notes: Path
    failing: str = "none"

    def __call__(self, job):
        name = job.variant.name if hasattr(job, "variant") else f"state {job.step}"
        with (self.notes / "notes").open("a") as file:
            file.write(f"{job.cell.hold_out} {job.cell.seed} {name}\n")
        if name == self.failing:
            raise RuntimeError("the machine\nis tired")
        if not hasattr(job, "variant"):
            path = self.cache.state(job.key)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
            return
        self.cache.write(job.key, row(psnr=20.0 + job.cell.seed + 0.125 * (name == "joint"), code=self.code))


@dataclass(frozen=True)
class Task:
    key: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Touch:
    """Notes the keys of tasks in a folder; some of them end badly."""

    folder: Path

    def __call__(self, task):
        if task.key == "killed":
            os.kill(os.getpid(), 9)
        if task.key == "refused":
            raise ValueError("no photos: take some")
        assert all((self.folder / key).is_file() for key in task.needs)
        (self.folder / task.key).write_text(str(os.getpid()))


def made_up(tmp_path, arguments, failing="none"):
    """Status of the program, the JSON that it wrote, and the jobs that were done."""

    def make(cache, code):
        return MadeUp(cache, code, tmp_path, failing)

    (tmp_path / "notes").write_text("")
    files = f"--cache {tmp_path}/cache --json {tmp_path}/found.json --markdown {tmp_path}/found.md"
    status = module("qnn_ablation").main([str(STILLLIFE), *f"{TINY} {arguments} {files}".split()], do=make)
    return status, json.loads((tmp_path / "found.json").read_text()), (tmp_path / "notes").read_text().splitlines()


def test_help_and_list_come_without_torch():
    path = EXPERIMENTS / "qnn_ablation.py"
    for asked in ("--help", "--list"):
        command = [sys.executable, "-c", ASK_FOR_HELP.replace("--help", asked), str(path)]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert answer.returncode == 0, answer.stderr
        assert not {"torch", "nerfstudio", "scipy", "tyro"} & set(json.loads(answer.stderr.splitlines()[-1]))
    names = {line.split()[0] for line in answer.stdout.splitlines() if line.startswith("  ")}
    assert names == set(module("ablation_variants").VARIANTS)


def test_a_rerun_does_only_what_is_missing_and_more_variants_share_the_base(tmp_path):
    status, found, done = made_up(tmp_path, "--variants joint")
    assert status == 0
    assert sorted(done) == sorted(
        f"every8 {seed} {job}" for seed in (0, 1) for job in ("state 30", "state 40", "alone", "joint")
    )
    (tmp_path / "cache" / "runs" / f"{key_of_row(tmp_path, 20.125)}.json").unlink()
    assert made_up(tmp_path, "--variants joint")[2] == ["every8 0 joint"]
    status, more, done = made_up(tmp_path, "--variants joint,layers,start-50")
    variants = [f"layers-{count}" for count in (2, 3, 5, 6)]
    assert sorted(done) == sorted(
        f"every8 {seed} {job}" for seed in (0, 1) for job in (*variants, "state 20", "start-50")
    )
    assert [one for one in more["rows"] if one["variant"] in ("alone", "joint")] == found["rows"]


def key_of_row(tmp_path, psnr):
    (path,) = (
        path
        for path in (tmp_path / "cache" / "runs").iterdir()
        if json.loads(path.read_text())["held_out"]["psnr"] == psnr
    )
    return path.stem


def test_a_run_that_fails_is_a_row_with_its_reason_and_the_others_go_on(tmp_path, capsys):
    status, found, _ = made_up(tmp_path, "--variants alone-time,posthoc", failing="joint")
    said = capsys.readouterr()
    assert status == 1
    assert said.err.count("\n") == 1
    assert "4 of 8 runs failed" in said.err
    failures = {(one["seed"], one["variant"]): one["failed"] for one in found["rows"] if "failed" in one}
    assert failures[0, "joint"] == "RuntimeError: the machine is tired"
    assert failures[1, "alone-time"] == "what it builds on failed (RuntimeError: the machine is tired)"
    assert {one["variant"] for one in found["rows"] if "failed" not in one} == {"alone", "posthoc"}
    assert "the machine is tired" in (tmp_path / "found.md").read_text()
    assert made_up(tmp_path, "--variants alone-time,posthoc")[0] == 0


def test_differences_are_paired_by_seed(tmp_path):
    _, found, _ = made_up(tmp_path, "--variants joint")
    (one,) = found["summary"]
    assert (one["variant"], one["against"], one["seeds"]) == ("joint", "alone", [0, 1])
    assert one["psnr"] == {"mean": 0.125, "deviation": 0.0, "each": [0.125, 0.125]}
    assert one["octaves"] == [0.125] * 5
    assert (one["views"], one["views_better"]) == (4, 4)
    assert "| stilllife | joint | +0.125 ± 0.000 (+0.125 +0.125) |" in (tmp_path / "found.md").read_text()


def test_jobs_run_after_what_they_need_whatever_their_order(tmp_path):
    tasks = [Task("c", ("b",)), Task("b", ("a", "known before")), Task("a"), Task("d")]
    (tmp_path / "known before").write_text("")
    finished = list(module("workers").work_off(tasks, Touch(tmp_path), 2))
    assert [one.failure for one in finished] == [None] * 4
    processes = {(tmp_path / task.key).read_text() for task in tasks}
    assert len(processes) <= 2
    assert str(os.getpid()) not in processes


def test_a_killed_process_fails_its_job_and_another_takes_over(tmp_path):
    tasks = [Task("killed"), Task("x", ("killed",)), Task("y", ("x",)), Task("refused"), Task("a"), Task("b")]
    failures = {one.job.key: one.failure for one in module("workers").work_off(tasks, Touch(tmp_path), 1)}
    reason = "its process ended with status -9"
    assert failures == {
        "killed": reason,
        "x": f"what it builds on failed ({reason})",
        "y": f"what it builds on failed ({reason})",
        "refused": "no photos: take some",
        "a": None,
        "b": None,
    }


def test_a_worker_ends_with_the_process_that_began_it(tmp_path):
    beats, program = tmp_path / "beats", tmp_path / "program.py"
    program.write_text(
        f"""
import sys, time
from dataclasses import dataclass
sys.path.insert(0, {str(EXPERIMENTS)!r})
from workers import work_off

@dataclass(frozen=True)
class Job:
    key = "a"
    needs = ()

def beat(job):
    for _ in range(1200):
        with open({str(beats)!r}, "a") as file:
            file.write(".")
        time.sleep(0.05)

if __name__ == "__main__":
    list(work_off([Job()], beat, 1))
"""
    )
    parent = subprocess.Popen([sys.executable, str(program)])

    def beating() -> bool:
        before = beats.stat().st_size if beats.exists() else 0
        time.sleep(0.5)
        return beats.exists() and beats.stat().st_size > before

    assert any(beating() for _ in range(60))
    parent.kill()
    parent.wait()
    assert any(not beating() for _ in range(20))


def test_the_settings_name_the_run_and_the_names_of_variants_do_not(tmp_path):
    plan, variants = module("ablation_plan"), module("ablation_variants").VARIANTS
    capture = plan.Capture("/here/a", "a", 9, 1000, ((64, 48),), 64)
    cell = plan.Cell(capture, "every8", 0, 40, 10, 100)

    def key(cell, variant):
        return plan.runs_of(cell, [variant])[-1].key

    joint = variants["joint"]
    assert key(cell, joint) == key(replace(cell, capture=replace(capture, folder="/there/a")), joint)
    assert key(cell, joint) == key(cell, replace(joint, name="j", sentence="s")) == key(cell, variants["start-75"])
    others = [
        *(replace(cell, **change) for change in ({"hold_out": "block"}, {"seed": 1}, {"gaussians": 9})),
        *(replace(cell, **change) for change in ({"iterations": 50}, {"head_iterations": 9})),
        replace(cell, capture=replace(capture, bytes=1001)),
    ]
    assert len({key(other, joint) for other in (cell, *others)}) == 7
    assert key(cell, variants["alone"]) == key(replace(cell, head_iterations=9), variants["alone"])
    assert key(cell, variants["alone-time"]) != key(replace(cell, head_iterations=9), variants["alone-time"])
    assert len({key(cell, variant) for variant in variants.values()}) == len(variants) - 1


def test_rows_of_edited_sources_can_be_told_apart(tmp_path):
    library, script = tmp_path / "library", tmp_path / "rows.py"
    sources = [library / "loss.py", library / "kernels" / "warp.c", library / "kernels" / "warp.h", script]
    for source in sources:
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text("before")

    def digest():
        return module("ablation_cache").code_digest([script.stem], tmp_path, library)

    first = digest()
    (library / "kernels" / "warp.so").write_text("built")
    assert digest() == first
    seen = {first}
    for source in sources:
        source.write_text("after")
        seen.add(digest())
    assert len(seen) == 1 + len(sources)


def test_a_row_is_marked_by_the_scripts_that_make_it():
    ablation = module("qnn_ablation")
    names = {path.stem for path in EXPERIMENTS.glob("*.py")}
    assert set(ablation.ROWS) <= names
    assert set(ablation.ROWS) | {"ablation_cache", "ablation_progress", "ablation_tables", "ablation_variants"} == {
        name for name in names if name.startswith("ablation_") or name in ("captures", "holdouts")
    }


@pytest.mark.parametrize(("ratio", "gaussians"), [(1.0, 1000), (1.03, 1291), (1.2, 1291), (1.24, 1602), (2.0, 2640)])
def test_the_number_of_gaussians_that_a_time_pays_for_follows_the_power_that_was_measured(ratio, gaussians):
    assert module("ablation_time").paid_gaussians(1000, ratio) == gaussians


@pytest.mark.parametrize(
    ("name", "iterations", "gaussians"),
    [("alone-time", 56, 100), ("alone-gaussians", 40, 161), ("alone-double", 80, 100)],
)
def test_plain_splatting_gets_time_as_iterations_or_as_gaussians(tmp_path, monkeypatch, name, iterations, gaussians):
    learning, plan = module("ablation_learning"), module("ablation_plan")
    cell = plan.Cell(plan.Capture("/here/a", "a", 9, 1000, ((64, 48),), 64), "every8", 0, 40, 10, 100)
    run = plan.runs_of(cell, [module("ablation_variants").VARIANTS[name]])[-1]
    cache = module("ablation_cache").Cache(tmp_path)
    for key, seconds in zip(run.spenders, (10.0, 12.5), strict=False):
        cache.write(key, row(seconds=seconds, parameters=5 if seconds > 10 else None))
    monkeypatch.setattr(learning.Laboratory, "plain", lambda laboratory, cell, averaged: {"cell": cell})
    given = learning.Laboratory(cache, "code").row(run)["cell"]
    assert (given.iterations, given.gaussians) == (iterations, gaussians)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "no scenes: give folders"),
        ("nowhere", "nowhere is not a folder"),
        (f"{STILLLIFE} {STILLLIFE}", "give folders of different names"),
        (f"{STILLLIFE} --variants joint,better", "there is no 'better'; --list shows"),
        (f"{STILLLIFE} --iterations 10 --head-iterations 11", "--head-iterations 11 are more than --iterations 10"),
        (f"{STILLLIFE} --film 8", "--film 8: give at least 9 frames"),
        (f"{STILLLIFE} --seeds 0", "--seeds: '0': give a whole number"),
        (f"{STILLLIFE} --cache {__file__}", "is a file: give a folder"),
        (f"{STILLLIFE} --json {ROOT}", "is a folder: give the file"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(capsys, arguments, words):
    try:
        status = module("qnn_ablation").main(arguments.split())
    except SystemExit as ended:
        status = ended.code
    said = capsys.readouterr().err
    assert status in (1, 2)
    assert words in said
    assert said.count("\n") == 1


def test_a_damaged_run_is_refused_by_its_name(tmp_path, capsys):
    made_up(tmp_path, "--variants joint")
    path = tmp_path / "cache" / "runs" / f"{key_of_row(tmp_path, 20.125)}.json"
    path.write_text("{")
    capsys.readouterr()
    files = f"--cache {tmp_path}/cache"
    assert module("qnn_ablation").main([str(STILLLIFE), *f"{TINY} --variants joint {files}".split()]) == 1
    assert f"{path} is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(("ratio", "iterations"), [(1.01, 120), (1.2, 120), (2.07, 220), (2.2, 220), (0.9, 100)])
def test_time_is_given_in_fifths_of_the_iterations_and_never_less(ratio, iterations):
    assert module("ablation_time").paid_iterations(100, ratio) == iterations

"""The ablation of the head with a made-up trainer: plans, cache, processes, pairs and tables.

This module does not import torch, so that the processes that import the made-up trainer from it start quickly.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from test_startup import ASK_FOR_HELP

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "scripts" / "experiments"
STILLLIFE = ROOT / "scenes" / "stilllife"
TINY = "--seeds 2 --hold-out every8 --iterations 40 --head-iterations 10 --max-side 64 --gaussians 100"


@pytest.fixture(scope="module", autouse=True)
def experiments():
    """The scripts import each other from the folder that they lie in; so do the processes that they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXPERIMENTS)
        patch.setenv("OMP_WAIT_POLICY", "passive")
        yield


def module(name):
    return importlib.import_module(name)


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


def row(psnr=20.0, *, views=2, seconds=10.0, parameters: int | None = None, edges: float | None = 18.0, code="code"):
    scores = {"psnr": psnr, "ssim": psnr / 25, "psnr_edge": edges, "band_psnr": [psnr + octave for octave in range(5)]}
    return {
        **dict.fromkeys(("train", "train_base", "held_out", "held_out_base"), scores),
        **{f"{part}_views": {f"{index}": {"psnr": psnr} for index in range(views)} for part in ("train", "held_out")},
        **{
            "splats": 9,
            "parameters": parameters,
            "dead_units": None,
            "mean_residual": None,
            "iterations": 40,
            "gap": 0.5,
        },
        **{"max_gaussians": 9, "cpu_seconds": seconds, "wall_seconds": seconds, "code": code, "processor": "abacus"},
    }


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


def named(variant, seed=0, *, scene="a", **others):
    return {"scene": scene, "hold_out": "every8", "seed": seed, "variant": variant, **row(**others)}


def test_spread_and_worse_views_are_told():
    rows = [named("alone", seed, psnr=20.0 + seed) for seed in range(3)]
    rows += [
        named("joint", seed, psnr=20.0 + seed + gain, seconds=15.0, parameters=7)
        for seed, gain in ((0, 0.25), (1, -0.5), (2, 1))
    ]
    rows += [named("layers-2", 0, psnr=20.5)]
    joint, layers, changed = module("ablation_pairs").comparisons(rows)
    assert joint.psnr.each == (0.25, -0.5, 1)
    assert joint.psnr.mean == 0.25
    assert joint.psnr.deviation == 0.75
    assert (joint.views, joint.views_better, joint.time) == (6, 4, 1.5)
    assert layers.psnr.deviation is None
    assert (changed.variant, changed.against, changed.psnr.mean) == ("layers-2", "joint", 0.25)


def test_scenes_have_the_same_weight_in_the_mean_over_scenes():
    rows = [named(name, scene=scene, psnr=psnr) for scene, name, psnr in SCENES]
    rows += [named(name, 1, scene="a", psnr=psnr) for name, psnr in (("alone", 20.0), ("joint", 21.0))]
    pairs = module("ablation_pairs")
    (mean,) = pairs.over_scenes(pairs.comparisons(rows))
    assert (mean["scenes"], mean["psnr"], mean["views"]) == (["a", "b"], 0.75, 6)


SCENES = (("a", "alone", 20.0), ("a", "joint", 21.0), ("b", "alone", 30.0), ("b", "joint", 30.5))


def test_photos_without_edges_have_no_difference_on_edges():
    rows = [named("alone"), named("joint", edges=None)]
    (one,) = module("ablation_pairs").comparisons(rows)
    assert one.psnr_edge is None
    lines = module("ablation_tables").page(rows).splitlines()
    assert sum(line.startswith("| a | joint | +0.000 | +0.0000 |  |") for line in lines) == 2


def test_what_changes_on_training_views_has_a_table_of_its_own():
    plain, other = named("alone"), named("joint")
    scores = {**other["train"], "psnr": plain["train"]["psnr"] + 1, "ssim": plain["train"]["ssim"] + 0.25}
    tables = module("ablation_tables").page([plain, {**other, "train": scores}]).split("### ")
    held_out, training = (next(one for one in tables if one.startswith(f"{title}\n")) for title in TITLES)
    assert "| a | joint | +0.000 | +0.0000 |" in held_out
    assert "| a | joint | +1.000 | +0.2500 |" in training


TITLES = "Against plain splatting", "Against plain splatting, on the views of the training"


def test_rows_of_different_code_are_remarked_on():
    remarks = module("ablation_tables").remarks
    assert remarks([named("alone"), named("joint")]) == []
    (remark,) = remarks([named("alone"), named("joint", code="other")])
    assert remark == "Note: the rows come from 2 versions of the library (code, other)."


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


def test_the_number_of_gaussians_that_a_time_pays_for_follows_the_power_that_was_measured():
    paid_for = module("ablation_learning").paid_for
    assert paid_for(40.0, [(100, 10.0), (200, 20.0)]) == pytest.approx(400)
    assert paid_for(20.0, [(100, 10.0), (400, 20.0)]) == pytest.approx(400)
    assert paid_for(20.0, [(100, 10.0), (100, 10.0)]) > 200


@pytest.mark.parametrize(("most", "tried", "kept"), [(10_000, [264, 400], 400), (200, [264], 264)])
def test_more_gaussians_are_tried_until_they_take_as_long_or_there_are_no_more(tmp_path, most, tried, kept):
    learning, plan = module("ablation_learning"), module("ablation_plan")
    caps = []

    def plain(cell):
        caps.append(cell.gaussians)
        grown = min(cell.gaussians, most)
        return {"splats": grown, "max_gaussians": cell.gaussians, "cpu_seconds": 10 * math.sqrt(grown / 100)}

    cell = plan.Cell(plan.Capture("/here/a", "a", 9, 1000, ((64, 48),), 64), "every8", 0, 40, 10, 100)
    laboratory = learning.Laboratory(module("ablation_cache").Cache(tmp_path), "code")
    object.__setattr__(laboratory, "plain", plain)
    found = laboratory.more_gaussians(cell, plain(cell), 20.0)
    assert caps[1:] == tried
    assert found["max_gaussians"] == kept


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


def film(flicker, *, detail=1.0, worst: float | None = 1.5, long: float | None = 30.0, own=0.01):
    base = {"short_psnr": 40.0, "long_psnr": 29.0}
    ratios = {"flicker_ratio": flicker, "ratio_at_equal_detail": flicker / detail, "worst_frame_ratio": worst}
    return {
        **ratios,
        "base": base,
        "head": {"short_psnr": 41.0, "long_psnr": long, "flicker": own},
        "triple_share": 0.5,
        "step_pixels": 2,
    }


def test_a_film_is_a_line_over_its_seeds():
    def filmed(variant, film, seed=0, scene="a"):
        return {"scene": scene, "hold_out": "every8", "variant": variant, "seed": seed, "film": film}

    rows = [
        filmed("plus", film(0.8, detail=0.8)),
        filmed("plus", film(0.9, worst=None), seed=1),
        filmed("joint", film(1.25, long=None)),
        filmed("alone", film(1.0, own=0.02)),
        filmed("alone", film(1.0, own=0.0), seed=1),
        filmed("averaged", None),
        filmed("posthoc", {"failed": "no surface"}),
        {"scene": "a", "hold_out": "every8", "variant": "whole", "seed": 0, "failed": "no"},
    ]
    lines = module("ablation_film").film_lines(rows, "every8")
    assert [line["Variant"] for line in lines] == ["plus", "joint", "alone"]
    plus, joint, alone = lines
    assert (plus["Against plain"], joint["Against plain"]) == ("0.50", "0.50")
    assert (alone["Flicker"], alone["Against plain"]) == ("1.00 (1.00 1.00)", "1.00")
    assert (plus["Flicker"], plus["At equal detail"], plus["Worst frame"]) == ("0.85 (0.80 0.90)", "0.95", "1.50")
    assert (plus["Neighbours"], plus["8 frames apart"]) == ("40.00 to 41.00", "29.00 to 30.00")
    assert (joint["Flicker"], joint["8 frames apart"], joint["Seen"], joint["Step"]) == ("1.25", "", "50%", "2.0")
    assert module("ablation_film").film_lines(rows, "block") == []
    failures = module("ablation_film").film_failures
    assert failures(rows, "every8") == ["No film of posthoc on a, seed 0: no surface."]
    assert failures(rows, "block") == []


def test_gain_is_ranked_by_the_distance_to_the_nearest_training_camera():
    def ran(variant, gains, seed=0, **more):
        views = {f"{index}": {"psnr": 20.0 + gain} for index, gain in enumerate(gains)}
        named = {"scene": "a", "hold_out": "every8", "variant": variant, "seed": seed}
        return {**row(), **named, "held_out_views": views, **more}

    gaps = {"0": 0.1, "1": 0.2, "2": 0.3, "3": 0.4}
    nothing, rising = [0.0] * 4, [0.1, 0.2, 0.4, 0.8]

    def found(*rows):
        return next(one for one in module("ablation_pairs").comparisons(rows)).with_distance

    assert found(ran("alone", nothing, gaps=gaps), ran("joint", rising, gaps=gaps)) == 1
    assert found(ran("alone", nothing, gaps=gaps), ran("joint", rising[::-1], gaps=gaps)) == -1
    assert found(ran("alone", nothing), ran("joint", rising)) is None, "rows of an older cache"
    assert found(ran("alone", nothing[:3], gaps=gaps), ran("joint", rising[:3], gaps=gaps)) is None
    both = [
        ran(name, gains, seed, gaps=gaps) for seed in (0, 1) for name, gains in (("alone", nothing), ("joint", rising))
    ]
    assert found(*both) == 1


@pytest.mark.parametrize(("ratio", "iterations"), [(1.01, 120), (1.2, 120), (2.07, 220), (2.2, 220), (0.9, 100)])
def test_time_is_given_in_fifths_of_the_iterations_and_never_less(ratio, iterations):
    assert module("ablation_learning").paid_iterations(100, ratio) == iterations


def test_time_is_counted_by_iterations_where_they_are_alike_and_in_seconds_elsewhere():
    times_of = module("ablation_pairs").times_of
    alone = {"parameters": None, "max_gaussians": 9, "splats": 9, "iterations": 100, "cpu_seconds": 50.0}
    assert times_of({**alone, "iterations": 220, "cpu_seconds": 90.0}, alone) == 2.2
    assert times_of({**alone, "sets": 2, "parameters": 7, "head_cpu_seconds": 5.0, "cpu_seconds": 80.0}, alone) == 2.1
    assert times_of({**alone, "max_gaussians": 20, "cpu_seconds": 80.0}, alone) == 1.6
    assert times_of({**alone, "splats": 18, "cpu_seconds": 95.0}, alone) == 1.9
    assert times_of({**alone, "parameters": 7, "cpu_seconds": 65.0}, alone) == 1.3

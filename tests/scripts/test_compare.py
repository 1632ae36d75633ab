"""The comparison with a made-up trainer: plan, cache, processes, means, tables and refusals.

This module does not import torch, so that the processes that import the made-up trainer from it start quickly.
"""

from __future__ import annotations

import base64
import importlib
import io
import json
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
STILLLIFE = ROOT / "scenes" / "stilllife"
compare = importlib.import_module("compare")
plan = importlib.import_module("comparison.plan")
methods = importlib.import_module("comparison.methods")
made_of = importlib.import_module("comparison.tables")
PSNRS = {"splat": 20.0, "qsplat": 20.5, "qsplat-plus": 21.0, "qsplat-nerf": 18.0}


# What the made-up trainer finds


def picture(seed: int, *, width: int = 48, height: int = 36) -> str:
    """Noise on a gradient, as base64 of a WebP without loss."""
    gradient = np.linspace(40, 200, width)[None, :, None] * np.ones((height, 1, 3))
    noise = np.random.default_rng(seed).normal(0, 4 + 4 * (seed % 5), gradient.shape)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(gradient + noise, 0, 255).astype(np.uint8)).save(buffer, "webp", lossless=True)
    return base64.b64encode(buffer.getvalue()).decode()


def row(psnr: float = 20.0, *, code: str = "code", pictured: int = 0):
    """What a run finds. Pictures of two views are of other noise for other numbers of ``pictured``."""
    scores = {"psnr": psnr, "ssim": psnr / 25, "psnr_edge": psnr - 2, "lpips": None, "lpips_alex": None}
    views = [
        {"view": f"view {v}", "psnr": psnr, "photo": picture(v), "image": picture(9 + v + pictured)} for v in (0, 1)
    ]
    times = {"train_seconds": 10.0, "wall_seconds": 12.0, "iterations": 40, "fps": 5.0}
    return {
        "mean": {**scores, "band_psnr": [psnr + octave for octave in range(5)]},
        "per_view": {view["view"]: scores for view in views},
        "curve": [
            {"share": s, "iterations": 40 * s, "seconds": 10 * s, "wall": 12 * s, "psnr": psnr * s} for s in (0.5, 1)
        ],
        **times,
        **{"parameters": 100, "gaussians": 9, "bytes": 2_500_000, "views": [7, 2], "notes": ["LPIPS: no weights"]},
        **{"code": code, "processor": "abacus", "pictures": views},
    }


@dataclass(frozen=True)
class MadeUp:
    """Finds a PSNR that follows from the run, and notes every run in a file of ``notes``. Some methods end badly."""

    notes: Path
    refused: str = "none"
    killed: str = "none"
    interrupted: str = "none"

    def __call__(self, run):
        with (self.notes / "notes").open("a") as file:
            file.write(f"{run.capture.name} {run.seed} {run.method.name}\n")
        if run.method.name == self.refused:
            raise ValueError("no photos:\ntake some")
        if run.method.name == self.killed:
            os.kill(os.getpid(), signal.SIGKILL)
        if run.method.name == self.interrupted:
            os.kill(os.getppid(), signal.SIGINT)
        return row(PSNRS[run.method.name] + run.seed, pictured=len(run.method.name))


def compared(tmp_path, arguments="", **trouble):
    """Status of the program, the JSON that it wrote, and the runs that were done."""
    (tmp_path / "notes").write_text("")
    scene = f"--scene {STILLLIFE} --max-side 64 --output {tmp_path}/out"
    status = compare.main(f"{scene} {arguments}".split(), train=MadeUp(tmp_path, **trouble))
    found = tmp_path / "out" / "comparison.json"
    return status, json.loads(found.read_text()), (tmp_path / "notes").read_text().splitlines()


def test_a_rerun_does_only_what_is_missing(tmp_path, capsys):
    status, found, done = compared(tmp_path, "--methods splat,qsplat --seeds 2 --budget 40")
    assert status == 0
    assert done == [f"stilllife {seed} {name}" for seed in (0, 1) for name in ("splat", "qsplat")]
    assert [(one["method"], one["seed"], one["mean"]["psnr"]) for one in found["rows"]] == [
        *(("splat", 0, 20.0), ("qsplat", 0, 20.5), ("splat", 1, 21.0), ("qsplat", 1, 21.5))
    ]
    said = capsys.readouterr().out
    assert "4 runs: 0 in the cache, 4 to do" in said
    assert "[1/4] stilllife seed 0 splat: 20.00 dB, trained for 10 s; 3 left, about 1 min" in said
    assert compared(tmp_path, "--methods splat,qsplat --seeds 2 --budget 40")[2] == []
    assert compared(tmp_path, "--methods splat,qsplat-nerf --seeds 2 --budget 40")[2] == [
        *("stilllife 0 qsplat-nerf", "stilllife 1 qsplat-nerf")
    ]
    assert compared(tmp_path, "--methods splat --seeds 1 --budget 41")[2] == ["stilllife 0 splat"]
    assert "1 run: 0 in the cache, 1 to do" in capsys.readouterr().out


def test_a_command_writes_what_it_names_and_keeps_all_that_was_found(tmp_path):
    compared(tmp_path, "--methods splat,qsplat --seeds 1 --budget 40")
    _, found, done = compared(tmp_path, "--methods qsplat --seeds 1 --budget 40")
    assert done == []
    assert [one["method"] for one in found["rows"]] == ["qsplat"]
    assert "splat |" not in (tmp_path / "out" / "comparison.md").read_text().replace("| qsplat |", "")
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 2


def test_again_trains_nothing_and_writes_the_seeds_that_all_methods_have_finished(tmp_path, capsys):
    compared(tmp_path, "--methods splat,qsplat --seeds 1 --budget 40")
    compared(tmp_path, "--methods splat --seeds 2 --budget 40")
    (tmp_path / "out" / "comparison.html").unlink()
    capsys.readouterr()
    status, found, done = compared(tmp_path, "--methods splat,qsplat --seeds 3 --budget 40 --again")
    assert (status, done) == (0, [])
    assert [(one["method"], one["seed"]) for one in found["rows"]] == [("splat", 0), ("qsplat", 0)]
    assert "2 runs: 2 in the cache, 0 to do" in capsys.readouterr().out
    assert (tmp_path / "out" / "comparison.html").is_file()


def test_a_page_is_filled_with_the_tables_and_nothing_else_of_it_changes(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n<!-- results -->\nold\n<!-- end -->\nrest\n")
    for _ in range(2):
        status, _, _ = compared(tmp_path, f"--methods splat --seeds 1 --budget 40 --page {page}")
        text = page.read_text()
        assert status == 0
        assert text.startswith("# Title\n\n<!-- results -->\n- stilllife: splat reaches 20.00 dB")
        assert text.endswith(" |\n<!-- end -->\nrest\n")
        assert text.count("### stilllife") == 1
        beside = json.loads((tmp_path / "page.json").read_text())
        assert beside["settings"]["budget"] == "40 iterations"
        assert str(ROOT) not in (tmp_path / "page.json").read_text()
        (figures,) = beside["rows"]
        assert set(figures) == set(made_of.FIGURES) - {"failed"}
        assert figures["mean"]["psnr"] == 20.0
    page.write_text("# Title\n")
    status, _, done = compared(tmp_path, f"--methods qsplat --seeds 1 --budget 40 --page {page}")
    assert (status, done) == (1, [])
    assert "it has no lines <!-- results --> and <!-- end -->" in capsys.readouterr().err
    assert page.read_text() == "# Title\n"


def test_a_row_that_failed_is_data_with_its_reason(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- results -->\n<!-- end -->\n")
    compared(tmp_path, f"--methods splat,qsplat --seeds 1 --budget 40 --page {page}", refused="splat")
    failed, done = json.loads((tmp_path / "page.json").read_text())["rows"]
    assert failed == {"method": "splat", "scene": "stilllife", "seed": 0, "failed": "no photos: take some"}
    assert done["method"] == "qsplat"


def test_every_row_has_what_the_others_build_on(tmp_path):
    _, found, _ = compared(tmp_path, "--methods splat --seeds 1 --budget 40")
    (one,) = found["rows"]
    assert {"method", "scene", "seed", "mean", "train_seconds", "iterations", "parameters", "bytes"} <= set(one)
    assert "pictures" not in one
    assert found["settings"]["command"].startswith("python scripts/compare.py --scene ")


def test_runs_that_fail_are_rows_with_their_reason_and_the_others_go_on(tmp_path, capsys):
    arguments = "--methods qsplat,splat,qsplat-plus --seeds 1 --budget 40"
    status, found, _ = compared(tmp_path, arguments, refused="qsplat", killed="splat")
    assert status == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "2 of 3 runs failed" in said.err
    failures = {one["method"]: one.get("failed") for one in found["rows"]}
    assert failures == {
        "qsplat": "no photos: take some",
        "splat": "its process ended with status -9",
        "qsplat-plus": None,
    }
    assert "| qsplat | failed |" in (tmp_path / "out" / "comparison.md").read_text()
    assert "stilllife, splat, seed 0 failed: its process" in (tmp_path / "out" / "comparison.html").read_text()
    status, found, done = compared(tmp_path, arguments)
    assert (status, done) == (0, ["stilllife 0 qsplat", "stilllife 0 splat"])


def test_an_interrupt_loses_nothing_that_is_finished(tmp_path, capsys):
    arguments = "--methods splat,qsplat,qsplat-plus --seeds 1 --budget 40"
    status, found, done = compared(tmp_path, arguments, interrupted="qsplat")
    assert status == 130
    assert capsys.readouterr().err == "compare: interrupted; the same command goes on from here\n"
    assert [one["method"] for one in found["rows"]] == ["splat"]
    assert not list((tmp_path / "out").glob(".*.tmp"))
    status, found, done = compared(tmp_path, arguments)
    assert (status, len(found["rows"])) == (0, 3)
    assert "stilllife 0 splat" not in done


def test_what_a_run_depends_on_names_it_and_labels_do_not():
    capture = plan.captures_of([STILLLIFE], max_side=64)[0]
    run = plan.Run(capture, methods.METHODS["splat"], 0, plan.budget_of("60s"), 100)
    same = [
        replace(run, capture=replace(capture, folder="/there/stilllife")),
        replace(run, method=replace(run.method, label="old")),
    ]
    others = [
        *(replace(run, **change) for change in ({"seed": 1}, {"gaussians": 9}, {"budget": plan.budget_of("60")})),
        *(replace(run, method=method) for name, method in methods.METHODS.items() if name != "splat"),
        replace(run, capture=replace(capture, max_side=63)),
    ]
    assert {one.key for one in same} == {run.key}
    assert len({one.key for one in (run, *others)}) == 1 + len(others)


@pytest.mark.parametrize(
    ("text", "amount", "unit", "said"),
    [
        ("300s", 300, "seconds", "300 s"),
        ("0.5s", 0.5, "seconds", "0.5 s"),
        ("5000", 5000, "iterations", "5000 iterations"),
    ],
)
def test_a_budget_is_seconds_or_iterations(text, amount, unit, said):
    budget = plan.budget_of(text)
    assert (budget.amount, budget.unit, str(budget)) == (amount, unit, said)


BUDGETS = ("0s", "abc", "19", "-3s", "infs", "s", "1e3", "nans")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--scene", "--scene: expected at least one argument"),
        ("--scene nowhere", "nowhere is not a folder: give the folder of a capture"),
        (f"--scene {STILLLIFE} {STILLLIFE}", "two scenes are named stilllife: give folders of different names"),
        (
            f"--scene {STILLLIFE} --methods splat,better",
            "argument --methods: there is no 'better'; choose from splat, qsplat, ",
        ),
        *(
            (f"--scene {STILLLIFE} --budget={text}", f"argument --budget: '{text}': give seconds such as 300s")
            for text in BUDGETS
        ),
        (f"--scene {STILLLIFE} --methods=", "argument --methods: none is named; choose from splat, qsplat, "),
        (f"--scene {STILLLIFE} --seeds 0", "'0': give a whole number of at least 1"),
        (f"--scene {STILLLIFE} --output {__file__}", "is a file: give a folder"),
        (
            f"--scene {STILLLIFE} --output {__file__}/out",
            "/out cannot be written (Not a directory): give a folder that",
        ),
        (f"--scene {STILLLIFE} --output /proc", "--output /proc cannot be written ("),
        (f"--scene {STILLLIFE} --page nowhere.md", "--page nowhere.md does not exist: give a page FILE.md that"),
        (f"--scene {STILLLIFE} --page {__file__}", "test_compare.py is no Markdown: give a page FILE.md that"),
        (f"--scene {STILLLIFE} --page {__file__}/page.md", "page.md cannot be written: give a path in a folder"),
        (f"--scene {STILLLIFE} --output out --again", "--again: out has no seed of a scene that all methods finished"),
        (f"--scene {STILLLIFE} --ray 127.0.0.1:1", "--ray 127.0.0.1:1: no Ray cluster answers"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    output = [] if "--output" in arguments else ["--output", f"{tmp_path}/out"]
    try:
        status = compare.main([*output, *arguments.split()], train=MadeUp(tmp_path))
    except SystemExit as ended:
        status = ended.code
    said = capsys.readouterr().err
    assert status in (1, 2)
    assert words in said
    assert said.count("\n") == 1
    assert not list(tmp_path.rglob("comparison.*"))
    assert not (tmp_path / "notes").exists()  # nothing was trained


def test_without_ray_the_command_names_its_extra(tmp_path, monkeypatch, capsys):
    cluster = importlib.import_module("comparison.cluster")
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    scene = f"--scene {STILLLIFE} --output {tmp_path}/out --ray local"
    assert compare.main(scene.split(), train=MadeUp(tmp_path)) == 1
    assert 'pip install -e ".[scale]"' in capsys.readouterr().err


# Means and tables


def named(method, psnr, seed=0, scene="a", **others):
    return {"method": method, "scene": scene, "seed": seed, **row(psnr, **others)}


def test_means_are_over_seeds_with_their_spread():
    (one,) = made_of.summary([named("splat", psnr, seed) for seed, psnr in enumerate((20.0, 21.0, 22.0))])
    assert one["psnr"] == {"mean": 21.0, "deviation": 1.0}
    assert (one["seeds"], one["bytes"], one["lpips"]) == (3, 2_500_000, None)
    assert one["band_psnr"] == [21.0, 22.0, 23.0, 24.0, 25.0]
    (single,) = made_of.summary([named("splat", 20.0)])
    assert single["psnr"] == {"mean": 20.0, "deviation": None}


def test_a_baseline_that_wins_is_said_to_win():
    rows = [named("splat", 20.0), named("qsplat", 21.0), named("qsplat-plus", 20.5)]
    assert made_of.verdicts(made_of.summary(rows)) == [
        "a: qsplat leads with 21.00 dB, 0.50 dB ahead of qsplat-plus (one seed)."
    ]
    (said,) = made_of.verdicts(made_of.summary([*rows, named("qsplat-nerf", 23.0), named("qsplat-siren", 22.0)]))
    assert said == "a: a baseline wins. qsplat-nerf leads with 23.00 dB, 2.00 dB ahead of qsplat (one seed)."
    (said,) = made_of.verdicts(made_of.summary([named("splat", 20.0)]))
    assert "nothing to compare it with" in said


def test_a_lead_within_the_spread_of_seeds_is_said_to_be_small():
    rows = [named(name, psnr + 2 * seed, seed) for name, psnr in (("splat", 20.0), ("qsplat", 20.5)) for seed in (0, 1)]
    (said,) = made_of.verdicts(made_of.summary(rows))
    assert said.endswith("0.50 dB ahead of splat, which is within the spread of seeds.")


def test_remarks_are_told_once_and_name_their_runs_where_not_all_have_them():
    rows = [named("splat", 20.0), named("qsplat", 21.0, code="other")]
    rows[1]["notes"] = [*rows[1]["notes"], "dropped"]
    assert made_of.remarks(rows) == [
        "LPIPS: no weights",
        "a qsplat seed 0: dropped",
        "the rows come from 2 versions of the code (code, other)",
    ]


def test_the_table_of_a_scene_has_the_best_first(tmp_path):
    compared(tmp_path, "--methods splat,qsplat-nerf,qsplat --seeds 2 --budget 40s")
    lines = (tmp_path / "out" / "comparison.md").read_text().splitlines()
    table = [line for line in lines if line.startswith("| ") and "Method" not in line]
    assert [line.split()[1] for line in table] == ["qsplat", "splat", "qsplat-nerf"]
    assert table[0].startswith("| qsplat | 21.00 ± 0.71 | 0.8400 ± 0.0283 |")
    assert "| 2 | 10.0 | 40 | 100 | 2.50 | 5.00 |" in table[0]

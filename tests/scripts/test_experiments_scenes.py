"""The ablation of the head on scenes: what is held out, and once for real, at its smallest."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from experiment_rows import module

from qsplat.cameras import Camera
from qsplat.gaussians import Gaussians
from qsplat.io.scene import Scene, View
from qsplat.qnn import QNN, QnnConfig
from qsplat.qnn.photos import PhotoConfig
from qsplat.training.model import SplatModel
from qsplat.training.plus import PlusConfig

EXPERIMENTS = Path(__file__).parents[2] / "scripts" / "experiments"
STILLLIFE = Path(__file__).parents[2] / "scenes" / "stilllife"


pytestmark = pytest.mark.usefixtures("experiments")


def scene(count, *, own_split=False, width=16):
    """Cameras on an arc of three quarters of a circle around the origin that look at it."""
    views = []
    for index in range(count):
        angle = 1.5 * math.pi * index / count - 3
        pose = torch.eye(4)
        pose[:3, 3] = torch.tensor([-math.cos(angle), -math.sin(angle), 0.0])
        views.append(
            View(f"{index:02d}", Camera(pose, 20.0, 20.0, 8.0, 8.0, width, width), torch.zeros(width, width, 3))
        )
    test = views[1::5] if own_split else views[::8]
    kept = {view.name for view in test}
    return Scene("arc", tuple(view for view in views if view.name not in kept), tuple(test), None, torch.eye(4))


def numbers(views):
    return [int(view.name) for view in views]


@pytest.mark.parametrize("own_split", [False, True])
def test_a_block_is_an_eighth_of_neighbours_and_every_view_is_on_one_side(own_split):
    loaded = scene(20, own_split=own_split)
    holdouts = module("holdouts")
    assert holdouts.split_by_itself(loaded) == own_split
    assert holdouts.held_out(loaded, "every8") is loaded
    block = holdouts.held_out(loaded, "block")
    held = numbers(block.test)
    assert held == [0, 1, 2] or held == [17, 18, 19]
    assert sorted([*numbers(block.train), *held]) == list(range(20))
    assert mean(holdouts.gaps(block).values()) > mean(holdouts.gaps(loaded).values())


def test_a_block_follows_the_angle_where_names_do_not():
    loaded = scene(24, own_split=True)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1)).tolist()
    shuffled = [replace(view, name=f"{order[int(view.name)]:02d}") for view in (*loaded.train, *loaded.test)]
    mixed = replace(loaded, train=tuple(shuffled[5:]), test=tuple(shuffled[:5]))
    there = {order[number] for number in numbers(module("holdouts").held_out(loaded, "block").test)}
    assert set(numbers(module("holdouts").held_out(mixed, "block").test)) == there


def test_every_head_can_be_built_and_is_switched_on_at_its_step():
    plan, variants = module("ablation_plan"), module("ablation_variants")
    capture = plan.Capture("/here/a", "a", 9, 1000, ((64, 48),), 64)
    cell = plan.Cell(capture, "every8", 3, 40, 10, 100)
    heads = [variant for variant in variants.VARIANTS.values() if isinstance(variant, variants.Headed)]
    configs = {variant.name: module("ablation_learning").head_config(cell, variant) for variant in heads}
    for variant in heads:
        config = configs[variant.name]
        assert QNN(config.head)
        assert config.schedule.head_start == plan.switch_on(cell, variant)
        assert (config.seed, config.schedule.mode, config.densification.max_gaussians) == (3, variant.mode, 100)
    assert {variant.like for variant in heads} <= {None, *configs}
    assert [configs[name].schedule.head_start for name in ("joint", "posthoc", "start-90")] == [30, 40, 36]
    assert [configs[name].densification.with_head for name in ("start-25", "start-25-densify")] == [False, True]
    for variant in heads:
        if variant.like is not None:
            same = variant.name == "start-75" or variant.features > 0 or variant.covered
            assert (configs[variant.name] == configs[variant.like]) == same


def test_units_that_are_off_at_every_pixel_of_every_view_are_dead():
    head = QNN(QnnConfig(layers=3, channels=4, precision="fp32"))
    views = scene(20).train
    weights = head.state_dict()
    weights["stages.0.weight"][:] = torch.tensor([0.0, 1, 1, 0])[:, None, None, None] / 27
    weights["stages.0.bias"][:] = torch.tensor([-1.0, -1.5, -3, 0.5])
    weights["stages.2.weight"].zero_()
    weights["stages.2.bias"].fill_(0.1)

    def render(camera):
        """Brighter in some views than in others: units 0 and 2 are off in all of them, unit 1 in most."""
        level = 2.0 if torch.equal(camera.center, views[0].camera.center) else 0.0
        head(torch.full((1, 3, 8, 8), level), torch.zeros(1, 2, 8, 8))

    share = module("ablation_scores").dead_units
    assert share(head, SimpleNamespace(render=render), views) == 2 / 8
    assert share(head, SimpleNamespace(render=render), views[1:]) == 3 / 8
    assert share(QNN(QnnConfig(layers=1)), SimpleNamespace(render=lambda camera: None), views) is None


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The program as it is, at its smallest: interrupted, gone on with, and started again."""
    folder = tmp_path_factory.mktemp("quick")
    program = [sys.executable, str(EXPERIMENTS / "qnn_ablation.py"), "--quick", "--film", "12"]
    command = [
        *program,
        "--cache",
        str(folder / "cache"),
        "--json",
        str(folder / "found.json"),
        "--markdown",
        str(folder / "found.md"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "up to step 30" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=120)
    left = sorted(path.suffix for path in (folder / "cache").rglob("*") if path.is_file())
    runs = [subprocess.run(command, capture_output=True, text=True, timeout=280, check=False) for _ in "12"]
    interrupted = (process.returncode, complaint, left)
    return interrupted, runs, json.loads((folder / "found.json").read_text()), (folder / "found.md").read_text()


def test_an_interrupted_run_leaves_whole_files_and_is_gone_on_with(quick):
    status, complaint, left = quick[0]
    assert status == 130
    assert complaint.splitlines()[-1] == "qnn_ablation: interrupted; the same command goes on from here"
    assert ".safetensors" in left
    assert set(left) <= {".safetensors", ".json"}
    assert "up to step 30" not in quick[1][0].stdout


def test_a_quick_run_measures_every_variant_and_is_not_repeated(quick):
    _, (first, second), found, text = quick
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert second.stdout.startswith("5 runs: 5 are in the cache, 0 to do")
    assert second.stdout.endswith(text)
    rows = {one["variant"]: one for one in found["rows"]}
    assert set(rows) == {"alone", "joint", "detached", "posthoc", "alone-time"}
    for one in rows.values():
        assert (len(one["train_views"]), len(one["held_out_views"])) == (52, 8)
        assert len(one["held_out"]["band_psnr"]) == 5
        assert 10 < one["held_out"]["psnr"] < 40
        assert one["cpu_seconds"] > 0
        assert one["film"]["frames"] == 12
        assert list(one["gaps"]) == list(one["held_out_views"])
        assert one["gap"] == pytest.approx(mean(one["gaps"].values()), abs=1e-4)
    for name in ("alone", "alone-time"):
        assert rows[name]["film"]["flicker_ratio"] == 1
        assert rows[name]["film"]["base"] == rows[name]["film"]["head"]
    assert rows["joint"]["film"]["flicker_ratio"] != 1
    assert rows["posthoc"]["film"]["base"] == rows["alone"]["film"]["base"]
    assert rows["alone"]["parameters"] is None
    for name, iterations in (("joint", 40), ("detached", 40), ("posthoc", 50)):
        assert rows[name]["parameters"] == 78_531
        assert rows[name]["iterations"] == iterations
        assert rows[name]["mean_residual"] > 0
        assert 0 <= rows[name]["dead_units"] < 1
    for name in ("detached", "posthoc"):
        assert rows[name]["held_out_base"] == rows["alone"]["held_out"]
        assert rows[name]["held_out"] != rows["alone"]["held_out"]
    assert rows["joint"]["held_out_base"] != rows["alone"]["held_out"]
    longer = rows["joint"]["cpu_seconds"] / rows["alone"]["cpu_seconds"]
    assert rows["alone-time"]["iterations"] % 8 == 0
    assert 40 * longer <= rows["alone-time"]["iterations"] < 40 * longer + 8


@pytest.mark.parametrize("name", ["plus", "plus-unweighed", "plus-features", "plus-mean-features"])
def test_two_sets_are_filmed_and_their_base_is_the_first_of_them(name, tmp_path, monkeypatch):
    monkeypatch.setattr("qsplat.training.plus.PlusConfig", partial(PlusConfig, head_steps=20))
    learning, plan, variants = (module(name) for name in ("ablation_learning", "ablation_plan", "ablation_variants"))
    capture = module("captures").read_capture(STILLLIFE, max_side=48, holdout_every=8)
    cell = plan.Cell(capture, "every8", 0, 40, 10, 200, film=12)
    laboratory = learning.Laboratory(module("ablation_cache").Cache(tmp_path), "here")
    chosen = variants.VARIANTS[name]
    variant = replace(chosen, photos=2 if chosen.photos else 0)
    row, alone = laboratory.plus(cell, variant), laboratory.measured(cell, *laboratory.finished(cell, averaged=False))
    assert row["sets"] == 2
    assert (row["belief"] is None) == (not variant.photos)
    channels = 78_531 + 8 * 9 * 64 + 8 * row["splats"] if variant.features else 0
    assert row["parameters"] == channels + (80_833 if variant.photos else 0)
    assert row["head_cpu_seconds"] > 0
    assert row["held_out_base"] == alone["held_out"]
    assert row["held_out"] != alone["held_out"]
    assert row["film"]["flicker_ratio"] != 1
    assert row["film"]["step_pixels"] > 0
    assert row["splats"] > alone["splats"]


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("plus", PhotoConfig()),
        ("plus-photos-16", PhotoConfig(16)),
        ("plus-angle-0.5", PhotoConfig(angle=0.5)),
        ("plus-tolerance-0.3", PhotoConfig(tolerance=0.3)),
        ("plus-abrupt", PhotoConfig(fade=False)),
    ],
)
def test_photos_are_trusted_as_the_variant_says(name: str, config: PhotoConfig, tmp_path: Path, monkeypatch: Any):
    learning, plan, variants = (module(name) for name in ("ablation_learning", "ablation_plan", "ablation_variants"))
    capture = module("captures").read_capture(STILLLIFE, max_side=48, holdout_every=8)
    cell = plan.Cell(capture, "every8", 0, 8, 2, 50)
    asked = []

    def read(model: Any, scene: Any, variant: Any, plus: PlusConfig, witness: Any):
        asked.append(plus.photos)
        return model, {"leave_one_out": None, "photo_bytes": None}

    monkeypatch.setattr(module("ablation_plus"), "with_photos", read)
    learning.Laboratory(module("ablation_cache").Cache(tmp_path), "here").plus(cell, variants.VARIANTS[name])
    assert asked == [config]


def test_a_film_that_cannot_be_measured_says_why():
    """Cameras in one place have no path between them; what was scored is kept all the same."""
    still = scene(8)
    still = replace(still, train=tuple(replace(view, camera=still.train[0].camera) for view in still.train[:2]))
    still = replace(still, test=(replace(still.test[0], camera=still.train[0].camera),))
    nothing = Gaussians(*(torch.zeros(0, *size) for size in ((3,), (3,), (4,), (), (3,), (0, 3))))
    found = module("ablation_film").filmed(still, SplatModel(nothing), 12)
    assert set(found) == {"failed"}
    assert "in one place" in found["failed"]


def test_a_film_is_a_run_of_its_own_on_the_same_base():
    plan, variants = module("ablation_plan"), module("ablation_variants").VARIANTS
    capture = module("captures").read_capture(STILLLIFE, max_side=48, holdout_every=8)
    cell = plan.Cell(capture, "every8", 0, 40, 10, 200)
    plain, film = (plan.runs_of(each, [variants["joint"]])[-1] for each in (cell, replace(cell, film=12)))
    assert plain.key != film.key
    assert plain.base == film.base


def test_weighed_sets_are_a_run_of_their_own():
    plan, variants = module("ablation_plan"), module("ablation_variants")
    capture = module("captures").read_capture(STILLLIFE, max_side=48, holdout_every=8)
    cell = plan.Cell(capture, "every8", 0, 40, 10, 200)
    weighed, alike = plan.runs_of(cell, [variants.VARIANTS[name] for name in ("plus", "plus-unweighed")])
    assert weighed.key != alike.key
    assert weighed.base == alike.base
    with pytest.raises(ValueError, match="without photos: give photos, or no trust"):
        variants.Plus("one", "photos", "no photos", photos=0, trust={"angle": 2.0})
    with pytest.raises(ValueError, match="sets=1, photos=8"):
        variants.Plus("one", "photos", "nothing to weigh", sets=1, weighed=True)


def test_a_run_with_photos_is_another_one_when_its_head_learns_differently(monkeypatch):
    plan, variants = module("ablation_plan"), module("ablation_variants").VARIANTS
    capture = module("captures").read_capture(STILLLIFE, max_side=48, holdout_every=8)
    cell = plan.Cell(capture, "every8", 0, 40, 10, 200)

    def keys():
        return {name: plan.runs_of(cell, [variants[name]])[-1].key for name in ("plus", "plus-mean", "joint", "alone")}

    before = keys()
    changes = ({"head_steps": 7}, {"crop_share": 0.3}, {"photos": PhotoConfig(angle=2.0)}, {"head": QnnConfig()})
    for change in changes:
        monkeypatch.setattr("qsplat.training.plus.PlusConfig", partial(PlusConfig, **change))
        after = keys()
        assert {name for name in before if before[name] != after[name]} == {"plus"}


@pytest.mark.parametrize("averaged", [False, True])
def test_photos_are_given_back_as_in_a_training_that_is_not_cut_in_pieces(averaged, tmp_path):
    learning, plan = module("ablation_learning"), module("ablation_plan")
    capture = module("captures").read_capture(STILLLIFE, max_side=48, holdout_every=8)
    cell = plan.Cell(capture, "every8", 0, 40, 10, 200, unseen=8)
    laboratory = learning.Laboratory(module("ablation_cache").Cache(tmp_path), "here")
    whole, config = learning.scene_of(replace(cell, unseen=0)), learning.base_config(cell, averaged=averaged)
    part = learning.scene_of(cell)
    assert len(part.train) == len(whole.train) - len(whole.train) // 8
    training = learning.begin(part, config)
    training.advance(36)
    before = training.model().gaussians
    training = training.fork(config, scene=whole)
    training.advance()
    for _ in range(2):
        found, spent, witness = laboratory.given_back(cell, averaged=averaged)
        assert torch.equal(witness.means, before.means)
        assert torch.equal(found.model().gaussians.means, training.model().gaussians.means)
        assert found.step == 40
        assert spent.cpu > 0

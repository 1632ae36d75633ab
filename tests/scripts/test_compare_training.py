"""What the trainer of a comparison does with real, tiny trainings."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from comparison.courses import PlusCourse, course_for
from comparison.methods import METHODS
from comparison.pacing import WATCHED, spend
from comparison.plan import Run, budget_of, captures_of
from comparison.stages import SplatStage
from comparison.training import ROWS, Trainer
from PIL import Image

from qsplat.fields.model import FieldModel
from qsplat.io.checkpoints import Checkpoint, save_checkpoint
from qsplat.io.scene import Scene
from qsplat.io.transforms import load_scene
from qsplat.metrics.psnr import psnr
from qsplat.qnn import QnnConfig
from qsplat.training.config import FitConfig
from qsplat.training.densification import DefaultDensification
from qsplat.training.model import SplatModel
from qsplat.training.plus import NEXT_SET
from qsplat.training.schedule import Schedule
from qsplat.training.training import Training
from qsplat.training.unseen import UNSEEN, given_back, unseen_photos, without_unseen
from scripts.experiments.ablation_cache import code_digest

STILLLIFE = Path(__file__).parents[2] / "scenes" / "stilllife"
COMPARISON = Path(__file__).parents[2] / "scripts" / "comparison"
SIDE, MOST = 48, 400


@pytest.fixture(scope="module")
def scene() -> Scene:
    whole = load_scene(STILLLIFE, max_side=SIDE)
    return replace(whole, train=whole.train[::6], test=whole.test[:2])


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run_of(method: str, budget: str = "24") -> Run:
    capture = captures_of([STILLLIFE], max_side=SIDE)[0]
    return Run(capture, METHODS[method], 0, budget_of(budget), MOST)


@pytest.fixture(scope="module")
def found():
    return Trainer()(run_of("splat"))


def test_a_row_says_what_came_of_the_run_and_what_it_took(found):
    assert found["iterations"] == 24
    assert found["views"] == [52, 8]
    assert len(found["per_view"]) == 8
    assert found["mean"]["psnr"] == pytest.approx(
        np.mean([view["psnr"] for view in found["per_view"].values()]), abs=1e-4
    )
    assert found["parameters"] == 59 * found["gaussians"]
    assert 0 < found["train_seconds"] <= 2 * found["wall_seconds"]
    assert found["fps"] > 0
    assert [point["share"] for point in found["curve"]] == list(WATCHED)
    assert found["curve"][-1]["iterations"] == 24
    assert found["curve"][-1]["psnr"] > found["curve"][0]["psnr"]
    assert found["code"] == code_digest(ROWS, COMPARISON)


def test_a_row_is_marked_by_the_scripts_that_make_it():
    shown = {"__init__", "cluster", "page", "progress", "tables"}
    assert set(ROWS) | shown == {path.stem for path in COMPARISON.glob("*.py")}


def test_pictures_are_those_that_were_measured(found):
    assert len(found["pictures"]) == 3
    for shown in found["pictures"]:
        photo, image = (
            np.asarray(Image.open(io.BytesIO(base64.b64decode(shown[name])))) / 255 for name in ("photo", "image")
        )
        seen = -10 * np.log10(np.square(photo - image).mean())
        assert seen == pytest.approx(shown["psnr"], abs=0.05)
        assert shown["psnr"] == pytest.approx(found["per_view"][shown["view"]]["psnr"], abs=1e-4)


def test_the_same_run_finds_the_same_again(found):
    again = Trainer()(run_of("splat"))
    for name in ("mean", "per_view", "pictures", "parameters", "bytes"):
        assert again[name] == found[name]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_within_its_iterations(method, scene):
    course = course_for(METHODS[method], scene, seed=0, gaussians=MOST)
    psnrs = []

    def watch(spent):
        if spent.share in (WATCHED[0], 1.0):
            view = scene.train[0]
            with torch.no_grad():
                psnrs.append(psnr(course.model().render(view.camera).rgb, view.image))

    spent = spend(course.parts(), budget_of("30"), watch)
    assert spent.iterations == 30
    assert psnrs[1] > psnrs[0] + 0.5
    size = course.size()
    assert size.bytes > size.parameters > 0
    assert (size.gaussians is None) == isinstance(course.model(), FieldModel)


def test_a_run_of_seconds_ends_with_its_plan_and_with_a_network_that_has_learnt(scene):
    course = course_for(METHODS["qsplat"], scene, seed=0, gaussians=MOST)
    parts = list(course.parts())
    spent = spend(iter(parts), budget_of("1s"), lambda so_far: None)
    stage = parts[0].stage
    assert isinstance(stage, SplatStage)
    assert spent.iterations == stage.step == stage.training.schedule.iterations
    assert stage.training.schedule.phase_at(stage.step - 1) == "joint"
    model = course.model()
    assert isinstance(model, SplatModel)
    assert model.head is not None
    assert any(bool(parameter.any()) for parameter in list(model.head.parameters())[-2:])


def test_the_size_of_splats_is_that_of_their_checkpoint(scene, tmp_path):
    course = course_for(METHODS["qsplat"], scene, seed=0, gaussians=MOST)
    spend(course.parts(), budget_of("20"), lambda so_far: None)
    model, path = course.model(), tmp_path / "model.safetensors"
    assert isinstance(model, SplatModel)
    save_checkpoint(path, Checkpoint(model.gaussians, model.head, model.background))
    assert course.size().bytes == pytest.approx(path.stat().st_size, rel=0.02)


def config(*, head: bool) -> FitConfig:
    return FitConfig(
        Schedule(40), DefaultDensification(max_gaussians=MOST), head=QnnConfig(channels=8) if head else None
    )


def test_a_stage_that_is_planned_once_is_the_training_of_the_library(scene):
    stage = SplatStage(scene, config(head=True))
    stage.plan(40)
    for until in (7, 33, 40):
        stage.advance(until)
    plain = Training(scene, config(head=True)).fork(config(head=True))
    plain.advance()
    assert torch.equal(stage.training.model().gaussians.means, plain.model().gaussians.means)
    view = scene.test[0].camera
    assert torch.equal(stage.training.model().render(view).rgb, plain.model().render(view).rgb)


def test_a_network_that_is_on_stays_on_when_the_plan_grows(scene):
    stage = SplatStage(scene, config(head=True))
    stage.plan(20)
    assert stage.turn == 15
    stage.advance(16)
    assert stage.turn is None
    stage.plan(40)
    assert stage.training.schedule.head_start == 15
    assert stage.training.schedule.phase_at(17) == "joint"
    assert SplatStage(scene, config(head=False)).turn is None


@pytest.mark.parametrize("unseen", [UNSEEN, 2])
def test_the_sets_of_plus_are_shown_once_they_are_finished(scene, unseen):
    """Of 9 photos an eighth would be too few to be kept from the last set."""
    course = course_for(METHODS["qsplat-plus"], scene, seed=3, gaussians=MOST)
    assert isinstance(course, PlusCourse)
    course = PlusCourse(scene, replace(course._config, unseen=unseen))
    shown = {}

    def watch(spent):
        model = course.model()
        shown[spent.share] = (len(model.sets), model.head is not None)
        assert (model.weights is not None) == (model.head is not None)

    spend(course.parts(), budget_of("40"), watch)
    assert shown[0.05] == shown[0.6] == (1, False)
    assert shown[1.0][0] == 2
    assert shown[1.0][1] or "did not help" in course.remarks()[0]
    first, second = course.model().sets
    assert not torch.equal(first.means[:10], second.means[:10])
    kept = unseen_photos(len(scene.train), unseen)
    assert len(kept) == {UNSEEN: 0, 2: 4}[unseen]
    own = replace(config(head=False), seed=3 + NEXT_SET, schedule=Schedule(18))
    alone = Training(without_unseen(scene, kept), own)
    alone = alone.fork(own)
    if kept:
        alone.advance(given_back(18))
        alone = alone.fork(own, scene=scene)
    alone.advance()
    assert torch.equal(second.means, alone.model().gaussians.means)


def test_a_set_whose_time_is_over_before_it_sees_all_photos_is_its_own_witness(scene):
    stage = SplatStage(scene, config(head=False), unseen=(2, 5))
    stage.plan(40)
    stage.advance(20)
    assert stage.witness is None
    stage.finish()
    assert stage.witness is not None
    assert stage.witness.unseen == (2, 5)
    assert torch.equal(stage.witness.gaussians.means, stage.training.model().gaussians.means)


def test_a_scene_that_holds_nothing_out_is_refused(scene, monkeypatch):
    monkeypatch.setattr("comparison.training._scene", lambda folder, side: replace(scene, test=()))
    with pytest.raises(ValueError, match="stilllife has 0 held-out views"):
        Trainer()(run_of("splat"))

"""qsplat-plus in nerfstudio's trainer: the photos that it keeps, what it learns from them, and whether that helps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.cameras.camera_paths import get_interpolated_camera_path
from nerfstudio.data.utils.dataloaders import FixedIndicesEvalDataloader
from nerfstudio.utils.eval_utils import eval_setup
from small_capture import camera_at, held_out, run, write_capture

from nerfstudio_plugin.cameras import camera_of, cameras_of, is_measured, mark_as_measured
from nerfstudio_plugin.plus_config import PhotoOptions
from nerfstudio_plugin.plus_model import QsplatPlusModel
from nerfstudio_plugin.runs import load_run
from qsplat.qnn.photos import PhotoQueries
from qsplat.training import photo_head
from qsplat.training.photo_head import photo_queries
from qsplat.training.unseen import unseen_photos

Configure = Callable[..., Any]


@pytest.fixture
def model(plus_run: Any) -> Any:
    return plus_run.pipeline.model.eval()


def test_photos_are_kept_nearly_as_they_were_taken(plus_run: Any, model: Any):
    photos = model.photos.views()
    original = plus_run.pipeline.datamanager.training_views(torch.device("cpu"))
    assert (
        0.2 > max(float((one.image - other.image).abs().max()) for one, other in zip(photos, original, strict=True)) > 0
    )
    for one, other in zip(photos, original, strict=True):
        assert torch.equal(one.camera.cam_from_world, other.camera.cam_from_world)
        assert (one.camera.fx, one.camera.width) == (other.camera.fx, other.camera.width)


@pytest.fixture
def judged(
    capture: Path, plus: Configure, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[float, int], tuple[Any, str]]:
    """Runs that find what the photos correct to gain so many dB, every so many-th photo being kept from the last set:
    the trainer, and what was said."""

    def judge(gain: float, unseen: int) -> tuple[Any, str]:
        monkeypatch.setattr("nerfstudio_plugin.plus_model.settle_belief", lambda *_: gain)
        trainer = run(plus(capture, iterations=20, photos=PhotoOptions(unseen=unseen)))
        return trainer, " ".join(capsys.readouterr().out.split())

    return judge


JUDGES = [
    (2, "over the last set of Gaussians on 4 photos that it had not seen yet"),
    (8, "by leave-one-out on 8 views of the training"),
]


@pytest.mark.parametrize(("unseen", "by"), JUDGES)
@pytest.mark.parametrize(("gain", "told"), [(-0.25, "-0.250"), (0.004, "+0.004")])
def test_what_does_not_help_is_switched_off(judged: Any, unseen: int, by: str, gain: float, told: str):
    trainer, said = judged(gain, unseen)
    assert f"does not help ({told} dB {by}) and is switched off" in said
    assert "is the mean of 2 sets of Gaussians, and no photo is kept" in said
    loaded = load_run(trainer.base_dir / "config.yml")
    for one in (trainer.pipeline.model, loaded.model):
        assert (len(one.photos), one.photos.num_bytes, len(one.photos.mask_files)) == (0, 0, 0)
    camera = loaded.views[0].camera
    assert loaded.model.qnn.stages[-1].weight.abs().max() > 0
    model = loaded.model
    mean = model._model([model._seen(one) for one in model._sets()]).mean(camera)
    torch.testing.assert_close(loaded.render(camera).rgb, mean.image.clamp(0, 1))
    assert any("switched off" in remark for remark in loaded.remarks)


def test_a_run_without_its_photos_is_not_resumed(judged: Any, capture: Path, plus: Configure):
    finished, _ = judged(-0.25, 8)
    config = plus(capture, iterations=5)
    config.load_dir = finished.checkpoint_dir
    with pytest.raises(SystemExit, match=r"^qsplat: .* is finished, .* was switched off: .* begin a new run$"):
        run(config)


@pytest.mark.parametrize(("unseen", "by"), JUDGES)
def test_what_helps_is_said_with_its_gain_and_what_the_photos_take(judged: Any, unseen: int, by: str):
    trainer, said = judged(0.25, unseen)
    photos = trainer.pipeline.model.photos
    assert f"gains 0.25 dB {by}; the 8 photos take {photos.num_bytes}" in said


def test_the_last_set_does_not_see_at_first_what_the_belief_comes_from(
    capture: Path, plus: Configure, monkeypatch: pytest.MonkeyPatch
):
    """Sets up to 100, 200 and 300 of 500 iterations, all photos from 290 on, then the network. The belief is that of
    ``fit_belief``."""
    seen: dict[int, set[int]] = {}
    outputs, fit = QsplatPlusModel.get_outputs, photo_head.fit_belief
    judge = QsplatPlusModel._judge
    fitted: list[tuple[torch.Tensor, Sequence[int]]] = []
    shown, witnessed = list[torch.Tensor](), list[torch.Tensor]()

    def watched(model: Any, camera: Any) -> Any:
        if model.training:
            part = sum(model.step >= begin for begin in (100, 200, 290, 300))
            seen.setdefault(part, set()).add(camera.metadata["cam_idx"])
        return outputs(model, camera)

    def noted(head: Any, photos: Any, views: Any, unseen: Sequence[int]) -> float:
        gain = fit(head, photos, views, unseen)
        shown.extend(view.image for view in views)
        fitted.append((head.belief.clone(), unseen))
        return gain

    monkeypatch.setattr(QsplatPlusModel, "get_outputs", watched)

    def judged(model: Any) -> None:
        sets = [one.parameters_by_name for one in model.witness]
        witnessed.extend(view.image for view in model._draw_photos(sets))
        judge(model)

    monkeypatch.setattr(QsplatPlusModel, "_judge", judged)
    monkeypatch.setattr(photo_head, "fit_belief", noted)
    trainer = run(plus(capture, iterations=500, sets=3, photos=PhotoOptions(unseen=2)))
    unseen = unseen_photos(8, 2)
    everything = set(range(8))
    assert len(unseen) == 4
    assert seen == {0: everything, 1: everything, 2: everything - set(unseen), 3: everything, 4: everything}
    ((belief, of),) = fitted
    assert tuple(of) == unseen
    assert len(witnessed) == 8
    assert all(torch.equal(one, other) for one, other in zip(shown, witnessed, strict=True))
    _, loaded, _, _ = eval_setup(trainer.base_dir / "config.yml")
    assert torch.equal(loaded.model.qnn.belief, belief)


def test_a_view_of_the_training_that_is_measured_does_not_read_its_own_photo(plus_run: Any):
    """All of one photo is poisoned: its own view stays as it was, another one does not, nor does its own where it is
    only shown."""
    model = copy.deepcopy(plus_run.pipeline.model).eval()
    views = plus_run.pipeline.datamanager.train_dataset
    cameras = [camera_at(views, 3), camera_at(views, 4), cameras_of([camera_of(camera_at(views, 3))])]
    before = [model.get_outputs_for_camera(camera)["rgb"] for camera in cameras]
    model._head.photos._photos[3].image[..., :3] = 5.0
    after = [model.get_outputs_for_camera(camera)["rgb"] for camera in cameras]
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])
    assert not torch.equal(before[2], after[2])


def test_a_path_past_a_photo_does_not_jump_there(plus_run: Any, model: Any):
    """What is corrected changes no more from the frame before the photo to that at its pose than from that to the next
    one, and much less than if the frame there did not read the photo."""
    views = plus_run.pipeline.datamanager.train_dataset
    own = camera_of(camera_at(views, 3))

    def corrected(offset: float, *, measured: bool = False) -> torch.Tensor:
        pose = own.cam_from_world.clone()
        pose[0, 3] += offset
        camera = cameras_of([replace(own, cam_from_world=pose)])
        if measured:
            mark_as_measured(camera)
        outputs = model.get_outputs_for_camera(camera)
        return outputs["rgb"] - outputs["rgb_base"]

    frames = [corrected(0.002 * number) for number in (-2, -1, 0, 1, 2)]
    steps = [float((after - before).abs().mean()) for before, after in pairwise(frames)]
    left_out = float((corrected(0, measured=True) - frames[1]).abs().mean())
    assert max(steps) < 2 * min(steps)
    assert left_out > 3 * max(steps)


def test_cameras_of_photos_are_measured_and_those_of_paths_are_not(plus_run: Any):
    manager = plus_run.pipeline.datamanager
    loaded = [
        FixedIndicesEvalDataloader(views).get_camera(1)[0] for views in (manager.train_dataset, manager.eval_dataset)
    ]
    assert all(is_measured(camera) for camera, _ in manager.fixed_indices_eval_dataloader)
    assert is_measured(manager.next_eval_image(0)[0])
    assert all(is_measured(camera) for camera in loaded)
    assert not is_measured(get_interpolated_camera_path(manager.train_dataset.cameras, steps=1, order_poses=False))


def test_a_photo_is_found_by_its_pose_at_any_resolution(model: Any):
    cameras = [view.camera for view in model.photos.views()]
    for index, camera in enumerate(cameras):
        assert model.photos.index_of(camera) == index
        assert model.photos.index_of(camera.resized(2 * camera.width, 2 * camera.height)) == index
    moved = cameras[2].cam_from_world.clone()
    moved[0, 3] += 1e-3
    assert model.photos.index_of(replace(cameras[2], cam_from_world=moved)) is None
    assert model.photos.index_of(replace(cameras[2], fx=1.01 * cameras[2].fx)) == 2


def test_of_photos_from_one_place_that_of_the_same_lens_is_found(model: Any):
    photos = copy.deepcopy(model.photos)
    photos.poses[5] = photos.poses[2]
    photos.lenses[5, :2] *= 1.5
    narrow, wide = photos.cameras()[5], photos.cameras()[2]
    assert (photos.index_of(narrow), photos.index_of(wide)) == (5, 2)
    assert photos.index_of(narrow.resized(2 * narrow.width, 2 * narrow.height)) == 5


def test_a_run_without_a_witness_is_judged_by_leave_one_out(judged: Any, monkeypatch: pytest.MonkeyPatch):
    """As one that goes on from a checkpoint of another version."""
    monkeypatch.setattr(QsplatPlusModel, "_call_witness", lambda model: None)
    _, said = judged(0.25, 2)
    assert "gains 0.25 dB by leave-one-out on 8 views of the training" in said


def test_a_damaged_photo_is_refused_in_one_sentence(plus_run: Any):
    model = copy.deepcopy(plus_run.pipeline.model).eval()
    model.photos.photo_files[: int(model.photos.photo_ends[0])] = 0
    model._shown, model._head.photos = [], PhotoQueries([])
    with pytest.raises(SystemExit, match="qsplat: a photo that the model keeps is damaged"):
        model.get_outputs_for_camera(held_out(plus_run))


def test_a_capture_that_holds_nothing_out_is_measured_by_leave_one_out(tmp_path: Path, capture: Path, plus: Configure):
    config = plus(capture, iterations=30)
    config.pipeline.datamanager.dataparser.holdout_every = 0
    config.save_config()
    measured = load_run(run(config).base_dir / "config.yml")
    assert not measured.held_out
    assert [measured.model.photos.index_of(view.camera) for view in measured.views] == list(range(len(measured.views)))
    camera = measured.views[3].camera
    before = measured.render_measured(camera).rgb, measured.render(camera).rgb
    measured.model._head.photos._photos[3].image[..., :3] = 5.0
    assert torch.equal(measured.render_measured(camera).rgb, before[0])
    assert not torch.equal(measured.render(camera).rgb, before[1])


def test_the_sets_of_a_run_are_weighed_by_its_photos(plus_run: Any, model: Any, monkeypatch: pytest.MonkeyPatch):
    camera = held_out(plus_run)
    shown = model.get_outputs_for_camera(camera)["rgb"]
    assert model._is_on
    assert model._weights is not None
    monkeypatch.setattr(model, "_weights", None)
    assert not torch.equal(model.get_outputs_for_camera(camera)["rgb"], shown)


@pytest.mark.parametrize("kind", ["masked", "transparent"])
def test_masks_and_transparent_photos_are_kept(kind: str, tmp_path: Path, plus: Configure):
    config = plus(write_capture(tmp_path / kind, **{kind: True}), iterations=40)
    config.pipeline.model.photos.max_side = 24
    config.save_config()
    trainer = run(config)
    views = trainer.pipeline.model.photos.views()
    assert {tuple(view.image.shape) for view in views} == {(18, 24, 3)}
    assert {(view.camera.width, view.camera.fx) for view in views} == {(24, 25.0)}
    if kind == "masked":
        assert all(view.mask is not None and not view.mask[:, :12].any() and view.mask[:, 12:].all() for view in views)
    else:
        assert all(view.mask is None for view in views)
        for view, photo in zip(views, trainer.pipeline.datamanager.training_views(torch.device("cpu")), strict=True):
            over_white = photo.image + 1 - photo.alpha[..., None]
            halved = torch.nn.functional.avg_pool2d(over_white.permute(2, 0, 1), 2).permute(1, 2, 0)
            assert float((view.image - halved).abs().mean()) < 0.02
    loaded = load_run(trainer.base_dir / "config.yml")
    assert torch.isfinite(loaded.render(loaded.views[0].camera).rgb).all()


def test_the_network_learns_from_photos_as_they_were_taken_and_reads_those_that_are_kept(
    tmp_path: Path, plus: Configure
):
    """Photos that are spoilt in keeping are no measure of what they are worth to other views."""
    config = plus(write_capture(tmp_path / "capture"), iterations=40)
    config.pipeline.model.photos.quality = 1
    trainer = run(config)
    model = trainer.pipeline.model
    taken = trainer.pipeline.datamanager.training_views(torch.device("cpu"))
    drawn = model._draw_photos(model._sets())
    for view, kept, photo in zip(model._shown_views(), drawn, taken, strict=True):
        assert torch.equal(view.photo, photo.image)
        assert float((kept.photo - photo.image).abs().mean()) > 0.02
        assert torch.equal(view.image, kept.image)
    for ours, theirs in zip(model._head.photos._photos, photo_queries(drawn)._photos, strict=True):
        assert torch.equal(ours.image, theirs.image)

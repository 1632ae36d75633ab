"""qsplat-plus in nerfstudio's trainer: sets of Gaussians one after the other, kept photos, and the network on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.utils.eval_utils import eval_setup
from small_capture import HEIGHT, WIDTH, held_out, run

from nerfstudio_plugin.plus_config import PhotoOptions
from nerfstudio_plugin.plus_model import QsplatPlusModel
from nerfstudio_plugin.runs import load_run
from qsplat.io.ply import read_gaussians
from qsplat.qnn.photos import PhotoConfig
from qsplat.training.averaging import Averager
from qsplat.training.unseen import unseen_photos

Configure = Callable[..., Any]
OUTPUTS = {"rgb", "rgb_base", "residual", "depth", "accumulation"}


@pytest.fixture
def model(plus_run: Any) -> Any:
    return plus_run.pipeline.model.eval()


def gaussians(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.gauss_params.items()}


def test_a_run_has_two_sets_its_photos_and_a_network_that_helps(plus_run: Any, model: Any):
    assert len(model.companions) == 1
    assert not torch.equal(model.companions[0].means, model.means)
    assert len(model.photos) == model.num_train_data
    assert model._gain > 0
    outputs = model.get_outputs_for_camera(held_out(plus_run))
    assert set(outputs) == OUTPUTS
    for name, image in outputs.items():
        assert image.shape == (HEIGHT, WIDTH, 1 if name in ("depth", "accumulation") else 3)
        assert bool(torch.isfinite(image).all())


def test_a_set_is_trained_as_plain_splatting_trains_it(capture: Path, plus: Configure, configured: Configure):
    plain = configured(capture, iterations=12)
    plain.pipeline.model.qnn = "none"
    plain.pipeline.model.average_share = 0.5
    expected = gaussians(run(plain).pipeline.model)
    model = run(plus(capture, iterations=40, sets=2, average_share=0.5)).pipeline.model
    for name, value in gaussians(model).items():
        assert torch.equal(value, expected[name]), name


def test_each_set_starts_anew_by_its_own_schedule(capture: Path, plus: Configure, monkeypatch: pytest.MonkeyPatch):
    starts, before = {}, QsplatPlusModel.step_cb

    def watched(model: Any, optimizers: Any, step: int) -> None:
        before(model, optimizers, step)
        states = [optimizer.state for name, optimizer in optimizers.optimizers.items() if name != "qnn"]
        starts[step] = model._plan_step, optimizers.optimizers["means"].param_groups[0]["lr"], any(states)

    monkeypatch.setattr(QsplatPlusModel, "step_cb", watched)
    run(plus(capture, iterations=25, sets=3))
    assert starts[0] == starts[5] == starts[10] == (0, 1.6e-4, False)
    assert starts[4][0] == starts[9][0] == starts[14][0] == 4
    assert starts[4][1] == starts[14][1] < 1.6e-4
    assert starts[15][0] == 15


def test_only_the_network_moves_in_the_end(capture: Path, plus: Configure):
    first = run(plus(capture, iterations=20))
    assert {int(state["step"]) for state in first.optimizers.optimizers["qnn"].state.values()} == {8}
    assert not first.optimizers.optimizers["means"].state
    rates = [group["lr"] for group in first.optimizers.optimizers["qnn"].param_groups]
    assert 0 < rates[0] < 1e-3


def test_the_run_is_loaded_and_measured(plus_run: Any, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    from evaluate import Options, evaluate_run

    shown = model.get_outputs_for_camera(held_out(plus_run))
    measured = load_run(plus_run.base_dir / "config.yml")
    again = measured.render(measured.views[0].camera)
    torch.testing.assert_close(again.rgb, shown["rgb"], atol=1e-6, rtol=0)
    torch.testing.assert_close(again.depth, shown["depth"][..., 0])
    assert measured.facts.num_gaussians == model.num_points + len(model.companions[0].means)
    options = Options(load_config=plus_run.base_dir / "config.yml", output=tmp_path / "out.json", max_pictures=1)
    report = evaluate_run(options, run=measured)
    assert any("mean of 2 sets" in note for note in report.notes)
    assert report.mean.psnr > report.base.psnr


def test_a_model_shows_the_same_without_any_capture(plus_run: Any, model: Any):
    fresh = plus_run.config.pipeline.model.setup(
        scene_box=model.scene_box,
        num_train_data=model.num_train_data,
        metadata={"alpha_color": None, "transparent": False},
        device="cpu",
        grad_scaler=None,
        seed_points=None,
    ).eval()
    fresh.load_state_dict(model.state_dict())
    fresh.update_to_step(plus_run.step)
    camera = held_out(plus_run)
    ours, theirs = (one.get_outputs_for_camera(camera) for one in (fresh, model))
    for name in OUTPUTS:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "at",
    [10, 22, 40, 56, 59, 70],
    ids=["first set", "its mean", "second set", "before its last tenth", "at its end", "network"],
)
def test_a_run_is_resumed_in_each_phase(at: int, capture: Path, plus: Configure, monkeypatch: pytest.MonkeyPatch):
    """Blocks of 30 iterations, the network from 60 on, 100 in all. The mean of a set has addends from 19 on, and the
    second one sees all photos from 57 on."""
    witnesses, judge = list[torch.Tensor](), QsplatPlusModel._judge

    def judged(model: Any) -> None:
        witnesses.extend(one.means for one in model.witness)
        judge(model)

    monkeypatch.setattr(QsplatPlusModel, "_judge", judged)
    options: dict[str, Any] = {"average_share": 0.5, "photos": PhotoOptions(unseen=2)}
    config = plus(capture, iterations=100, **options)
    config.steps_per_save = at
    config.save_only_latest_checkpoint = False
    whole = run(config)
    again = plus(capture, iterations=99 - at, **options)
    again.load_dir, again.load_step = whole.checkpoint_dir, at
    shown_in_second, addends, outputs, average = (
        set[int](),
        list[float](),
        QsplatPlusModel.get_outputs,
        Averager.after_step,
    )

    def watched(model: Any, camera: Any) -> Any:
        if model.training and 30 <= model.step < 57:
            shown_in_second.add(camera.metadata["cam_idx"])
        return outputs(model, camera)

    def counted(averager: Averager, parameters: Any, *, step: int) -> None:
        addends.append(float(averager.state.get("count", 0)))
        average(averager, parameters, step=step)

    monkeypatch.setattr(QsplatPlusModel, "get_outputs", watched)
    monkeypatch.setattr(Averager, "after_step", counted)
    resumed = run(again)
    assert shown_in_second == (set(range(8)) - set(unseen_photos(8, 2)) if at < 56 else set())
    assert addends[:1] == {10: [0], 22: [1], 40: [0], 56: [1], 59: [], 70: []}[at]
    ours, theirs = resumed.pipeline.model.eval(), whole.pipeline.model.eval()
    assert resumed.step == whole.step == 99
    assert ours.schedule == theirs.schedule
    assert len(ours.companions) == len(theirs.companions) == 1
    assert ours._gain is not None
    if at >= 30:
        first = (ours if at < 60 else theirs).gauss_params
        assert all(torch.equal(value, theirs.gauss_params[name]) for name, value in first.items())
    assert len(witnesses) == 2
    assert len(ours.witness) == 0
    if at >= 56:
        assert torch.equal(*witnesses)
    if at >= 60:
        assert torch.equal(ours.companions[0].means, theirs.companions[0].means)
        assert torch.equal(ours.photos.photo_files, theirs.photos.photo_files)
    _, loaded, _, _ = eval_setup(resumed.base_dir / "config.yml")
    camera = held_out(resumed)
    shown = ours.get_outputs_for_camera(camera)["rgb"]
    torch.testing.assert_close(loaded.model.get_outputs_for_camera(camera)["rgb"], shown, atol=1e-6, rtol=0)


def test_a_stopped_run_shows_the_set_that_was_trained(capture: Path, plus: Configure):
    config = plus(capture, iterations=100)
    config.steps_per_save = 40
    config.save_only_latest_checkpoint = False
    trainer = run(config)
    (trainer.checkpoint_dir / "step-000000099.ckpt").unlink()
    (trainer.checkpoint_dir / "step-000000080.ckpt").unlink()
    stopped = load_run(trainer.base_dir / "config.yml")
    shown = stopped.render(stopped.views[0].camera)
    assert torch.equal(shown.rgb, shown.rgb_base)
    assert stopped.facts.num_gaussians == stopped.model.num_points
    assert "stopped" in stopped.remarks[0]


def test_without_the_network_the_viewer_sees_the_first_set(plus_run: Any, model: Any):
    camera = held_out(plus_run)
    whole = model.get_outputs_for_camera(camera)
    model.show_qnn.value = False
    plain = model.get_outputs_for_camera(camera)
    model.show_qnn.value = True
    torch.testing.assert_close(plain["rgb"], whole["rgb_base"])
    assert not torch.equal(plain["rgb"], whole["rgb"])


def test_a_crop_box_hides_all_sets(plus_run: Any, model: Any):
    from nerfstudio.data.scene_box import OrientedBox

    far_away = OrientedBox.from_params((50.0, 0.0, 0.0), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    outputs = model.get_outputs_for_camera(held_out(plus_run), obb_box=far_away)
    model.crop_box = None
    assert not outputs["accumulation"].any()


WRONG_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "sets": ({"sets": 0}, "sets=0"),
    "more sets than iterations": ({"sets": 200}, "sets=200"),
    "random background": ({"background_color": "random"}, "random"),
    "bilateral grid": ({"use_bilateral_grid": True}, "use-bilateral-grid"),
    "camera optimizer": ({"camera_optimizer": CameraOptimizerConfig(mode="SO3xR3")}, "SO3xR3"),
    "start": ({"qnn_options.start": 1.0}, "switch-on at 1.0"),
    "kernel": ({"qnn_options.kernel": 2}, "kernel=2"),
    "crop": ({"qnn_options.crop_share": 0.0}, "crop_share=0.0"),
    "count": ({"photos.count": 0}, "count=0"),
    "tolerance": ({"photos.tolerance": 0.0}, "tolerance=0.0"),
    "quality": ({"photos.quality": 101}, "quality=101"),
    "size": ({"photos.max_side": 0}, "max_side=0"),
    "unseen": ({"photos.unseen": 1}, "unseen=1"),
    "mean": ({"average_share": 0.7}, "average_share=0.7"),
}


@pytest.mark.parametrize("case", WRONG_OPTIONS)
def test_what_a_run_cannot_have_is_refused_in_one_sentence(case: str, capture: Path, plus: Configure):
    options, said = WRONG_OPTIONS[case]
    config = plus(capture)
    for name, value in options.items():
        *owner, last = name.split(".")
        setattr(getattr(config.pipeline.model, owner[0]) if owner else config.pipeline.model, last, value)
    with pytest.raises(SystemExit, match=said) as refusal:
        run(config)
    assert str(refusal.value).startswith("qsplat: ")
    assert "\n" not in str(refusal.value)
    assert not config.get_checkpoint_dir().exists()


def test_other_photos_are_not_kept_from_a_resumed_run(plus_run: Any, capture: Path, plus: Configure):
    config = plus(capture, iterations=4, photos=PhotoOptions(unseen=2))
    config.load_dir = plus_run.checkpoint_dir
    with pytest.raises(SystemExit, match=r"'unseen': 8.*'unseen': 2.*photos\.unseen"):
        run(config)


def test_a_checkpoint_of_another_plan_is_refused(plus_run: Any, capture: Path, plus: Configure):
    config = plus(capture, iterations=4, sets=3)
    config.load_dir = plus_run.checkpoint_dir
    trainer = config.setup(local_rank=0, world_size=1)
    with pytest.raises(SystemExit, match=r"--pipeline\.model\.sets"):
        trainer.setup()


def test_ns_render_and_ns_eval_take_the_run(plus_run: Any, tmp_path: Path):
    from nerfstudio.scripts.eval import ComputePSNR
    from nerfstudio.scripts.render import DatasetRender

    config = plus_run.base_dir / "config.yml"
    DatasetRender(load_config=config, output_path=tmp_path).main()
    assert {folder.name for folder in (tmp_path / "test").iterdir()} == {"gt-rgb", *OUTPUTS}
    ComputePSNR(load_config=config, output_path=tmp_path / "results.json").main()
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    assert results["psnr"] > results["psnr_base"]


def test_ns_export_writes_the_first_set_and_says_so(plus_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    try:
        from nerfstudio.scripts.exporter import ExportGaussianSplat
    except (ImportError, OSError) as error:
        pytest.skip(f"nerfstudio's exporter cannot be imported here: {error}")
    ExportGaussianSplat(load_config=plus_run.base_dir / "config.yml", output_dir=tmp_path).main()
    assert 0 < len(read_gaussians(tmp_path / "splat.ply")) <= plus_run.pipeline.model.num_points
    assert [path.name for path in tmp_path.iterdir()] == ["splat.ply"]
    assert "holds one set of Gaussians" in " ".join(capsys.readouterr().out.split())


def test_the_options_are_those_of_the_command_line():
    import tyro
    from nerfstudio.configs.method_configs import all_methods

    default = all_methods["qsplat-plus"]
    given = {"sets": "3", "qnn.layers": "2", "qnn.start": "0.8", "photos.count": "4", "photos.max-side": "200"}
    given |= {"photos.tolerance": "0.2", "photos.angle": "0.5", "photos.fade": "False"}
    words = [word for name, value in given.items() for word in (f"--pipeline.model.{name}", value)]
    parsed = tyro.cli(tyro.conf.FlagConversionOff[type(default)], default=default, args=words).pipeline.model
    assert (parsed.sets, parsed.network().layers, parsed.schedule(10).head_start) == (3, 2, 8)
    assert parsed.photos.config() == PhotoConfig(count=4, tolerance=0.2, angle=0.5, fade=False)
    assert parsed.photos.max_side == 200
    for word in ("--pipeline.model.qnn.mode", "--pipeline.model.qnn"):
        with pytest.raises(SystemExit):
            tyro.cli(tyro.conf.FlagConversionOff[type(default)], default=default, args=[word, "none"])

"""The model in nerfstudio's trainer: training, resuming, evaluating, rendering, exporting."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.utils.eval_utils import eval_setup
from small_capture import HEIGHT, WIDTH, run, write_capture

from nerfstudio_plugin.cameras import camera_of
from nerfstudio_plugin.refusals import newest_checkpoint
from qsplat.io.checkpoints import load_checkpoint
from qsplat.io.ply import read_gaussians
from qsplat.training.crops import SMALLEST_SIDE
from qsplat.training.schedule import Schedule

Configure = Callable[..., Any]
OUTPUTS = {"rgb", "rgb_base", "residual", "depth", "accumulation"}


@pytest.fixture(scope="module")
def loaded(trained: Any) -> Any:
    """The pipeline that ns-eval, ns-render and ns-viewer load."""
    return eval_setup(trained.base_dir / "config.yml")[1]


@pytest.fixture
def evaluated(loaded: Any) -> Any:
    """The same, in evaluation mode, which nerfstudio's own evaluation leaves."""
    return loaded.eval()


def first_camera(pipeline: Any) -> Any:
    return pipeline.datamanager.eval_dataset.cameras[0:1]


def test_a_short_run_learns_the_scene(evaluated: Any):
    assert evaluated.get_average_eval_image_metrics()["psnr"] > 19


def test_the_schedule_follows_the_number_of_iterations(trained: Any):
    assert trained.pipeline.model.schedule == Schedule(300)


def test_the_network_is_trained_from_three_quarters_on(trained: Any):
    steps = {name: [s["step"] for s in o.state.values()] for name, o in trained.optimizers.optimizers.items()}
    assert {int(step) for step in steps["qnn"]} == {75}
    assert {int(step) for step in steps["means"]} == {300}


def test_outputs_are_images_of_the_cameras_size(evaluated: Any):
    outputs = evaluated.model.get_outputs_for_camera(first_camera(evaluated))
    assert set(outputs) == OUTPUTS
    for name, image in outputs.items():
        assert image.shape == (HEIGHT, WIDTH, 1 if name in ("depth", "accumulation") else 3)
        assert bool(torch.isfinite(image).all())


def test_without_the_network_the_viewer_sees_the_base_image(evaluated: Any):
    model, camera = evaluated.model, first_camera(evaluated)
    sharpened = model.get_outputs_for_camera(camera)
    model.show_qnn.value = False
    plain = model.get_outputs_for_camera(camera)
    model.show_qnn.value = True
    torch.testing.assert_close(plain["rgb"], sharpened["rgb_base"])
    assert not torch.equal(sharpened["rgb"], sharpened["rgb_base"])
    assert bool((plain["residual"] == 0.5).all())


def test_the_residual_is_shown_around_grey_by_the_gain_of_the_viewer(evaluated: Any):
    model, camera = evaluated.model, first_camera(evaluated)
    model.residual_gain.value = 1.0
    once = model.get_outputs_for_camera(camera)
    model.residual_gain.value = 2.0
    twice = model.get_outputs_for_camera(camera)
    expected = (0.5 + 2 * (once["residual"] - 0.5)).clamp(0, 1)
    torch.testing.assert_close(twice["residual"], expected, atol=1e-5, rtol=0)


def test_a_crop_box_hides_what_is_outside(evaluated: Any):
    from nerfstudio.data.scene_box import OrientedBox

    far_away = OrientedBox.from_params((50.0, 0.0, 0.0), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    outputs = evaluated.model.get_outputs_for_camera(first_camera(evaluated), obb_box=far_away)
    assert not outputs["accumulation"].any()


def test_a_checkpoint_gives_the_image_that_the_run_ended_with(trained: Any, evaluated: Any):
    camera = first_camera(evaluated)
    before = trained.pipeline.model.eval().get_outputs_for_camera(camera)["rgb"]
    torch.testing.assert_close(evaluated.model.get_outputs_for_camera(camera)["rgb"], before)


def test_a_resumed_run_goes_on_where_the_first_one_stopped(trained: Any, capture: Path, configured: Configure):
    config = configured(capture, iterations=5)
    config.load_dir = trained.checkpoint_dir
    resumed = config.setup(local_rank=0, world_size=1)
    resumed.setup()
    first, second = trained.pipeline.model, resumed.pipeline.model
    assert second.schedule == first.schedule
    assert second.num_points == first.num_points
    known = {
        id(parameter) for group in resumed.optimizers.optimizers["means"].param_groups for parameter in group["params"]
    }
    assert known == {id(second.means)}
    state = resumed.optimizers.optimizers["means"].state[second.means]
    torch.testing.assert_close(state["exp_avg"], trained.optimizers.optimizers["means"].state[first.means]["exp_avg"])
    before = second.means.detach().clone()
    resumed.train()
    assert resumed.step == 304
    assert not torch.equal(second.means, before)


def test_densification_changes_the_number_of_gaussians_and_resuming_keeps_it(capture: Path, configured: Configure):
    config = configured(capture, method="qsplat-mcmc", iterations=220)
    config.pipeline.model.densification = dataclasses.replace(config.pipeline.model.densification, max_gaussians=66)
    trainer = run(config)
    count = trainer.pipeline.model.num_points
    assert 33 < count <= 66
    assert eval_setup(trainer.base_dir / "config.yml")[1].model.num_points == count


def test_plain_splatting_has_no_network(capture: Path, configured: Configure):
    config = configured(capture, iterations=4)
    config.pipeline.model.qnn = "none"
    trainer = run(config)
    assert "qnn" not in trainer.optimizers.optimizers
    outputs = trainer.pipeline.model.eval().get_outputs_for_camera(first_camera(trainer.pipeline))
    torch.testing.assert_close(outputs["rgb"], outputs["rgb_base"])


def test_a_checkpoint_with_a_network_is_refused_by_a_run_without(trained: Any, capture: Path, configured: Configure):
    config = configured(capture, iterations=4)
    config.pipeline.model.qnn = "none"
    config.load_dir = trained.checkpoint_dir
    trainer = config.setup(local_rank=0, world_size=1)
    with pytest.raises(SystemExit, match=r"--pipeline\.model\.qnn"):
        trainer.setup()


def test_a_truncated_checkpoint_is_refused_in_one_sentence(trained: Any, capture: Path, configured: Configure):
    config = configured(capture, iterations=4)
    whole = newest_checkpoint(trained.checkpoint_dir)
    assert whole is not None
    folder = config.get_checkpoint_dir()
    folder.mkdir(parents=True)
    (folder / whole.name).write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(SystemExit, match="truncated"):
        eval_setup(config.get_base_dir() / "config.yml")
    config.load_dir = folder
    with pytest.raises(SystemExit, match="truncated"):
        config.setup(local_rank=0, world_size=1)


def test_a_checkpoint_of_any_name_is_resumed_from(trained: Any, capture: Path, configured: Configure, tmp_path: Path):
    newest = newest_checkpoint(trained.checkpoint_dir)
    assert newest is not None
    config = configured(capture, iterations=2)
    config.load_checkpoint = Path(shutil.copy(newest, tmp_path / "best.ckpt"))
    resumed = run(config)
    assert resumed.step == 301
    assert resumed.config.optimizers["camera_opt"]["scheduler"].max_steps == 302


def test_other_files_beside_the_checkpoints_do_not_matter(
    trained: Any, capture: Path, configured: Configure, tmp_path: Path
):
    config = configured(capture, iterations=2)
    folder = config.get_checkpoint_dir()
    shutil.copytree(trained.checkpoint_dir, folder)
    for name in ("step-foo.ckpt", "best.ckpt", "notes.txt"):
        (folder / name).write_text("not a checkpoint of nerfstudio's")
    assert eval_setup(config.get_base_dir() / "config.yml")[3] == 299
    again = configured(capture, iterations=2)
    again.load_dir = folder
    assert run(again).step == 301


def test_a_file_that_is_no_checkpoint_is_refused(capture: Path, configured: Configure, tmp_path: Path):
    config = configured(capture)
    config.load_checkpoint = tmp_path / "best.ckpt"
    torch.save({"weights": torch.zeros(1)}, config.load_checkpoint)
    with pytest.raises(SystemExit, match=r"best\.ckpt is no checkpoint of ns-train"):
        config.setup(local_rank=0, world_size=1)


def test_a_checkpoint_of_a_network_of_another_size_is_refused(trained: Any, capture: Path, configured: Configure):
    config = configured(capture, iterations=4)
    config.pipeline.model.qnn_options = dataclasses.replace(config.pipeline.model.qnn_options, channels=8)
    config.load_dir = trained.checkpoint_dir
    trainer = config.setup(local_rank=0, world_size=1)
    with pytest.raises(SystemExit, match=r"qnn\.stages\.0\.\w+ is \[64.*and \[8.*--pipeline\.model\.qnn\.channels"):
        trainer.setup()


WRONG_OPTIONS = {
    "pipeline.model.qnn_options.kernel": 2,
    "pipeline.model.qnn_options.start": 2.0,
    "pipeline.model.qnn_options.crop_share": 1.5,
    "pipeline.model.qnn_options.rate": 0.0,
    "pipeline.model.num_downscales": -1,
    "pipeline.model.sh_degree": 4,
    "pipeline.model.average_share": 0.9,
    "pipeline.datamanager.max_side": 0,
    "pipeline.datamanager.num_random": 0,
    "max_num_iterations": 0,
}


@pytest.mark.parametrize("option", WRONG_OPTIONS)
def test_a_value_that_an_option_cannot_have_is_refused_in_one_sentence(
    option: str, capture: Path, configured: Configure
):
    config = configured(capture)
    *owners, name = option.split(".")
    setattr(functools.reduce(getattr, owners, config), name, WRONG_OPTIONS[option])
    with pytest.raises(SystemExit, match=str(WRONG_OPTIONS[option])) as refusal:
        run(config)
    assert str(refusal.value).startswith("qsplat: ")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"encoding": "positional", "octaves": 0}, "octaves=0"),
        ({"encoding": "fourier", "fourier_scale": -1.0}, "scale=-1.0"),
        ({"encoding": "fourier", "fourier_features": 0}, "features=0"),
        ({"architecture": "rffca", "sigma": 0.0}, "sigma=0.0"),
        ({"architecture": "rffca", "channels": 24}, "width 24: choose a width"),
        ({"input": "render", "query": "rays"}, "query='rays' and encoding='identity' with input='render'"),
    ],
)
def test_options_of_the_network_that_contradict_each_other_are_refused(
    options: dict[str, Any], said: str, capture: Path, configured: Configure
):
    config = configured(capture)
    config.pipeline.model.qnn_options = dataclasses.replace(config.pipeline.model.qnn_options, **options)
    with pytest.raises(SystemExit, match=said) as refusal:
        run(config)
    assert str(refusal.value).startswith("qsplat: ")
    assert "\n" not in str(refusal.value)


def test_a_machine_without_kernels_is_told_before_the_run(
    capture: Path, configured: Configure, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("qsplat.kernels.runnable_binaries", lambda: ())
    config = configured(capture, iterations=2)
    config.pipeline.model.backend = "cpu"
    with pytest.raises(SystemExit, match="reference"):
        run(config)


def test_the_reference_trains_where_there_are_no_kernels(
    capture: Path, configured: Configure, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("qsplat.kernels.runnable_binaries", lambda: ())
    config = configured(capture, iterations=2)
    config.pipeline.model.backend = "reference"
    assert run(config).step == 1


def test_gaussians_follow_the_seed_of_the_machine(capture: Path, configured: Configure):
    starts = []
    for seed in (1, 1, 2):
        config = configured(capture, iterations=1)
        config.pipeline.datamanager.dataparser = NerfstudioDataParserConfig(load_3D_points=False)
        config.pipeline.datamanager.num_random = 100
        config.machine.seed = seed
        torch.manual_seed(seed)
        trainer = config.setup(local_rank=0, world_size=1)
        trainer.setup()
        starts.append(trainer.pipeline.model)
    first, again, other = starts
    assert torch.equal(first.means, again.means)
    assert torch.equal(first.quats, again.quats)
    assert not torch.equal(first.means, other.means)
    assert not torch.equal(first.quats, other.quats)


def test_images_smaller_than_the_window_of_ssim_are_evaluated_without_it(capture: Path, configured: Configure):
    config = configured(capture, iterations=2)
    config.pipeline.datamanager.max_side = 8
    metrics = run(config).pipeline.get_average_eval_image_metrics()
    assert "psnr" in metrics
    assert "ssim" not in metrics


def test_camera_optimizer_and_bilateral_grid_are_trained(tmp_path: Path, configured: Configure):
    config = configured(write_capture(tmp_path / "masked", masked=True), iterations=6)
    config.pipeline.model.camera_optimizer.mode = "SO3xR3"
    config.pipeline.model.use_bilateral_grid = True
    model = run(config).pipeline.model
    assert model.camera_optimizer.pose_adjustment.abs().sum() > 0
    fresh = type(model.bil_grids)(num=model.num_train_data, grid_X=16, grid_Y=16, grid_W=8)
    assert not torch.equal(model.bil_grids.grids, fresh.grids)


def test_transparent_photos_are_trained_and_evaluated_over_white(tmp_path: Path, configured: Configure):
    trainer = run(configured(write_capture(tmp_path / "glass", transparent=True), iterations=30))
    pipeline = trainer.pipeline
    assert pipeline.model.background_color.tolist() == [1.0, 1.0, 1.0]
    assert pipeline.get_average_eval_image_metrics()["psnr"] > 15


def test_the_viewers_background_replaces_a_random_one_only(evaluated: Any):
    model = evaluated.model
    before = model.background_color.clone()
    model.set_background(torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(model.background_color, before)


def test_images_are_halved_at_the_start_when_asked_for(capture: Path, configured: Configure):
    config = configured(capture, iterations=40)
    config.pipeline.model.num_downscales = 1
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    model = trainer.pipeline.model.train()
    camera, batch = trainer.pipeline.datamanager.next_train(0)
    outputs = model(camera)
    assert outputs["rgb"].shape == (HEIGHT // 2, WIDTH // 2, 3)
    assert torch.isfinite(model.get_loss_dict(outputs, batch)["main_loss"])
    assert camera_of(camera).width == WIDTH


def test_the_network_sees_a_crop_in_training_and_the_whole_image_in_evaluation(capture: Path, configured: Configure):
    config = configured(capture, iterations=40)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    model = trainer.pipeline.model
    torch.nn.init.ones_(model.qnn.stages[-1].bias)
    corrected = {}
    for step in (29, 30):  # the network is switched on at three quarters
        model.step = step
        outputs = model.train()(trainer.pipeline.datamanager.next_train(step)[0])
        corrected[step] = (outputs["rgb"] != outputs["rgb_base"]).any(dim=-1)
    rows, columns = (corrected[30].any(dim=side).sum() for side in (1, 0))
    assert not corrected[29].any()
    assert (int(rows), int(columns), int(corrected[30].sum())) == (SMALLEST_SIDE, SMALLEST_SIDE, SMALLEST_SIDE**2)
    with torch.no_grad():
        outputs = model.eval().get_outputs(first_camera(trainer.pipeline))
    assert bool((outputs["rgb"] != outputs["rgb_base"]).any(dim=-1).float().mean() > 0.9)


def test_ns_render_dataset_writes_every_output(trained: Any, tmp_path: Path):
    from nerfstudio.scripts.render import DatasetRender

    DatasetRender(load_config=trained.base_dir / "config.yml", output_path=tmp_path).main()
    assert {folder.name for folder in (tmp_path / "test").iterdir()} == {"gt-rgb", *OUTPUTS}


def test_ns_eval_writes_its_file(trained: Any, tmp_path: Path):
    from nerfstudio.scripts.eval import ComputePSNR

    path = tmp_path / "results.json"
    ComputePSNR(load_config=trained.base_dir / "config.yml", output_path=path).main()
    assert {"psnr", "ssim", "psnr_base"} <= set(json.loads(path.read_text())["results"])


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="nerfstudio needs ffmpeg for videos")
def test_ns_render_interpolate_writes_a_video(trained: Any, tmp_path: Path):
    from nerfstudio.scripts.render import RenderInterpolated

    path = tmp_path / "orbit.mp4"
    config = trained.base_dir / "config.yml"
    RenderInterpolated(config, path, interpolation_steps=2, rendered_output_names=["rgb", "depth"]).main()
    assert path.stat().st_size > 0


def test_ns_export_writes_the_gaussians_and_the_network_beside_them(
    trained: Any, evaluated: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    try:
        from nerfstudio.scripts.exporter import ExportGaussianSplat
    except (ImportError, OSError) as error:
        pytest.skip(f"nerfstudio's exporter cannot be imported here: {error}")
    ExportGaussianSplat(load_config=trained.base_dir / "config.yml", output_dir=tmp_path).main()
    assert 0 < len(read_gaussians(tmp_path / "splat.ply")) <= evaluated.model.num_points
    head = load_checkpoint(tmp_path / "splat.qnn.safetensors").head
    assert head is not None
    for name, value in evaluated.model.qnn.state_dict().items():
        torch.testing.assert_close(head.state_dict()[name], value)
    assert "base Gaussians" in capsys.readouterr().out


def test_asking_for_colours_writes_nothing_outside_an_export(
    evaluated: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert evaluated.model.shs_0.shape == evaluated.model.colors.shape
    assert not list(tmp_path.iterdir())

"""Radiance fields in nerfstudio's trainer: training, resuming, evaluating, rendering, and choosing frequencies."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
import yaml
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.utils.colormaps import ColormapOptions
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from nerfstudio.viewer.utils import CameraState
from PIL import Image
from small_capture import HEIGHT, WIDTH, held_out, run, write_blender_files, write_capture, write_colmap_model

from nerfstudio_plugin import field_config, field_model
from nerfstudio_plugin.cameras import camera_of
from nerfstudio_plugin.field_model import QsplatFieldModel, box_of
from nerfstudio_plugin.runs import load_run
from qsplat.encodings import Fourier, Positional
from qsplat.fields import Hierarchical, OccupancyConfig, Sine, frequency_of
from qsplat.frequency_tokens import Tokens
from qsplat.io.transforms import load_scene
from qsplat.metrics.psnr import psnr
from qsplat.spectra.fresh import FreshChoice
from qsplat.training.field_presets import field_preset
from qsplat.training.fit_field import fit_field
from qsplat.training.frequency import choose_field_frequency

Configure = Callable[..., Any]
METHODS = {"nerf": Positional, "siren": Sine, "fourier": Fourier, "rffca": Tokens}
RAYS, ITERATIONS = 64, 20


def tiny(method: Any, size: Any, *, iterations: int) -> Any:
    """The presets with small networks and few samples."""
    whole = field_preset(method, size, iterations=iterations)
    sampling = OccupancyConfig(resolution=16, samples=6, bins=24) if size == "small" else Hierarchical(6, 6)
    field = replace(whole.field, depth=2, width=16, skip=None, view_width=8, sampling=sampling, precision="fp32")
    if isinstance(field.frequencies, Fourier):
        field = replace(field, frequencies=replace(field.frequencies, features=8))
    if isinstance(field.frequencies, Tokens):
        field = replace(field, frequencies=replace(field.frequencies, base=8))
    return replace(whole, field=field, rays=RAYS)


@pytest.fixture(autouse=True)
def _small_networks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(field_config, "field_preset", tiny)


@pytest.fixture(scope="session")
def fields(configured: Configure) -> Configure:
    """A configuration of a method with few rays."""

    def configure(data: Path, *, method: str = "nerf", iterations: int = ITERATIONS, **options: Any) -> Any:
        config = configured(data, method=f"qsplat-{method}", iterations=iterations)
        config.pipeline.datamanager.train_num_rays_per_batch = RAYS
        for name, value in options.items():
            setattr(config.pipeline.model, name, value)
        config.save_config()
        return config

    return configure


@pytest.fixture(scope="module", params=METHODS)
def finished(request: pytest.FixtureRequest, capture: Path, fields: Configure) -> Any:
    """The trainer of a run of each method, after it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(field_config, "field_preset", tiny)
        return run(fields(capture, method=request.param))


@pytest.fixture(scope="module")
def nerf(capture: Path, fields: Configure) -> Any:
    """The trainer of a run of one method, after it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(field_config, "field_preset", tiny)
        return run(fields(capture))


def state_of(model: QsplatFieldModel) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.radiance.state_dict().items()}


def images(trainer: Any) -> dict[str, torch.Tensor]:
    return trainer.pipeline.model.eval().get_outputs_for_camera(held_out(trainer))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[FreshChoice]:
    """What FreSh has chosen, choice by choice."""
    choices: list[FreshChoice] = []

    def choose(*given: Any, **options: Any) -> FreshChoice:
        choices.append(choose_field_frequency(*given, **options))
        return choices[-1]

    monkeypatch.setattr(field_model, "choose_field_frequency", choose)
    return choices


def test_each_method_trains_its_field_and_shows_what_the_library_renders(finished: Any):
    model = finished.pipeline.model
    assert isinstance(model.radiance.config.frequencies, METHODS[finished.config.method_name.removeprefix("qsplat-")])
    outputs = images(finished)
    assert set(outputs) == {"rgb", "depth", "accumulation"}
    expected = model.radiance.render(camera_of(held_out(finished)))
    assert torch.equal(outputs["rgb"], expected.rgb)
    # nerfstudio makes points of pixels by unit directions times depth
    along = camera_of(held_out(finished)).ray_directions()
    z = (outputs["depth"] * along) @ camera_of(held_out(finished)).cam_from_world[2, :3]
    torch.testing.assert_close(z, expected.depth)
    assert torch.equal(outputs["accumulation"][..., 0], expected.alpha)
    assert outputs["rgb"].shape == (HEIGHT, WIDTH, 3)


def test_a_checkpoint_gives_the_image_that_the_run_ended_with(finished: Any):
    loaded = load_run(finished.base_dir / "config.yml")
    shown = loaded.render(loaded.views[0].camera)
    torch.testing.assert_close(shown.rgb, images(finished)["rgb"])
    assert shown.rgb_base is shown.rgb
    exact = finished.pipeline.model.radiance.render(loaded.views[0].camera)
    torch.testing.assert_close(shown.depth, exact.depth)
    assert loaded.model.radiance.region.radius == finished.pipeline.model.radiance.region.radius
    assert (loaded.facts.num_gaussians, loaded.facts.iterations) == (None, ITERATIONS)
    assert loaded.facts.train_seconds is not None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", ["small", "original"])
def test_ns_train_makes_the_field_of_the_librarys_own_loop(
    method: Any, size: Any, capture: Path, fields: Configure, monkeypatch: pytest.MonkeyPatch
):
    """Both begin at the same random numbers: the loop of the library with its seed, ns-train when the run begins."""
    settle = QsplatFieldModel._settle

    def seeded(model: QsplatFieldModel, *given: Any) -> None:
        torch.manual_seed(42)
        settle(model, *given)

    monkeypatch.setattr(QsplatFieldModel, "_settle", seeded)
    ours = run(fields(capture, method=method, preset=size)).pipeline.model
    library = fit_field(load_scene(capture), replace(tiny(method, size, iterations=ITERATIONS), seed=42)).model
    expected = library.state_dict()
    for name, value in state_of(ours).items():
        torch.testing.assert_close(value, expected[name], atol=2e-3, rtol=1e-3)
    camera = load_scene(capture).test[0].camera
    torch.testing.assert_close(ours.radiance.render(camera).rgb, library.render(camera).rgb, atol=2e-3, rtol=0)


def test_a_short_run_learns_the_scene(tmp_path: Path, fields: Configure, monkeypatch: pytest.MonkeyPatch):
    def wider(method: Any, size: Any, *, iterations: int) -> Any:
        whole = tiny(method, size, iterations=iterations)
        sampling = OccupancyConfig(resolution=24, samples=12, bins=48)
        return replace(whole, field=replace(whole.field, width=32, sampling=sampling))

    monkeypatch.setattr(field_config, "field_preset", wider)
    folder = write_capture(tmp_path / "blobs", transparent=True)
    config = fields(folder, iterations=150, frequency=5.0)
    config.pipeline.datamanager.train_num_rays_per_batch = 256
    metrics = run(config).pipeline.eval().get_average_eval_image_metrics()
    scene = load_scene(folder)
    photos, held = (
        [view.image + (1 - view.alpha)[..., None] for view in views if view.alpha is not None]
        for views in (scene.train, scene.test)
    )
    mean = torch.stack(photos).mean(dim=(0, 1, 2))
    assert metrics["psnr"] > sum(psnr(mean.expand_as(photo), photo) for photo in held) / len(held) + 3
    assert not any(name.endswith("_base") for name in metrics)


def test_the_preset_follows_the_device_unless_it_is_given():
    config = field_config.FieldModelConfig()
    sizes = {name: config.size(torch.device(name)) for name in ("cpu", "cuda")}
    assert sizes == {"cpu": "small", "cuda": "original"}
    assert field_config.FieldModelConfig(preset="original").size(torch.device("cpu")) == "original"


def test_the_rate_is_the_presets_unless_one_is_given(capture: Path, fields: Configure):
    rate = tiny("nerf", "small", iterations=4).rate
    for given, initial in ((None, rate.initial), (1e-2, 1e-2)):
        config = fields(capture, iterations=4)
        config.optimizers["field"]["optimizer"].lr = given
        (group,) = run(config).optimizers.optimizers["field"].param_groups
        assert group["lr"] == pytest.approx(initial * 0.1 ** (3 / 4))


@pytest.mark.parametrize("frequency", ["default", "auto", 3.0])
def test_a_run_is_resumed_with_its_field_and_its_schedule(
    frequency: Any, capture: Path, fields: Configure, asked: list[FreshChoice]
):
    config = fields(capture, frequency=frequency)
    config.steps_per_save, config.save_only_latest_checkpoint = 10, False
    whole = run(config)
    again = fields(capture, iterations=9, frequency=frequency)
    again.load_dir, again.load_step = whole.checkpoint_dir, 10
    resumed = again.setup(local_rank=0, world_size=1)
    resumed.setup()
    saved = torch.load(whole.checkpoint_dir / "step-000000010.ckpt")["pipeline"]
    for name, value in state_of(resumed.pipeline.model).items():
        assert torch.equal(value, saved[f"_model.radiance.{name}"])
    (optimizer,) = resumed.optimizers.optimizers.values()
    held = [id(one) for group in optimizer.param_groups for one in group["params"]]
    assert held == [id(one) for one in resumed.pipeline.model.radiance.parameters()]
    resumed.train()
    assert resumed.step == whole.step
    assert {int(state["step"]) for state in optimizer.state.values()} == {ITERATIONS}
    assert optimizer.param_groups[0]["lr"] == whole.optimizers.optimizers["field"].param_groups[0]["lr"]
    ours, theirs = resumed.pipeline.model.radiance, whole.pipeline.model.radiance
    assert ours.config == theirs.config
    assert ours.region.radius == theirs.region.radius
    assert len(asked) == (1 if frequency == "auto" else 0)


@pytest.mark.parametrize("method", METHODS)
def test_fresh_chooses_the_frequency_before_training_and_the_checkpoint_keeps_it(
    method: str, capture: Path, fields: Configure, asked: list[FreshChoice], capsys: pytest.CaptureFixture[str]
):
    trainer = run(fields(capture, method=method, frequency="auto", iterations=3))
    (choice,) = asked
    said = " ".join(capsys.readouterr().out.split())
    assert f"FreSh chose {field_config.FREQUENCY_NAMES[method]} = {choice.value:g} from" in said
    assert f"{choice.forward_passes} forward passes" in said
    loaded = load_run(trainer.base_dir / "config.yml")
    for model in (trainer.pipeline.model, loaded.model):
        assert frequency_of(model.radiance.config.frequencies) == choice.value
    assert f"{field_config.FREQUENCY_NAMES[method]} = {choice.value:g}" in loaded.remarks[0]
    torch.testing.assert_close(loaded.render(loaded.views[0].camera).rgb, images(trainer)["rgb"])
    assert len(asked) == 1


def test_a_number_is_the_frequency(capture: Path, fields: Configure):
    model = run(fields(capture, method="siren", frequency=55.0, iterations=2)).pipeline.model
    assert model.radiance.config.frequencies == Sine(omega=55.0)


def test_a_run_with_a_number_that_has_no_exact_inverse_is_resumed(capture: Path, fields: Configure):
    """1/(1/49) is not 49 in floating point, and what is stored is sigma."""
    config = fields(capture, method="rffca", frequency=49.0, iterations=2)
    begun = run(config)
    again = fields(capture, method="rffca", frequency=49.0, iterations=1)
    again.load_dir = begun.checkpoint_dir
    resumed = run(again).pipeline.model
    assert resumed.radiance.config.frequencies.sigma == pytest.approx(1 / 49)


def test_a_run_of_a_gpu_is_shown_without_one(capture: Path, fields: Configure):
    """Its preset is in the checkpoint, not in the config, which says auto."""
    trainer = run(fields(capture, preset="original", iterations=2))
    config = copy.deepcopy(trainer.config)
    config.pipeline.model.preset = "auto"
    path = trainer.base_dir / "config.yml"
    path.write_text(yaml.dump(config))
    shown = load_run(path)
    torch.testing.assert_close(shown.render(shown.views[0].camera).rgb, images(trainer)["rgb"])
    resumed = fields(capture, iterations=2)
    resumed.load_dir = trainer.checkpoint_dir
    with pytest.raises(SystemExit, match=r"--pipeline\.model\.preset original: give that"):
        resumed.setup(local_rank=0, world_size=1).setup()


WRONG_OPTIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "negative": ("siren", {"frequency": -5.0}, r"--pipeline\.model\.frequency -5\.0"),
    "zero": ("fourier", {"frequency": 0.0}, r"--pipeline\.model\.frequency 0\.0"),
    "not a number": ("siren", {"frequency": float("nan")}, r"--pipeline\.model\.frequency nan"),
    "without end": ("nerf", {"frequency": float("inf")}, r"--pipeline\.model\.frequency inf"),
    "waves": ("rffca", {"frequency": 0.0}, r"--pipeline\.model\.frequency 0\.0: 1/sigma=0\.0"),
    "waves without end": ("rffca", {"frequency": float("inf")}, r"--pipeline\.model\.frequency inf: 1/sigma=inf"),
    "more octaves than digits": ("nerf", {"frequency": 200.0}, r"frequency 200\.0: octaves=200: .*; give fewer"),
    "half an octave": ("nerf", {"frequency": 2.5}, "whole number of octaves"),
}


@pytest.mark.parametrize("case", WRONG_OPTIONS)
def test_what_a_field_cannot_have_is_refused_in_one_sentence(case: str, capture: Path, fields: Configure):
    method, options, said = WRONG_OPTIONS[case]
    config = fields(capture, method=method, **options)
    with pytest.raises(SystemExit, match=said) as refusal:
        run(config)
    assert str(refusal.value).startswith("qsplat: ")
    assert "\n" not in str(refusal.value)
    assert not config.get_checkpoint_dir().exists()


@pytest.mark.parametrize("rate", [-1.0, 0.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused_before_training(rate: float, capture: Path, fields: Configure):
    config = fields(capture)
    config.optimizers["field"]["optimizer"].lr = rate
    with pytest.raises(SystemExit, match=rf"^qsplat: --optimizers\.field\.optimizer\.lr {rate:g}: give a finite rate"):
        run(config)
    assert not config.get_checkpoint_dir().exists()


def test_a_run_without_iterations_is_refused_with_its_option(capture: Path, fields: Configure):
    config = fields(capture)
    config.max_num_iterations = 0
    with pytest.raises(SystemExit, match=r"^qsplat: --max-num-iterations 0: a run has at least 1$"):
        run(config)


def test_iterations_without_rays_are_refused(capture: Path, fields: Configure):
    config = fields(capture)
    config.pipeline.datamanager.train_num_rays_per_batch = 0
    with pytest.raises(SystemExit, match="train-num-rays-per-batch 0"):
        run(config)


def test_photos_without_contrast_have_no_frequency_to_choose_by(tmp_path: Path, fields: Configure):
    folder = write_capture(tmp_path / "grey")
    for photo in (folder / "images").iterdir():
        Image.new("RGB", (WIDTH, HEIGHT), "grey").save(photo)
    with pytest.raises(SystemExit, match="no contrast"):
        run(fields(folder, frequency="auto"))


def test_other_checkpoints_are_refused(nerf: Any, trained: Any, capture: Path, fields: Configure):
    cases = {
        "of a run of qsplat-nerf: give one of a run of qsplat-siren": fields(capture, method="siren"),
        "of no radiance field": fields(capture),
        "--pipeline.model.frequency 10: give that": fields(capture, frequency=4.0),
    }
    for said, config in cases.items():
        config.load_dir = (trained if "no radiance" in said else nerf).checkpoint_dir
        trainer = config.setup(local_rank=0, world_size=1)
        with pytest.raises(SystemExit, match=said):
            trainer.setup()


def test_evaluate_measures_a_field_without_comparing_it_with_itself(
    nerf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    from evaluate import Options, evaluate_run, print_report

    options = Options(load_config=nerf.base_dir / "config.yml", output=tmp_path / "out.json", max_pictures=1)
    report = evaluate_run(options)
    print_report(report)
    said = capsys.readouterr().out
    assert "QNN" not in said
    assert ">" not in said
    assert "Gaussians" not in said
    assert f"{report.mean.psnr:.2f}" in said
    assert report.base == report.mean
    assert any("preset small, L = 10" in note for note in report.notes)
    (picture,) = (tmp_path / "out-pictures").iterdir()
    width, height = Image.open(picture).size
    assert height < 2 * width / 3 * HEIGHT / WIDTH  # one row of three panels


def test_ns_render_and_ns_eval_take_the_run(nerf: Any, tmp_path: Path):
    from nerfstudio.scripts.eval import ComputePSNR
    from nerfstudio.scripts.render import DatasetRender

    config = nerf.base_dir / "config.yml"
    DatasetRender(load_config=config, output_path=tmp_path).main()
    assert {folder.name for folder in (tmp_path / "test").iterdir()} == {"gt-rgb", "rgb", "depth", "accumulation"}
    ComputePSNR(load_config=config, output_path=tmp_path / "results.json").main()
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    view = load_run(config).views[0]
    assert results["psnr"] == pytest.approx(psnr(images(nerf)["rgb"], view.image), abs=3)


def test_the_viewers_crop_box_hides_what_is_outside(nerf: Any):
    model, camera = nerf.pipeline.model.eval(), held_out(nerf)
    boxes = {
        name: OrientedBox.from_params(place, (0.3, 0.2, 0.1), (size, size, size))
        for name, place, size in (("away", (50.0, 0.0, 0.0), 1.0), ("all", (0.0, 0.0, 0.0), 1e4))
    }
    away, whole = (model.get_outputs_for_camera(camera, obb_box=boxes[name]) for name in ("away", "all"))
    assert not away["accumulation"].any()
    torch.testing.assert_close(whole["rgb"], model.get_outputs_for_camera(camera)["rgb"])


@pytest.mark.parametrize("cropped", [False, True])
def test_the_viewer_shows_the_field(cropped: bool, nerf: Any):
    """nerfstudio's own loop of the viewer, from a camera of its client to the picture that the client gets."""
    model, view = nerf.pipeline.model, held_out(nerf)
    viewer, client = MagicMock(), MagicMock()
    viewer.get_model.return_value, viewer.train_lock, viewer.include_time = model, None, False
    viewer.control_panel.configure_mock(output_render="rgb", split=False, layer_depth=True, max_res=WIDTH)
    viewer.control_panel.crop_viewport, viewer.control_panel.background_color = cropped, (0, 0, 0)
    viewer.control_panel.crop_obb = OrientedBox.from_params((50.0, 0.0, 0.0), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    viewer.control_panel.colormap_options = ColormapOptions()
    client.camera.aspect = WIDTH / HEIGHT
    loop = RenderStateMachine(viewer, 1.0, client)
    loop.state = "high"
    lens = float(2 * torch.atan(HEIGHT / (2 * view.fy[0, 0])))
    seen = CameraState(lens, WIDTH / HEIGHT, view.camera_to_worlds[0], CameraType.PERSPECTIVE)
    model.train()
    loop._send_output_to_viewer(loop._render_img(seen))
    assert model.training
    (shown,), _ = client.scene.set_background_image.call_args
    expected = torch.zeros(HEIGHT, WIDTH, 3) if cropped else images(nerf)["rgb"]
    torch.testing.assert_close(torch.from_numpy(shown / 255).float(), expected, atol=0.02, rtol=0)
    outputs = viewer.control_panel.update_output_options.call_args[0][0]
    assert {"rgb", "depth", "accumulation"} <= set(outputs)
    if not cropped:
        z = client.scene.set_background_image.call_args.kwargs["depth"].squeeze()
        exact = model.radiance.render(camera_of(view)).depth
        torch.testing.assert_close(torch.from_numpy(z).float(), exact, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("scale", [(1.0, 2.0, 3.0), (0.5, 0.5, 4.0)])
def test_a_crop_box_is_nerfstudios(scale: tuple[float, float, float]):
    box = OrientedBox.from_params((0.5, -0.2, 0.1), (0.4, -0.7, 1.1), scale)
    points = 4 * torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) - 2
    ours = box_of(box)
    local = points @ ours.box_from_world[:3, :3].T + ours.box_from_world[:3, 3]
    assert torch.equal((local.abs() < ours.half).all(dim=1), box.within(points))
    assert 0 < int(box.within(points).sum()) < 500


def test_a_blender_scene_is_an_object_before_nothing(tmp_path: Path, fields: Configure):
    """nerfstudio's dataparser would composite the photos over white, and hide that there is nothing behind."""
    from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig

    folder = write_capture(tmp_path / "blobs", transparent=True)
    write_blender_files(folder)
    config = fields(folder, iterations=2)
    config.pipeline.datamanager.dataparser = BlenderDataParserConfig(data=folder)
    config.save_config()
    trainer = run(config)
    assert trainer.pipeline.model.radiance.region.bounded
    loaded = load_run(trainer.base_dir / "config.yml")
    assert torch.equal(loaded.background, torch.ones(3))
    assert loaded.views[0].alpha is not None
    corner = loaded.render(loaded.views[0].camera)
    torch.testing.assert_close(corner.rgb[0, 0], torch.ones(3), atol=0.3, rtol=0)
    view, (_, batch) = loaded.views[0], loaded.photos.fixed_indices_eval_dataloader[0]
    metrics, _ = loaded.model.get_image_metrics_and_images({"rgb": corner.rgb}, batch)
    assert metrics["psnr"] == pytest.approx(psnr(corner.rgb, view.image + (1 - view.alpha)[..., None]))


def test_models_of_colmap_tell_where_the_scene_begins(tmp_path: Path, fields: Configure):
    from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig

    folder = write_capture(tmp_path / "blobs")
    write_colmap_model(folder, folder / "sparse" / "0")
    config = fields(folder, iterations=2)
    config.pipeline.datamanager.dataparser = ColmapDataParserConfig(
        data=folder, colmap_path=Path("sparse/0"), downscale_factor=1
    )
    config.save_config()
    trainer = run(config)
    model = trainer.pipeline.model
    assert not model.radiance.region.bounded
    assert len(model.kwargs["seed_points"][0]) == 60
    assert torch.isfinite(load_run(trainer.base_dir / "config.yml").render(camera_of(held_out(trainer))).rgb).all()


@pytest.mark.parametrize("transparent", [False, True])
def test_captures_are_read_by_nerfstudios_own_dataparser(transparent: bool, tmp_path: Path, fields: Configure):
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    config = fields(write_capture(tmp_path / "blobs", transparent=transparent), iterations=2)
    config.pipeline.datamanager.dataparser = NerfstudioDataParserConfig(data=config.data)
    config.save_config()
    trainer = run(config)
    region = trainer.pipeline.model.radiance.region
    assert region.bounded == transparent
    loaded = load_run(trainer.base_dir / "config.yml")
    assert loaded.model.radiance.region.radius == region.radius
    torch.testing.assert_close(loaded.render(loaded.views[0].camera).rgb, images(trainer)["rgb"])


def test_captures_without_points_get_no_random_ones(tmp_path: Path, fields: Configure):
    folder = write_capture(tmp_path / "blobs")
    description = json.loads((folder / "transforms.json").read_text())
    del description["ply_file_path"]
    (folder / "transforms.json").write_text(json.dumps(description))
    assert run(fields(folder, iterations=1)).pipeline.datamanager.scene().points is None


@pytest.mark.parametrize("kind", ["masked", "transparent"])
def test_masks_and_transparent_photos_are_trained_on(kind: str, tmp_path: Path, fields: Configure):
    trainer = run(fields(write_capture(tmp_path / kind, **{kind: True}), iterations=2))
    rays, batch = trainer.pipeline.datamanager.next_train(0)
    assert (len(rays), batch["image"].shape) == (RAYS, (RAYS, 3))
    assert trainer.pipeline.model.radiance.region.bounded == (kind == "transparent")
    if kind == "masked":
        cameras = trainer.pipeline.datamanager.training_cameras()
        for ray in range(RAYS):
            nearest = min(cameras, key=lambda one: float((one.center - rays.origins[ray]).norm()))
            local = nearest.cam_from_world[:3, :3] @ rays.directions[ray]
            assert float(local[0]) > 0  # the left half of each photo is masked out


def test_evaluation_losses_leave_out_what_masks_do(tmp_path: Path, fields: Configure):
    trainer = run(fields(write_capture(tmp_path / "masked", masked=True), iterations=2))
    model = trainer.pipeline.model.eval()
    camera, batch = trainer.pipeline.datamanager.next_eval_image(0)
    outputs = model.get_outputs_for_camera(camera)
    mask = batch["mask"].squeeze(-1).bool()
    assert 0 < int(mask.sum()) < mask.numel()
    (loss,) = model.get_loss_dict(outputs, batch).values()
    assert model.get_metrics_dict(outputs, batch)["psnr"] == pytest.approx(-10 * torch.log10(loss).item(), abs=1e-3)
    elsewhere = {"rgb": torch.where(mask[..., None], outputs["rgb"], 1 - outputs["rgb"])}
    assert torch.equal(model.get_loss_dict(elsewhere, batch)["rgb_loss"], loss)


def test_evaluation_losses_are_those_of_whole_images(nerf: Any):
    pipeline = nerf.pipeline
    outputs, losses, metrics = pipeline.get_eval_loss_dict(0)
    assert outputs["rgb"].shape == (HEIGHT, WIDTH, 3)
    assert metrics["psnr"] == pytest.approx(-10 * torch.log10(losses["rgb_loss"]).item(), abs=1e-3)


def test_progress_of_a_field_speaks_of_no_gaussians(
    capture: Path, fields: Configure, capsys: pytest.CaptureFixture[str]
):
    run(fields(capture, iterations=12))
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("12/12"))
    assert "PSNR" in line
    assert "Gaussians" not in line


def test_the_options_are_those_of_the_command_line():
    import tyro
    from nerfstudio.configs.method_configs import all_methods

    default = all_methods["qsplat-siren"]

    def parsed(*words: str) -> Any:
        return tyro.cli(tyro.conf.FlagConversionOff[type(default)], default=default, args=list(words))

    assert parsed().pipeline.model.frequency == "default"
    assert parsed("--pipeline.model.frequency", "auto").pipeline.model.frequency == "auto"
    given = parsed("--pipeline.model.frequency", "55", "--pipeline.model.preset", "original").pipeline.model
    assert (given.method, given.frequency, given.preset) == ("siren", 55.0, "original")
    assert parsed("--optimizers.field.optimizer.lr", "0.01").optimizers["field"]["optimizer"].lr == 0.01
    for words in (
        ("--pipeline.model.frequency", "high"),
        ("--pipeline.model.preset", "tiny"),
        ("--pipeline.model.method", "nerf"),
    ):
        with pytest.raises(SystemExit) as refusal:
            parsed(*words)
        assert refusal.value.code == 2


def test_descriptions_state_both_presets():
    from nerfstudio.configs.method_configs import all_descriptions

    for method in METHODS.keys() - {"rffca"}:
        assert "8 layers of 256 channels" in all_descriptions[f"qsplat-{method}"]
        assert "without one 4 layers of 128" in all_descriptions[f"qsplat-{method}"]
    assert "With a GPU 4 blocks of 64 channels over 512 waves" in all_descriptions["qsplat-rffca"]
    assert "without one 2 blocks of 32 over 128" in all_descriptions["qsplat-rffca"]

"""Radiance fields in nerfstudio's trainer: training, resuming, and choosing frequencies."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small_capture import HEIGHT, WIDTH, held_out, run, write_capture
from small_fields import ITERATIONS, METHODS, Configure, images, state_of, tiny

from nerfstudio_plugin import field_config, field_model
from nerfstudio_plugin.cameras import camera_of
from nerfstudio_plugin.field_model import QsplatFieldModel
from nerfstudio_plugin.runs import load_run
from qsplat.fields import OccupancyConfig, Sine, frequency_of
from qsplat.io.transforms import load_scene
from qsplat.metrics.psnr import psnr
from qsplat.spectra.fresh import FreshChoice
from qsplat.training.fit_field import fit_field
from qsplat.training.frequency import choose_field_frequency

pytestmark = pytest.mark.usefixtures("small_field_networks")


@pytest.fixture(scope="module", params=METHODS)
def finished(request: pytest.FixtureRequest, capture: Path, fields: Configure) -> Any:
    """The trainer of a run of each method, after it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(field_config, "field_preset", tiny)
        return run(fields(capture, method=request.param))


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

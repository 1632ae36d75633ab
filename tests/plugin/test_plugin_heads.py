"""Every option of the residual network in nerfstudio's trainer, at a small size."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.utils.eval_utils import eval_setup
from small_capture import run, write_capture

from nerfstudio_plugin.export import write_head_beside
from nerfstudio_plugin.model_config import QnnOptions
from nerfstudio_plugin.runs import load_run
from nerfstudio_plugin.splat_model import QsplatModel
from qsplat.io.checkpoints import load_checkpoint
from qsplat.qnn.queries import LocationQueries
from qsplat.training.model import SplatModel
from qsplat.training.parameters import gaussians_of

Configure = Callable[..., Any]
OPTIONS: tuple[dict[str, Any], ...] = (
    {"input": "render", "kernel": 1},
    {"input": "queries", "encoding": "fourier", "fourier_features": 6, "fourier_scale": 2.0},
    {"query": "locations", "encoding": "positional", "octaves": 3},
    {"query": "locations", "mode": "frozen"},
    {"query": "rays", "activation": "leaky_relu", "mode": "detached"},
    {"mode": "frozen", "crop_share": 1.0, "decay": "constant", "rate": 1e-3},
    {"convolution": "fdconv", "channels": 18, "layers": 3, "fdconv_groups": 7},
    {"convolution": "cfconv", "layers": 3, "cfconv_grid": 6, "cfconv_samples": 500},
    {"architecture": "rffca", "query": "locations", "sigma": 0.3, "layers": 1},
)


def with_head(config: Any, options: dict[str, Any]) -> Any:
    """``config`` with a small network of these options, awake for half of the run."""
    small = {"channels": 8, "layers": 2, "start": 0.5, "rate": 1e-2, **options}
    config.pipeline.model.qnn_options = QnnOptions(**small)
    config.save_config()
    return config


def first_camera(pipeline: Any) -> Any:
    return pipeline.datamanager.eval_dataset.cameras[0:1]


def gaussians(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.gauss_params.items()}


def stopped_at(wanted: int, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """The Gaussians before iteration ``wanted`` of the runs to come."""
    seen, before = [], QsplatModel.step_cb

    def watched(model: Any, optimizers: Any, step: int) -> None:
        if step == wanted:
            seen.append(gaussians(model))
        before(model, optimizers, step)

    monkeypatch.setattr(QsplatModel, "step_cb", watched)
    return seen


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_a_run_is_trained_resumed_evaluated_and_exported_with_every_option(
    options: dict[str, Any], capture: Path, configured: Configure, tmp_path: Path
):
    trainer = run(with_head(configured(capture, iterations=20), options))
    model, camera = trainer.pipeline.model.eval(), first_camera(trainer.pipeline)
    shown = model.get_outputs_for_camera(camera)
    assert (shown["rgb"] - shown["rgb_base"]).abs().max() > 1e-4
    _, again, _, _ = eval_setup(trainer.base_dir / "config.yml")
    torch.testing.assert_close(again.model.get_outputs_for_camera(camera)["rgb"], shown["rgb"])
    measured = load_run(trainer.base_dir / "config.yml")
    torch.testing.assert_close(measured.render(measured.views[0].camera).rgb, shown["rgb"])
    config = with_head(configured(capture, iterations=3), options)
    config.load_dir = trainer.checkpoint_dir
    resumed = run(config)
    assert resumed.step == 22
    if "locations" in options.values():
        boxes = [one.pipeline.model.qnn.queries for one in (trainer, resumed)]
        assert all(isinstance(box, LocationQueries) for box in boxes)
        assert torch.equal(boxes[0].center, boxes[1].center)
        assert boxes[0].center.abs().max() > 0
    written = tmp_path / "splat.ply"
    write_head_beside(written, model.qnn, model.background_color, model.config.raster(depth=True, threads=None))
    head = load_checkpoint(written.with_suffix(".qnn.safetensors")).head
    assert head is not None
    assert head.config == model.qnn.config
    eye = measured.views[0].camera
    ours = SplatModel(gaussians_of(measured.model.gauss_params), head, measured.background).render(eye)
    torch.testing.assert_close(ours.rgb.clamp(0, 1), shown["rgb"], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", ["qsplat", "qsplat-mcmc"])
def test_frozen_gaussians_do_not_move(
    method: str, tmp_path: Path, configured: Configure, monkeypatch: pytest.MonkeyPatch
):
    seen = stopped_at(15, monkeypatch)
    config = with_head(
        configured(write_capture(tmp_path / "masked", masked=True), method=method, iterations=30), {"mode": "frozen"}
    )
    config.pipeline.model.camera_optimizer.mode = "SO3xR3"
    config.pipeline.model.use_bilateral_grid = True
    config.pipeline.model.densification = dataclasses.replace(config.pipeline.model.densification, with_head=True)
    model = run(config).pipeline.model
    assert len(seen) == 1
    for name, value in gaussians(model).items():
        assert torch.equal(value, seen[0][name]), name
    assert len(model._frozen) == model.num_train_data
    assert model.qnn.stages[-1].weight.abs().max() > 0


def test_frozen_gaussians_have_frozen_poses(capture: Path, configured: Configure, monkeypatch: pytest.MonkeyPatch):
    poses, before = [], QsplatModel.step_cb

    def watched(model: Any, optimizers: Any, step: int) -> None:
        poses.append(model.camera_optimizer.pose_adjustment.detach().clone())
        before(model, optimizers, step)

    monkeypatch.setattr(QsplatModel, "step_cb", watched)
    config = with_head(configured(capture, iterations=30), {"mode": "frozen"})
    config.pipeline.model.camera_optimizer.mode = "SO3xR3"
    run(config)
    assert not torch.equal(poses[14], poses[15])
    assert all(torch.equal(pose, poses[15]) for pose in poses[16:])


def test_detached_gaussians_learn_as_without_a_network(capture: Path, configured: Configure):
    config = with_head(configured(capture, iterations=30), {"mode": "detached"})
    config.pipeline.model.background_color = "random"
    without = configured(capture, iterations=30)
    without.pipeline.model.qnn = "none"
    without.pipeline.model.background_color = "random"
    ours, theirs = (gaussians(run(one).pipeline.model) for one in (config, without))
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


@pytest.mark.parametrize("mode", ["joint", "detached"])
def test_gradients_pass_through_the_network_to_the_gaussians_in_joint_training_alone(
    mode: str, capture: Path, configured: Configure
):
    trainer = run(with_head(configured(capture, iterations=30), {"mode": mode, "crop_share": 1.0}))
    model = trainer.pipeline.model.train()
    camera, _ = trainer.pipeline.datamanager.next_train(model.step)
    outputs = model(camera)
    weights = torch.rand_like(outputs["rgb"])

    def pulled(name: str) -> torch.Tensor | None:
        colours = model.gauss_params["features_dc"]
        return torch.autograd.grad((weights * outputs[name]).sum(), colours, retain_graph=True, allow_unused=True)[0]

    through, past = pulled("rgb"), pulled("rgb_base")
    assert past is not None
    assert past.abs().max() > 0
    if mode == "detached":
        assert through is None
    else:
        assert through is not None
        assert through.abs().max() > 0
        assert (through - past).abs().max() > 1e-4 * past.abs().max()


def test_densification_goes_on_with_the_network_when_asked(capture: Path, configured: Configure):
    config = with_head(configured(capture, method="qsplat-mcmc", iterations=190), {"start": 0.7, "crop_share": 0.01})
    config.pipeline.model.densification = dataclasses.replace(
        config.pipeline.model.densification, max_gaussians=66, with_head=True
    )
    assert run(config).pipeline.model.num_points > 33

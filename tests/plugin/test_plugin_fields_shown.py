"""Radiance fields in what shows and measures runs: the viewer, ns-render, ns-eval and evaluate.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.utils.colormaps import ColormapOptions
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from nerfstudio.viewer.utils import CameraState
from PIL import Image
from small_capture import HEIGHT, WIDTH, held_out, run, write_capture
from small_fields import Configure, images

from nerfstudio_plugin.cameras import camera_of
from nerfstudio_plugin.field_model import box_of
from nerfstudio_plugin.runs import load_run
from qsplat.metrics.psnr import psnr

pytestmark = pytest.mark.usefixtures("small_field_networks")


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
